"""One clock of a file, whatever its own says, and every way to a picture gives the same one."""

from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from infrastructure.media.audio import RATE, read_sound
from infrastructure.media.clip import cut
from infrastructure.media.clock import clock_of, duration_ms_of
from infrastructure.media.frames import sample_frames
from infrastructure.media.stills import still_at, stills_at
from tests.support.films import HEIGHT, JOINABLE, KINDS, WIDTH, WRAP_S, film, number_of

SIZE = (WIDTH, HEIGHT)
CLIP_MS = 400
RATES = [Fraction(10), Fraction(24_000, 1_001), Fraction(25), Fraction(30_000, 1_001), Fraction(50)]
LEAD_IN_MS = 30
"""Encoders of sound begin so long before the first sample; a file's 0:00 is where its first track begins."""
GENERATED = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=[Phase.explicit, Phase.reuse, Phase.generate]
)
"""Not made smaller: each try makes a film."""


class Shown(NamedTuple):
    """What a full decode gives."""

    times_ms: list[int]
    numbers: list[int]

    def at(self, at_ms: int) -> int:
        """The picture on the screen then."""
        return self.numbers[max(0, bisect_right(self.times_ms, at_ms) - 1)]

    def between(self, start_ms: int, end_ms: int) -> list[int]:
        """The one on the screen at the beginning, and those that follow before the end; the very first if there is none."""
        first = max(0, bisect_right(self.times_ms, start_ms) - 1)
        later = zip(self.numbers[first:], self.times_ms[first:], strict=True)
        return [number for number, at_ms in later if at_ms < end_ms] or self.numbers[:1]


def shown(path: Path) -> Shown:
    frames = [(frame.time_ms, number_of(frame.image), frame.index) for frame in sample_frames(path)]
    assert [index for _, _, index in frames] == list(range(len(frames)))
    return Shown([at_ms for at_ms, _, _ in frames], [number for _, number, _ in frames])


