"""Which picture and which sound track is taken: one choice for all who open the file."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from domain.errors import InvalidParameter, MediaUnreadable
from domain.pipeline import TASK_TYPES, config_hash, full_config
from infrastructure.media.audio import read_sound
from infrastructure.media.clip import cut
from infrastructure.media.frames import sample_frames
from infrastructure.media.probe import probe
from infrastructure.media.stills import still_at, stills_at
from infrastructure.media.tracks import picture_of, sound_of, tracks_of
from tests.support import media
from tests.support.shared import together
from tests.support.tracks import Picture, Sound, film, hiss, pitch_of, silence, speech, undecodable

DEFAULT, NONE = Disposition.default, Disposition(0)
STILL = Picture(count=1, grey=200, size=(64, 48))


def greys(path: Path, tmp_path: Path) -> set[int]:
    """What is seen by everybody who looks at the file."""
    cut(path, tmp_path / "clip.mp4", start_ms=200, end_ms=800, should_stop=lambda: False)
    with av.open(str(tmp_path / "clip.mp4")) as clip:
        images = [next(clip.decode(video=0)).to_ndarray(format="rgb24")]
    images += [frame.image for frame in sample_frames(path, every_ms=500)]
    size = (probe(path).facts.width, probe(path).facts.height)
    images += [np.asarray(still_at(path, 500, size)), np.asarray(next(stills_at(path, [500], size))[1])]
    assert len({image.shape for image in images}) == 1
    return {round(float(image.mean()), -1) for image in images}


PICTURES = {
    "a still first": ([STILL, Picture()], "film"),
    "a still first, flagged default": ([STILL._replace(flags=DEFAULT), Picture()], "film"),
    "both flagged default": ([STILL._replace(flags=DEFAULT), Picture(flags=DEFAULT)], "film"),
    "a larger still": ([STILL._replace(size=(640, 480)), Picture()], "film"),
    "a still as JPEG": ([STILL._replace(codec="mjpeg"), Picture(flags=DEFAULT)], "film"),
    "stills every other second": ([Picture(count=2, every_ms=2000, grey=200), Picture(count=60)], "film"),
    "still images of the same number": ([Picture(grey=200, flags=Disposition.still_image), Picture()], "film"),
    "the second is the default": ([Picture(grey=200), Picture(flags=DEFAULT)], "default"),
    "the second depends on the first": ([Picture(grey=200, flags=Disposition.dependent), Picture()], "main"),
    "the second is far longer": ([Picture(count=8, grey=200), Picture(count=60)], "longest"),
    "a small preview first": ([Picture(grey=200, size=(64, 48)), Picture()], "largest"),
}


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("name", PICTURES)
def test_the_film_is_looked_at_by_everybody(tmp_path: Path, name: str, suffix: str) -> None:
    tracks, reason = PICTURES[name]
    path = film(tmp_path / f"a.{suffix}", *tracks)
    with av.open(str(path)) as found:
        kept = [stream.disposition for stream in found.streams]
    if any(track.flags & ~DEFAULT & ~flags for track, flags in zip(tracks, kept, strict=True)):
        pytest.skip(f"{suffix} does not keep these flags")
    if suffix == "mp4" and not any(track.flags & DEFAULT for track in tracks) and reason not in {"film", "default"}:
        pytest.skip("FFmpeg's MP4 makes the first track the default one where none is")
    assert tracks_of(path).picture.track == 1
    assert greys(path, tmp_path) == {100}
    assert [stream.chosen is not None for stream in probe(path).streams] == [False, True]
    if suffix == "mkv":  # MP4 flags what is enabled
        assert probe(path).streams[1].chosen == reason


def test_a_cover_is_no_film_and_a_lone_still_is_looked_at(tmp_path: Path) -> None:
    cover = film(tmp_path / "a.mp4", STILL._replace(codec="mjpeg", flags=Disposition.attached_pic), Picture())
    assert len(probe(cover).streams) == 2
    assert tracks_of(cover).picture.reason == "only"
    assert greys(cover, tmp_path) == {100}
    still = film(tmp_path / "b.mp4", STILL)
    assert tracks_of(still).picture == (0, "only")
    assert greys(still, tmp_path) == {200}


SOUNDS = {
    "silent first": ([Sound(silence(3)), Sound(speech(3))], "heard"),
    "silent first, flagged default": ([Sound(silence(3), flags=DEFAULT), Sound(speech(3))], "heard"),
    "silent first, speech flagged": ([Sound(silence(3)), Sound(speech(3), flags=DEFAULT)], "heard"),
    "an input that only hisses": ([Sound(hiss(3, 0.0005), flags=DEFAULT), Sound(speech(3))], "heard"),
    "speech is quiet": ([Sound(silence(3)), Sound(speech(3) / 50)], "heard"),
    "the second is the default": ([Sound(speech(3, pitch=500)), Sound(speech(3), flags=DEFAULT)], "default"),
    "commentary first": ([Sound(speech(3, pitch=500), flags=Disposition.comment), Sound(speech(3))], "main"),
    "for the blind first": ([Sound(speech(3, pitch=500), flags=Disposition.visual_impaired), Sound(speech(3))], "main"),
    "for the deaf first": ([Sound(speech(3, pitch=500), flags=Disposition.hearing_impaired), Sound(speech(3))], "main"),
    "dubbed first": ([Sound(speech(3, pitch=500), flags=Disposition.dub), Sound(speech(3))], "main"),
    "a loud hiss first": ([Sound(hiss(3, 0.1)), Sound(speech(3))], "lively"),
    "a tone first": ([Sound(media.tone(3)), Sound(speech(3))], "lively"),
    "a jingle first": ([Sound(speech(1, pitch=500)), Sound(speech(3))], "longest"),
}


def heard(path: Path, tmp_path: Path, **what: Any) -> set[int]:
    """The pitch of what is heard by the models and in a clip."""
    cut(path, tmp_path / "clip.mp4", start_ms=0, end_ms=2000, should_stop=lambda: False)
    return {
        round(pitch_of(np.concatenate([sound.samples for sound in read_sound(each)])), -1)
        for each in (path, tmp_path / "clip.mp4")
    }


@pytest.mark.parametrize("name", SOUNDS)
def test_what_is_spoken_is_heard_by_everybody(tmp_path: Path, name: str) -> None:
    tracks, reason = SOUNDS[name]
    path = film(tmp_path / "a.mkv", Picture(count=30), *tracks)
    with av.open(str(path)) as found:
        kept = [stream.disposition for stream in found.streams.audio]
    if any(track.flags & ~flags for track, flags in zip(tracks, kept, strict=True)):
        pytest.skip("Matroska does not keep these flags")
    assert tracks_of(path).sound == (2, reason)
    assert [stream.chosen for stream in probe(path).streams] == ["only", None, reason]
    assert heard(path, tmp_path) == {300}


@pytest.mark.parametrize("suffix", ["mov", "mkv", "ts", "avi"])
def test_of_the_tracks_of_a_camera_one_with_a_microphone_is_heard(tmp_path: Path, suffix: str) -> None:
    codec = {"ts": "mp2", "avi": "pcm_s16le"}.get(suffix, "pcm_s16le")
    sounds = [silence(40, 48_000), hiss(40, 0.0003, 48_000), speech(40, 48_000), silence(40, 48_000)]
    sounds[2][: 25 * 48_000] = 0  # nobody speaks for a long time
    path = film(tmp_path / f"a.{suffix}", Picture(count=400), *(Sound(each, codec, rate=48_000) for each in sounds))
    assert tracks_of(path).sound == (3, "heard")


def test_a_lone_silent_track_and_two_silent_ones(tmp_path: Path) -> None:
    assert tracks_of(film(tmp_path / "a.mkv", Picture(), Sound(silence(2)))).sound == (1, "only")
    two = film(tmp_path / "b.mkv", Picture(), Sound(silence(2)), Sound(silence(2), flags=DEFAULT))
    assert tracks_of(two).sound == (2, "default")


picture = st.builds(
    Picture,
    count=st.sampled_from([1, 20, 40]),
    grey=st.just(100),
    size=st.sampled_from([(64, 48), (160, 120)]),
    codec=st.sampled_from(["libx264", "mjpeg"]),
    flags=st.sampled_from([NONE, DEFAULT]),
    every_ms=st.just(100),
)
sound = st.builds(
    Sound,
    samples=st.sampled_from([silence(2), speech(2), speech(4), media.tone(2)]),
    codec=st.sampled_from(["aac", "flac"]),
    flags=st.sampled_from([NONE, DEFAULT, Disposition.comment]),
    layout=st.just("mono"),
    rate=st.just(media.RATE),
    from_ms=st.just(0),
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(pictures=st.lists(picture, max_size=4), sounds=st.lists(sound, max_size=4))
@example(pictures=[STILL], sounds=[Sound(silence(2)), Sound(speech(2))])
def test_no_still_stands_for_a_film_and_no_silence_for_speech(tmp_path_factory, pictures, sounds) -> None:
    if not pictures and not sounds:
        return
    tracks = [*pictures, *sounds]
    path = film(tmp_path_factory.mktemp("set") / "a.mkv", *tracks)
    found = tracks_of(path)
    assert (found.picture is None, found.sound is None) == (not pictures, not sounds)
    if pictures:
        chosen = tracks[found.picture[0]]
        films = [each for each in pictures if each.count > 1] or pictures
        assert chosen in films
        assert chosen.flags or not any(each.flags & DEFAULT for each in films)
        shape = next(iter(sample_frames(path))).image.shape
        assert shape == (chosen.size[1], chosen.size[0], 3)
        assert (probe(path).facts.width, probe(path).facts.height) == chosen.size
    if sounds:
        chosen = tracks[found.sound[0]]
        loud = [each for each in sounds if each.samples.any()] or sounds
        assert any(chosen is each for each in loud)
        assert chosen.flags & DEFAULT or not any(each.flags & DEFAULT for each in loud)
        assert (probe(path).facts.audio_codec) == chosen.codec
    assert [stream.index for stream in probe(path).streams if stream.chosen] == [
        one[0] for one in (found.picture, found.sound) if one
    ]


# ---- what nothing here decodes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [[1], [2], [1, 2], [1, 3]])
def test_sound_that_is_decoded_here_is_taken(tmp_path: Path, lost: list[int]) -> None:
    path = film(tmp_path / "a.mp4", Picture(), *(Sound(speech(2)) for _ in range(3)))
    undecodable(path, [(b"mp4a", number) for number in lost])
    left = min({1, 2, 3} - set(lost))
    assert sound_of(path) == left
    assert heard(path, tmp_path) == {300}
    assert [stream.codec for stream in probe(path).streams[1:]] == [
        "apac" if number in lost else "aac" for number in (1, 2, 3)
    ]
    with pytest.raises(InvalidParameter, match=r"config\.track"):
        list(read_sound(path, track=lost[0]))


@pytest.mark.parametrize("lost", [[1], [1, 2]])
def test_pictures_that_are_decoded_here_are_taken(tmp_path: Path, lost: list[int]) -> None:
    path = film(tmp_path / "a.mp4", Picture(grey=200), Picture(grey=200), Picture())
    undecodable(path, [(b"avc1", number) for number in lost])
    assert picture_of(path) == len(lost)
    assert greys(path, tmp_path) == {200 if len(lost) == 1 else 100}


def test_a_decoder_that_makes_nothing_of_a_track_loses_it(tmp_path: Path) -> None:
    whole = film(tmp_path / "whole.mp4", Picture(grey=200), Picture(), Sound(speech(2)), Sound(speech(2)))
    path = tmp_path / "a.mp4"
    with av.open(str(whole)) as source, av.open(str(path), "w") as out:
        streams = [out.add_stream_from_template(stream) for stream in source.streams]
        for packet in source.demux():
            if packet.dts is None:
                continue
            is_lost = packet.stream.index in {0, 2}
            copy = av.Packet(b"\xaa" * packet.size if is_lost else bytes(packet))
            copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
            copy.is_keyframe, copy.stream = packet.is_keyframe, streams[packet.stream.index]
            out.mux(copy)
    found = tracks_of(path)
    assert (found.picture, found.sound) == ((1, "decodable"), (3, "decodable"))
    assert greys(path, tmp_path) == {100}


def test_where_nothing_is_decoded_the_codec_is_named(tmp_path: Path) -> None:
    sounds = undecodable(film(tmp_path / "a.mp4", Picture(), Sound(speech(1))), [(b"mp4a", 1)])
    with pytest.raises(MediaUnreadable, match=r"sound of .* does not decode here: apac"):
        list(read_sound(sounds))
    facts = probe(sounds).facts
    assert (facts.has_video, facts.has_audio) == (True, False)
    cut(sounds, tmp_path / "clip.mp4", start_ms=0, end_ms=500, should_stop=lambda: False)
    with av.open(str(tmp_path / "clip.mp4")) as clip:
        assert [stream.type for stream in clip.streams] == ["video"]

    pictures = undecodable(film(tmp_path / "b.mp4", Picture(), Sound(speech(1))), [(b"avc1", 1)])
    with pytest.raises(MediaUnreadable, match=r"picture of .* does not decode here: zzz1") as raised:
        next(iter(sample_frames(pictures)))
    assert str(probe(pictures).flaw) == str(raised.value)
    assert len(list(read_sound(pictures))) == 1

    alone = undecodable(film(tmp_path / "c.m4a", Sound(speech(1)), container="mp4"), [(b"mp4a", 1)])
    for look in (
        lambda: probe(alone),
        lambda: cut(alone, tmp_path / "clip.mp4", start_ms=0, end_ms=500, should_stop=lambda: False),
    ):
        with pytest.raises(MediaUnreadable, match="apac"):
            look()


# ---- what somebody asks for --------------------------------------------------------------------------------------


def test_the_track_that_is_asked_for_is_taken(tmp_path: Path) -> None:
    path = film(
        tmp_path / "a.mkv", Picture(), Picture(grey=200, size=(64, 48)), Sound(speech(2)), Sound(speech(2, pitch=500))
    )
    assert (picture_of(path), sound_of(path)) == (0, 2)
    image = next(iter(sample_frames(path, track=1))).image
    assert (image.shape, round(float(image.mean()), -1)) == ((48, 64, 3), 200)
    assert np.asarray(next(stills_at(path, [500], (64, 48), track=1))[1]).mean() > 150
    assert np.asarray(still_at(path, 500, (64, 48), track=1)).mean() > 150
    assert round(pitch_of(np.concatenate([each.samples for each in read_sound(path, track=3)])), -1) == 500
    found = probe(path, track=1)
    assert (found.facts.width, found.facts.height) == (64, 48)
    assert [stream.chosen for stream in found.streams] == [None, "asked", "default", None] or [
        stream.chosen for stream in found.streams
    ] == [None, "asked", "first", None]


@pytest.mark.parametrize("wrong", [2, 3, 99])
def test_an_index_of_no_picture_is_refused(tmp_path: Path, wrong: int) -> None:
    path = film(tmp_path / "a.mkv", Picture(), Picture(), Sound(speech(1)), Sound(speech(1)))
    with pytest.raises(InvalidParameter, match=rf"{wrong} is no picture track that is decoded here; there is picture in 0, 1"):
        next(iter(sample_frames(path, track=wrong)))
    with pytest.raises(InvalidParameter, match="sound in 2, 3"):
        list(read_sound(path, track=0))
    with pytest.raises(InvalidParameter):
        probe(path, track=99)


def test_readers_of_different_tracks_share_no_pass(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", Picture(), Picture(grey=200))
    works = [
        lambda sample, track=track: {round(float(frame.image.mean()), -1) for frame in sample(path, track=track)}
        for track in (0, 1, None)
    ]
    assert together(*works) == [{100}, {200}, {100}]


@given(st.one_of(st.none(), st.booleans(), st.text(), st.floats(), st.integers(max_value=-1), st.lists(st.integers())))
def test_what_can_be_no_track_is_refused_when_it_is_asked_for(value: Any) -> None:
    for kind in TASK_TYPES:
        with pytest.raises(InvalidParameter, match=r"config\.(picture_)?track"):
            full_config(kind.name, None, {kind.track or "track": value})


def test_a_track_is_part_of_what_is_asked_for() -> None:
    for kind in TASK_TYPES:
        if kind.track is None:
            with pytest.raises(InvalidParameter, match=r"config\.track"):
                full_config(kind.name, None, {"track": 1})
            continue
        _, config = full_config(kind.name, None, {kind.track: 1})
        assert config[kind.track] == 1
        assert config_hash(kind.name, config, None) != config_hash(kind.name, full_config(kind.name, None, None)[1], None)
