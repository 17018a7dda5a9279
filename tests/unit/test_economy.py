"""Frames that nobody wants stay undecoded, and nothing else is different."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from infrastructure.media import frames
from infrastructure.media.economy import LEARNING, MOST_AHEAD, Economy, _begins_anew, _units
from infrastructure.media.frames import Decoding, decoded_frames, frames_on_screen, sample_frames
from tests.support import media

COUNT = 240
BEATS_MS = (200, 500, 3_000)
H264 = {"bf": "3", "b-pyramid": "normal", "g": "60", "threads": "1", "preset": "veryfast"}
Make = Callable[[Path], Path]


def film(
    path: Path, *, codec: str = "libx264", options: dict[str, str] | None = None, times_ms: list[int] | None = None, container: str | None = None
) -> Path:
    """`COUNT` frames of drifting noise."""
    noise = np.random.default_rng(1).integers(0, 255, (240, 320, 3), np.uint8)
    with av.open(str(path), "w", format=container, options={"movflags": "faststart"}) as out:
        video = out.add_stream(codec, rate=25, options=H264 if options is None else options)
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        for number in range(COUNT):
            window = np.ascontiguousarray(noise[number // 4 :][:120, number // 2 :][:, :160])
            frame = av.VideoFrame.from_ndarray(window, format="rgb24")
            frame.pts, frame.time_base = times_ms[number] if times_ms else number * 40, Fraction(1, 1000)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path


def uneven(path: Path) -> Path:
    gaps = np.random.default_rng(2).integers(5, 120, COUNT)
    return film(path, times_ms=np.cumsum(gaps).tolist())


def phone(path: Path, **given: str) -> Path:
    """As phones record: no B-frames, a fresh start a second."""
    return film(path, options=H264 | {"bf": "0", "g": "25"}, **given)


def hevc(path: Path, structure: str = "keyint=60") -> Path:
    """`open-gop` is what x265 does by itself: frames before a key frame are made from it and from what was before."""
    return film(path, codec="libx265", options={"x265-params": f"bframes=3:b-pyramid=1:{structure}:log-level=none:pools=1"})


def closed_hevc(path: Path) -> Path:
    return hevc(path, "keyint=25:open-gop=0")


def open_h264(path: Path) -> Path:
    return film(path, options=H264 | {"g": "25", "x264-params": "open-gop=1"})


def joined(path: Path) -> Path:
    """A transport stream whose clock starts again in the middle."""
    film(path, container="mpegts")
    path.write_bytes(path.read_bytes() * 2)
    return path


def trimmed(path: Path) -> Path:
    """A film that an edit list lets begin after its 50th frame: those before are decoded and not shown."""
    whole = film(path.with_name("whole.mp4"))
    with av.open(str(whole)) as source, av.open(str(path), "w") as out:
        stream = source.streams.video[0]
        track = out.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - 50 * 512, packet.dts - 50 * 512, track
                out.mux(packet)
    return path


def scratched(path: Path) -> Path:
    return media.scratched(film(path.with_name("whole.mp4")), path, from_ms=4_000, to_ms=4_500)


def cut_off(path: Path) -> Path:
    film(path)
    path.write_bytes(path.read_bytes()[:-30_000])
    return path


MAKERS: dict[str, Make] = {
    "h264.mp4": film, "h264.mkv": film, "h264.ts": lambda path: film(path, container="mpegts"), "uneven.mp4": uneven,
    "hevc.mp4": hevc, "joined.ts": joined, "trimmed.mp4": trimmed, "phone.mp4": phone, "phone.mkv": phone,
    "phone.ts": lambda path: phone(path, container="mpegts"), "closed-hevc.mp4": closed_hevc, "closed-hevc.mkv": closed_hevc,
    "open-h264.mp4": open_h264,
}  # fmt: skip
OTHERS: dict[str, Make] = {
    "no-b-frames.mp4": lambda path: film(path, options=H264 | {"bf": "0"}),
    "mpeg4.avi": lambda path: film(path, codec="mpeg4", options={"bf": "2"}),
    "h264.avi": film,
    "mjpeg.mov": lambda path: media.clip(path, codec="mjpeg"),
}


def taken(path: Path, every_ms: int, monkeypatch: pytest.MonkeyPatch, *, is_whole: bool) -> tuple[list[tuple[int, Fraction, bytes]], Decoding]:
    """What a reader gets, and what it is told at the end. `is_whole`: everything is decoded."""
    with monkeypatch.context() as patch:
        if is_whole:
            patch.setattr(frames, "decoded_frames", lambda path, seen, _, track: decoded_frames(path, seen, track=track))
        decoding = Decoding()
        found = [(f.index, f.time, f.image.tobytes()) for f in sample_frames(path, every_ms=every_ms, decoding=decoding)]
        return found, decoding


@pytest.fixture
def came_out(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The pts of all that decoders have given."""
    seen: list[int] = []
    given = frames._frames

    def listened(*args):
        for frame in given(*args):
            seen.append(frame.pts)
            yield frame

    monkeypatch.setattr(frames, "_frames", listened)
    return seen


