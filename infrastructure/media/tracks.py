"""Which picture track is looked at and which sound track is heard: one choice, for all who open the file."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from domain.errors import InvalidParameter, MediaUnreadable
from infrastructure.media.listening import SILENT, heard_on
from infrastructure.media.source import checked, has_decoder, open_media
from infrastructure.media.streams import codecs_without_decoder

Kind = Literal["video", "audio"]
WORDS: dict[Kind, str] = {"video": "picture", "audio": "sound"}
STILLS = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
BESIDES = (
    Disposition.dub | Disposition.comment | Disposition.lyrics | Disposition.karaoke
    | Disposition.hearing_impaired | Disposition.visual_impaired | Disposition.clean_effects
    | Disposition.non_diegetic | Disposition.descriptions | Disposition.dependent
)  # fmt: skip
"""Sound that goes with something else, or is not for everybody."""
FEW = 10
"""A track with less than this part of another's frames is a preview or a series of stills, not the film."""
MOST_PACKETS, MOST_BYTES = 3_000, 64 << 20
"""Looked at to count frames where the file does not say how many there are."""
PACKETS_TO_FIRST_FRAME = 300
"""Enough for a group of pictures of 10 s; a picture track that shows nothing in these is broken."""
MOST_TRACKS = 32
"""Of a kind that are compared: the first ones."""

Look = dict[str, bool]
"""What speaks for a track, the weightiest first, each by the word for it as a reason."""

S = TypeVar("S", bound=Stream)


class Chosen(NamedTuple):
    """A track, and in a word why it."""

    track: int
    """Its index, as in `video.metadata`."""
    reason: str
    """only, asked, or what sets it apart from the next best: decodable, film, heard, default, main, lively, longest,
    largest, first."""


class Tracks(NamedTuple):
    """What is looked at and heard; None for what the file does not have, or nothing here decodes."""

    picture: Chosen | None
    sound: Chosen | None
    kinds: dict[int, Kind]
    """Of all that can be asked for, by index."""
    undecodable: dict[Kind, str]
    """The codecs, where there are tracks of a kind and not one has a decoder here."""


def tracks_of(path: Path, wanted: int | None = None) -> Tracks:
    """The choice for this file; `wanted` is the index of a picture or sound track that is taken in any case.

    Raises:
        InvalidParameter: there is no such track.
        MediaMissing, MediaUnreadable: as `open_media`.
    """
    found = checked(path)
    tracks = _tracks_of(path, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))
    if wanted is None:
        return tracks
    match tracks.kinds.get(wanted):
        case "video":
            return tracks._replace(picture=Chosen(wanted, "asked"))
        case "audio":
            return tracks._replace(sound=Chosen(wanted, "asked"))
        case _:
            raise _no_such(tracks, wanted, ("video", "audio"))


def picture_of(path: Path, wanted: int | None = None) -> int | None:
    """The index of the picture track that is looked at; None for a file without moving pictures.

    Raises:
        InvalidParameter: `wanted` is no picture track.
        MediaUnreadable: there is one, and nothing here decodes its codec; or as `open_media`.
    """
    tracks = tracks_of(path)
    return _track(path, tracks, tracks.picture, wanted, "video")


def sound_of(path: Path, wanted: int | None = None) -> int | None:
    """The index of the sound track that is heard; None for a silent film. Raises as `picture_of`."""
    tracks = tracks_of(path)
    return _track(path, tracks, tracks.sound, wanted, "audio")


def picture_track(path: Path, container: InputContainer, wanted: int | None = None) -> VideoStream | None:
    """What `picture_of` says, in the `container` that `path` was opened as."""
    index = picture_of(path, wanted)
    return _stream(container, VideoStream, index)


def sound_track(path: Path, container: InputContainer, wanted: int | None = None) -> AudioStream | None:
    """What `sound_of` says, in the `container` that `path` was opened as."""
    index = sound_of(path, wanted)
    return _stream(container, AudioStream, index)


def _stream(container: InputContainer, kind: type[S], index: int | None) -> S | None:
    stream = None if index is None else container.streams[index]
    assert stream is None or isinstance(stream, kind)
    return stream


def _track(path: Path, tracks: Tracks, chosen: Chosen | None, wanted: int | None, kind: Kind) -> int | None:
    if wanted is not None:
        if tracks.kinds.get(wanted) != kind:
            raise _no_such(tracks, wanted, (kind,))
        return wanted
    if chosen is not None:
        return chosen.track
    if (flaw := flaw_of(path, tracks, kind)) is not None:
        raise flaw
    return None


def flaw_of(path: Path, tracks: Tracks, kind: Kind) -> MediaUnreadable | None:
    """Why none of the tracks of that kind can be taken, if there are any."""
    if kind not in tracks.undecodable:
        return None
    codecs = tracks.undecodable[kind]
    return MediaUnreadable(f"the {WORDS[kind]} of {path} is in a codec that FFmpeg does not decode here: {codecs}")


def _no_such(tracks: Tracks, wanted: int, kinds: Sequence[Kind]) -> InvalidParameter:
    there = "; ".join(
        f"{WORDS[kind]} in {', '.join(map(str, indexes))}"
        for kind in kinds
        if (indexes := sorted(index for index, each in tracks.kinds.items() if each == kind))
    )
    words = " or ".join(WORDS[kind] for kind in kinds)
    reason = f"{wanted} is no {words} track that is decoded here; there is {there or 'none'}"
    return InvalidParameter("config.track", reason)