def clip_numbers(path: Path, start_ms: int, end_ms: int) -> list[int]:
    """Pictures of a clip; one that is shown again so that it lasts counts once."""
    out = path.with_name("clip.mp4")
    cut(path, out, start_ms=start_ms, end_ms=end_ms, should_stop=lambda: False)
    with av.open(str(out)) as container:
        found = [number_of(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    return found[:1] + [later for earlier, later in pairwise(found) if later != earlier]


def assert_agree(path: Path, truth: Shown, moments_ms: Sequence[int]) -> None:
    """Stills, by seeking and in one pass, and clips show what is on the screen at each moment."""
    wanted = {at_ms: truth.at(at_ms) for at_ms in sorted(moments_ms)}
    assert {at_ms: number_of(still) for at_ms, still in stills_at(path, list(wanted), SIZE)} == wanted
    assert {at_ms: number_of(still_at(path, at_ms, SIZE)) for at_ms in wanted} == wanted
    end_ms = duration_ms_of(path)
    clips = {at_ms: min(at_ms + CLIP_MS, end_ms) for at_ms in wanted if at_ms < truth.times_ms[-1]}
    found = {at_ms: clip_numbers(path, at_ms, until_ms) for at_ms, until_ms in clips.items()}
    assert found == {at_ms: truth.between(at_ms, until_ms) for at_ms, until_ms in clips.items()}


def assert_spaced(truth: Shown, count: int, rate: Fraction, *, has_sound: bool, tolerance_ms: Fraction | int = 2) -> None:
    """All pictures, evenly but for roundings to milliseconds, from 0:00 on."""
    assert truth.numbers == [number % 256 for number in range(count)]
    assert 0 <= truth.times_ms[0] <= (LEAD_IN_MS if has_sound else 0)
    late = [at_ms - truth.times_ms[0] - number * 1000 / rate for number, at_ms in enumerate(truth.times_ms)]
    assert max(map(abs, late)) <= tolerance_ms


def roughly_ms(name: str, rate: Fraction) -> Fraction:
    """How far a time may be off. Program streams do not say of every picture when it is shown, and FFmpeg guesses."""
    return 2 + (1000 / rate if name in {"mpg", "vob"} else Fraction(0))


@st.composite
def starts(draw: st.DrawFn, name: str, seconds: Fraction) -> Fraction:
    """When the clock of a film of this length begins: anywhere, and often so that it wraps within."""
    wrap_ms = int(WRAP_S * 1000)
    if name in JOINABLE:
        wrapping = st.integers(wrap_ms - int(seconds * 1000) - 100, wrap_ms)
        return Fraction(draw(st.one_of(st.just(0), wrapping, st.integers(0, wrap_ms))), 1000)
    can_be_late = name not in {"avi", "wmv", "webm"}
    return Fraction(draw(st.integers(0, 3_600_000 if can_be_late else 0)), 1000)


@pytest.mark.parametrize("name", KINDS)
@settings(parent=GENERATED, max_examples=3)
@given(data=st.data())
def test_every_way_to_a_picture_gives_the_same_one(name: str, data: st.DataObject) -> None:
    rate = data.draw(st.sampled_from(RATES), "rate")
    count = data.draw(st.integers(12, 120), "count")
    has_sound = data.draw(st.booleans(), "sound") and name != "avi"
    start_s = data.draw(starts(name, count / rate), "start")
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"film.{KINDS[name].suffix}"
        film(
            path, KINDS[name], [number % 256 for number in range(count)], rate=rate, start_s=start_s, has_sound=has_sound,
            gop=data.draw(st.integers(1, 90), "gop"), reordered=data.draw(st.integers(0, 2), "reordered"),
        )  # fmt: skip
        truth = shown(path)
        assert_spaced(truth, count, rate, has_sound=has_sound, tolerance_ms=roughly_ms(name, rate))
        # Headers count from when the first picture is decoded, which may be two pictures before it is shown.
        assert abs(clock_of(path).length - count / rate) <= Fraction(1, 10) + 2 / rate
        last_ms = duration_ms_of(path) - 1
        moments = data.draw(st.lists(st.integers(0, last_ms), min_size=3, max_size=5), "moments")
        assert_agree(path, truth, {0, last_ms, *moments})


@pytest.mark.parametrize("before_s", [Fraction(3, 2), 40, 58, 70])
@pytest.mark.parametrize("name", ["ts", "mpg"])
def test_a_clock_may_wrap_anywhere(tmp_path: Path, name: str, before_s: Fraction) -> None:
    """FFmpeg gives a negative start up to 60 s before, and goes on by itself later than that."""
    count = int((before_s + 5) * 10)
    path = film(
        tmp_path / f"a.{name}", KINDS[name], [n % 256 for n in range(count)], rate=Fraction(10), has_sound=True,
        start_s=WRAP_S - before_s,
    )  # fmt: skip
    truth = shown(path)
    assert_spaced(truth, count, Fraction(10), has_sound=True)
    wrap_ms = int(before_s * 1000)
    assert_agree(path, truth, [0, wrap_ms - 900, wrap_ms - 1, wrap_ms + 1, wrap_ms + 900])
    assert sum(len(each.samples) for each in read_sound(path)) / RATE == pytest.approx(count / 10, abs=0.1)


@pytest.mark.parametrize("name", JOINABLE)
@settings(parent=GENERATED, max_examples=3)
@given(data=st.data())
def test_joined_recordings_follow_each_other(name: str, data: st.DataObject) -> None:
    rate = data.draw(st.sampled_from(RATES), "rate")
    counts = data.draw(st.lists(st.integers(12, 60), min_size=2, max_size=4), "counts")
    begins = data.draw(st.lists(starts("ts", Fraction(1)), min_size=4, max_size=4), "starts")
    has_sound = data.draw(st.booleans(), "sound")
    with TemporaryDirectory() as folder:
        path, first, ended_s = Path(folder) / f"joined.{KINDS[name].suffix}", 0, None
        for count, start_s in zip(counts, begins, strict=False):
            # Less than ten seconds ahead is a gap in one recording.
            assume(ended_s is None or not -1 < (start_s - ended_s + 1) % WRAP_S - 1 < 11)
            ended_s = start_s + count / rate
            numbers = [number % 256 for number in range(first, first + count)]
            piece = film(path.with_name("piece"), KINDS[name], numbers, rate=rate, start_s=start_s, has_sound=has_sound)
            with path.open("ab") as joined:
                joined.write(piece.read_bytes())
            first += count
        truth = shown(path)
        tolerance_ms = len(counts) * roughly_ms(name, rate)
        assert_spaced(truth, first, rate, has_sound=has_sound, tolerance_ms=tolerance_ms)
        assert abs(clock_of(path).length - first / rate) <= Fraction(1, 10) + tolerance_ms / 1000
        joins_ms = [truth.times_ms[sum(counts[:number])] for number in range(1, len(counts))]
        assert_agree(path, truth, {0, *joins_ms, *(at_ms + 150 for at_ms in joins_ms), truth.times_ms[-1]})
        sound_s = sum(len(each.samples) for each in read_sound(path)) / RATE
        assert sound_s == pytest.approx(first / rate if has_sound else 0, abs=0.15)


def test_a_recording_that_begins_between_key_pictures_has_the_nearest_one(tmp_path: Path) -> None:
    """As an AVCHD camera's first file, or one cut by a receiver: nothing can be decoded before the first key picture."""
    whole = film(tmp_path / "whole.ts", KINDS["ts"], range(100), gop=25)
    path = tmp_path / "cut.ts"
    path.write_bytes(whole.read_bytes()[30 * 188 :])
    truth = shown(path)
    assert 0 < truth.times_ms[0] < 1000, "where the first key picture is"
    assert truth.numbers == list(range(truth.numbers[0], 100))
    assert_agree(path, truth, [0, truth.times_ms[0] - 1, truth.times_ms[0], 2000])


@pytest.mark.parametrize("name", ["ts", "m2ts", "mpg", "mp4", "mkv"])
def test_a_film_of_one_picture(tmp_path: Path, name: str) -> None:
    path = film(tmp_path / f"a.{name}", KINDS[name], [5], start_s=Fraction(2, 3))
    assert shown(path) == Shown([0], [5])
    assert number_of(still_at(path, 0, SIZE)) == 5
    assert duration_ms_of(path) == pytest.approx(40, abs=2)


def test_a_fragment_of_a_stream_is_as_long_as_it_is(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", KINDS["fragmented"], range(75), start_s=Fraction(3600), has_sound=True)
    assert duration_ms_of(path) == pytest.approx(3000, abs=60)
    assert_agree(path, shown(path), [0, 1500, 2900])


@pytest.mark.parametrize("moved_s", [Fraction(-3, 10), Fraction(3, 10), Fraction(-2)])
def test_sound_whose_clock_jumps_at_a_splice_can_be_cut(tmp_path: Path, moved_s: Fraction) -> None:
    whole = film(tmp_path / "whole.mkv", KINDS["mkv"], range(100), has_sound=True)
    path = tmp_path / "spliced.mkv"
    with av.open(str(whole)) as source, av.open(str(path), "w") as out:
        tracks = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is None:
                continue
            if packet.stream.type == "audio" and packet.pts * packet.time_base > 2:
                packet.pts += int(moved_s * 1000)
                packet.dts = packet.pts
            packet.stream = tracks[packet.stream.index]
            try:
                out.mux(packet)
            except av.FFmpegError:
                continue  # the muxer does not take the one that goes back
    assert clip_numbers(path, 1500, 2500) == list(range(37, 63))


@pytest.mark.parametrize("name", ["ts", "vob"])
@pytest.mark.parametrize("paused", ["pictures", "sound"])
def test_a_track_that_pauses_is_no_new_recording(tmp_path: Path, name: str, paused: str) -> None:
    """Slides, and microphones that are switched off: the other track goes on meanwhile."""
    path = tmp_path / f"pause.{name}"
    with av.open(str(path), "w") as out:
        video = out.add_stream("mpeg2video", rate=25, options={"bf": "0", "g": "5"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound = out.add_stream("mp2", rate=48_000, layout="mono")
        sound.format = "s16"
        for second in range(40):
            if paused != "pictures" or not 10 <= second < 25:
                for number in range(25):
                    frame = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), 5 * second, np.uint8))
                    frame.pts, frame.time_base = 25 * second + number, Fraction(1, 25)
                    out.mux(video.encode(frame))
            if paused != "sound" or not 10 <= second < 25:
                for number in range(50):
                    samples = av.AudioFrame.from_ndarray(np.full((1, 960), 900, np.int16), format="s16", layout="mono")
                    samples.sample_rate, samples.pts = 48_000, 960 * (50 * second + number)
                    out.mux(sound.encode(samples))
        out.mux([*video.encode(None), *sound.encode(None)])
    assert duration_ms_of(path) == pytest.approx(40_000, abs=100)
    times = [frame.time_ms for frame in sample_frames(path)]
    assert times[-1] == pytest.approx(39_960, abs=100)
    heard = np.concatenate([chunk.samples for chunk in read_sound(path)])
    assert len(heard) / RATE == pytest.approx(40, abs=0.2)


@pytest.mark.parametrize("name", ["wav", "w64", "aiff", "au", "caf", "flac", "mp3", "ogg", "m4a", "mka", "aac"])
def test_sound_alone_is_as_long_as_it_is(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"sound.{name}"
    codec = {"flac": "flac", "mp3": "mp3", "ogg": "flac", "m4a": "aac", "mka": "flac", "aac": "aac"}
    with av.open(str(path), "w", format={"aac": "adts", "m4a": "mp4", "mka": "matroska"}.get(name)) as out:
        big = name in {"aiff", "au", "caf"}
        sound = out.add_stream(codec.get(name, "pcm_s16be" if big else "pcm_s16le"), rate=16_000, layout="mono")
        for second in range(70):
            samples = av.AudioFrame.from_ndarray(np.full((1, 16_000), 500, np.int16), format="s16", layout="mono")
            samples.sample_rate, samples.pts = 16_000, 16_000 * second
            out.mux(sound.encode(samples))
        out.mux(sound.encode(None))
    assert duration_ms_of(path) == pytest.approx(70_000, abs=150)