@pytest.mark.parametrize("name", [*MAKERS, *OTHERS])
def test_who_samples_gets_the_same_as_if_all_was_decoded(tmp_path, monkeypatch, name):
    path = (MAKERS | OTHERS)[name](tmp_path / name)
    for every_ms in BEATS_MS:
        assert taken(path, every_ms, monkeypatch, is_whole=False) == taken(path, every_ms, monkeypatch, is_whole=True)


@pytest.mark.parametrize("make", [scratched, cut_off], ids=["scratched", "cut off"])
def test_damage_is_passed_over_as_ever(tmp_path, monkeypatch, make):
    path = make(tmp_path / "a.mp4")
    found, decoding = taken(path, 200, monkeypatch, is_whole=False)
    whole, of_all = taken(path, 200, monkeypatch, is_whole=True)
    # The pictures right behind the damage are made up of what was there before, by either way another.
    assert [frame[:2] for frame in found] == [frame[:2] for frame in whole]
    assert decoding.damaged == of_all.damaged
    assert (decoding.end, decoding.is_cut_short) == (of_all.end, of_all.is_cut_short)


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "joined.ts"])
def test_what_nobody_wants_is_not_decoded(tmp_path, came_out, name):
    path = MAKERS[name](tmp_path / name)
    list(sample_frames(path, every_ms=500))
    assert len(came_out) < COUNT - (COUNT - LEARNING) // 3
    came_out.clear()
    list(sample_frames(path))
    assert len(came_out) >= COUNT - 50


@pytest.mark.parametrize("name", MAKERS)
def test_stills_are_those_of_a_player(tmp_path, came_out, name):
    path = MAKERS[name](tmp_path / name)
    times_ms = sorted(np.random.default_rng(3).integers(0, 9_500, 25).tolist())
    shown = [(at_ms, frame.pts) for at_ms, frame in frames_on_screen(path, times_ms)]
    begins = [(round(time * 1000), frame.pts) for frame, time in decoded_frames(path, Decoding())]
    first = begins[0][1]
    assert shown == [(at, max((b for b in begins if b[0] <= at), default=(0, first))[1]) for at in times_ms]


STARTING_ANEW = [name for name in MAKERS if name.startswith(("phone", "closed"))]


@pytest.mark.parametrize("name", STARTING_ANEW)
def test_what_lies_before_a_fresh_start_is_not_decoded(tmp_path, came_out, name):
    path = MAKERS[name](tmp_path / name)
    assert [at_ms for at_ms, _ in frames_on_screen(path, [5_000, 9_000])] == [5_000, 9_000]
    assert len(came_out) < LEARNING + 30


def test_what_waits_for_a_fresh_start_is_bounded(tmp_path, monkeypatch, came_out):
    path = film(tmp_path / "long.mp4", options=H264 | {"bf": "0", "g": "1000"})
    waiting = []
    take = Economy._take
    monkeypatch.setattr(Economy, "_take", lambda self, ahead: waiting.append(len(ahead)) or take(self, ahead))
    monkeypatch.setattr("infrastructure.media.economy.MOST_HELD", 20)
    list(frames_on_screen(path, [9_000]))
    assert max(waiting) <= 20 + MOST_AHEAD
    assert len(came_out) > 200
    waiting.clear()
    monkeypatch.setattr("infrastructure.media.economy.MOST_HELD_BYTES", 0)
    list(frames_on_screen(path, [9_000]))
    assert max(waiting) <= MOST_AHEAD


def test_a_fresh_start_is_told_from_a_mere_key_frame(tmp_path):
    found = {}
    for name in ("phone.mp4", "phone.ts", "closed-hevc.mkv", "open-h264.mp4", "hevc.mp4"):
        with av.open(str(MAKERS[name](tmp_path / name))) as container:
            stream = container.streams.video[0]
            keys = [packet for packet in container.demux(stream) if packet.is_keyframe]
            found[name] = sum(_begins_anew(packet, stream.codec_context) for packet in keys), len(keys)
    assert found["phone.mp4"] == found["phone.ts"] == (10, 10)
    assert found["closed-hevc.mkv"][0] == found["closed-hevc.mkv"][1] >= 9
    assert found["open-h264.mp4"][0] < found["open-h264.mp4"][1]
    assert found["hevc.mp4"][0] < found["hevc.mp4"][1]


@pytest.mark.parametrize("size", [0, 1, 2, 4])
def test_any_bytes_are_looked_through_to_an_end(size):
    for data in (b"", b"\0", b"\0\0\1", b"\0" * 50, b"\xff" * 50, b"\0\0\1\0\0\1e", bytes(range(256))):
        assert len(list(_units(data, size))) <= len(data)