# ---- the choice --------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _tracks_of(path: Path, identity: tuple[int, int, int, int]) -> Tracks:  # noqa: ARG001 — a changed file is another
    with open_media(path) as container:
        return _chosen(
            container, lambda pictures: _looks_at(path, pictures), lambda sounds: _looks_for_sound(path, sounds)
        )


def tracks_in_header(container: InputContainer) -> Tracks:
    """The first ones: for a file of which nothing but the header is left."""
    return _chosen(container, lambda pictures: [{} for _ in pictures], lambda sounds: [{} for _ in sounds])


def _chosen(
    container: InputContainer,
    look_at: Callable[[Sequence[VideoStream]], list[Look]],
    listen: Callable[[Sequence[AudioStream]], list[Look]],
) -> Tracks:
    moving = [s for s in container.streams if not s.disposition & Disposition.attached_pic]
    every: list[Any] = [s for s in moving if s.type in WORDS]
    kinds: dict[int, Kind] = {stream.index: stream.type for stream in every if has_decoder(stream)}
    names = codecs_without_decoder(container) if len(kinds) < len(every) else {}
    undecodable = {
        kind: ", ".join(dict.fromkeys(names[stream.index] for stream in every if stream.type == kind))
        for kind in WORDS
        if kind not in kinds.values() and any(stream.type == kind for stream in every)
    }
    pictures = [s for s in every if isinstance(s, VideoStream) and s.index in kinds][:MOST_TRACKS]
    sounds = [s for s in every if isinstance(s, AudioStream) and s.index in kinds][:MOST_TRACKS]
    alone = {kind: sum(stream.type == kind for stream in every) == 1 for kind in WORDS}
    return Tracks(
        picture=_best(pictures, is_alone=alone["video"], look=look_at),
        sound=_best(sounds, is_alone=alone["audio"], look=listen),
        kinds=kinds,
        undecodable=undecodable,
    )


def _best(tracks: Sequence[S], *, is_alone: bool, look: Callable[[Sequence[S]], list[Look]]) -> Chosen | None:
    if len(tracks) <= 1:
        return Chosen(tracks[0].index, "only" if is_alone else "decodable") if tracks else None
    ranked = sorted(zip(tracks, look(tracks), strict=True), key=lambda each: [not speaks for speaks in each[1].values()])
    (best, first), (_, second) = ranked[:2]
    return Chosen(best.index, next((word for word, speaks in first.items() if speaks != second[word]), "first"))


def _looks_at(path: Path, tracks: Sequence[VideoStream]) -> list[Look]:
    frames = _frames(path, tracks)
    most = max(frames.values())
    sizes = [track.codec_context.width * track.codec_context.height for track in tracks]
    return [
        {
            "decodable": _shows(path, track.index),
            "film": frames[track.index] * FEW >= most and not track.disposition & STILLS,
            "default": bool(track.disposition & Disposition.default),
            "main": not track.disposition & Disposition.dependent,
            "longest": frames[track.index] * 2 > most,
            "largest": size == max(sizes),
        }
        for track, size in zip(tracks, sizes, strict=True)
    ]


def _frames(path: Path, tracks: Sequence[VideoStream]) -> dict[int, int]:
    """How many each has, by its own account if all give one, else in the first part of the file."""
    if all(track.frames for track in tracks):
        return {track.index: track.frames for track in tracks}
    counts, size = dict.fromkeys((track.index for track in tracks), 0), 0
    with open_media(path) as container:
        try:
            for packet in islice(container.demux(container.streams.video), MOST_PACKETS):
                size += packet.size
                if packet.stream.index in counts and packet.size:
                    counts[packet.stream.index] += 1
                if size > MOST_BYTES:
                    break
        except av.FFmpegError:
            pass  # cut off: what came before counts
    return counts


def _shows(path: Path, index: int) -> bool:
    """Whether a frame of it can be decoded."""
    with open_media(path) as container:
        try:
            for packet in islice(container.demux(container.streams[index]), PACKETS_TO_FIRST_FRAME):
                try:
                    if packet.decode():
                        return True
                except av.FFmpegError:
                    continue
        except av.FFmpegError:
            return False
    return False


def _looks_for_sound(path: Path, tracks: Sequence[AudioStream]) -> list[Look]:
    heard = heard_on(path, {track.index for track in tracks})
    loudest = max((each.loudness for each in heard.values()), default=0.0)
    lengths = [_length(track) for track in tracks]
    return [
        {
            "decodable": track.index in heard,
            "heard": track.index in heard and heard[track.index].loudness * SILENT >= loudest,
            "default": bool(track.disposition & Disposition.default),
            "main": not track.disposition & BESIDES,
            "lively": track.index in heard and heard[track.index].is_lively,
            "longest": length * 2 > max(lengths) or length == max(lengths),
        }
        for track, length in zip(tracks, lengths, strict=True)
    ]


def _length(track: Stream) -> float:
    """Seconds; 0 when the file does not say."""
    if track.duration and track.time_base:
        return float(track.duration * track.time_base)
    # Matroska keeps it in a tag: 00:01:02.500000000.
    parts = track.metadata.get("DURATION", "").split(":")
    try:
        hours, minutes, seconds = map(float, parts)
    except ValueError:
        return 0.0
    return hours * 3600 + minutes * 60 + seconds
