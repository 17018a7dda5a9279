"""Sound of any number of channels, and sound that becomes another in the middle."""

from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from infrastructure.media.audio import RATE, read_sound
from infrastructure.media.clip import cut
from infrastructure.media.mixing import Mixer
from tests.support import media
from tests.support.tracks import Picture, Sound, film, frames_of, loudness_of, pitch_of, silence, speech

LAYOUTS = [
    "stereo", "2.1", "3.0", "4.0", "quad", "5.0", "5.1", "5.1(side)", "6.1", "7.1", "7.1(wide)", "5.1.4", "7.1.4", "9.1.6",
    "cube", "octagonal", "hexadecagonal", "22.2", "downmix", "binaural", "ambisonic 1", "ambisonic 3",
    "ambisonic 1+stereo", *(f"{count} channels" for count in (1, 2, 3, 4, 6, 9, 11, 12, 60, 64)),
]  # fmt: skip
WITHOUT_BASS = {name: [at for at, one in enumerate(av.AudioLayout(name).channels) if one.name.startswith("LFE")] for name in LAYOUTS}


def mixed(sound: Sound, layout: str = "mono", rate: int = RATE) -> np.ndarray:
    """What a mixer makes of the track, shape (channels, n)."""
    mixer = Mixer(layout, rate)
    parts = [part for frame in frames_of(sound) for part in mixer.take(frame)]
    return np.concatenate([*parts, *mixer.rest()], axis=1)


def in_one(layout: str, channel: int, level: float = 0.5) -> np.ndarray:
    """A tone of 440 Hz in one channel, nothing in the others."""
    samples = np.zeros((av.AudioLayout(layout).nb_channels, RATE), np.float32)
    samples[channel] = 2 * level * media.tone(1)
    return samples


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_voice_in_one_channel_alone_is_heard(layout: str) -> None:
    count = av.AudioLayout(layout).nb_channels
    # What is meant for a subwoofer is left out of films, as FFmpeg does.
    for channel in sorted({*range(min(count, 9)), count - 1} - {*WITHOUT_BASS[layout]}):
        for target in ("mono", "stereo"):
            found = mixed(Sound(in_one(layout, channel), layout=layout), target)
            assert max(loudness_of(side, 440) for side in found) > 0.24, (channel, target)  # 6 dB below, at most
            assert np.abs(found).max() <= 1


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if av.AudioLayout(name).nb_channels > 2])
def test_what_all_channels_have_is_not_too_loud(layout: str) -> None:
    samples = np.vstack([2 * media.tone(1)] * av.AudioLayout(layout).nb_channels)
    for target in ("mono", "stereo"):
        found = mixed(Sound(samples, layout=layout), target)
        assert np.abs(found).max() <= 1.0001
        assert loudness_of(found[0], 440) > 0.7


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(count=st.integers(1, 64), data=st.data())
@example(count=60, data=None)
def test_who_speaks_is_heard_over_microphones_that_hiss(count: int, data: st.DataObject | None) -> None:
    channel = data.draw(st.integers(0, count - 1)) if data else count - 1
    samples = np.random.default_rng(count).normal(0, 0.001, (count, RATE)).astype(np.float32)
    samples[channel] += media.tone(1)
    found = mixed(Sound(samples, layout=f"{count} channels"))[0]
    assert len(found) == pytest.approx(RATE, abs=64)
    assert loudness_of(found, 440) > 0.24
    assert np.abs(found).max() <= 1


def test_two_who_speak_in_turn_on_two_microphones_are_both_heard() -> None:
    samples = np.zeros((4, 20 * RATE), np.float32)
    loud, quiet = speech(10), speech(10, pitch=500) / 10
    samples[1, : 10 * RATE], samples[3, 10 * RATE :] = loud, quiet
    found = mixed(Sound(samples, layout="4 channels"))[0]
    assert loudness_of(found[: 10 * RATE], 300) > 0.2
    assert loudness_of(found[14 * RATE :], 500) > 0.02


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 8, 9, 12, 16, 33, 60, 64])
def test_a_file_with_any_number_of_channels_is_heard_and_cut(tmp_path: Path, count: int) -> None:
    samples = np.vstack([speech(2)] * count)
    sound = Sound(samples, "pcm_s16le", layout=f"{count} channels")
    path = film(tmp_path / "a.mov", Picture(), sound)
    found = np.concatenate([each.samples for each in read_sound(path)])
    assert loudness_of(found, 300) > 0.2
    assert np.abs(found).max() <= 1
    cut(path, tmp_path / "clip.mp4", start_ms=0, end_ms=1500, should_stop=lambda: False)
    cut_sound = np.concatenate([each.samples for each in read_sound(tmp_path / "clip.mp4")])
    assert loudness_of(cut_sound, 300) > 0.2
    assert len(cut_sound) == pytest.approx(1.5 * RATE, abs=2048)


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le"])
def test_samples_of_any_kind_are_mixed(tmp_path: Path, codec: str) -> None:
    sound = Sound(np.vstack([media.tone(1), *[silence(1)] * 10]), codec, layout="11 channels")
    found = np.concatenate([each.samples for each in read_sound(film(tmp_path / "a.mov", sound))])
    assert loudness_of(found, 440) == pytest.approx(0.5, abs=0.05)


def test_mono_and_stereo_are_as_the_library_makes_them() -> None:
    for layout, samples in (("mono", media.tone(1)), ("stereo", np.vstack([media.tone(1), speech(1)]))):
        resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
        plain = []
        for frame in (*frames_of(Sound(samples, layout=layout, rate=44_100)), None):
            if frame is not None:
                frame.pts = None
            plain += [part.to_ndarray().reshape(-1) for part in resampler.resample(frame)]
        assert np.array_equal(mixed(Sound(samples, layout=layout, rate=44_100))[0], np.concatenate(plain))


# ---- formats that change -----------------------------------------------------------------------------------------

KINDS = {
    "stereo": ("ac3", "stereo", 48_000),
    "surround": ("ac3", "5.1(side)", 48_000),
    "mono": ("ac3", "mono", 48_000),
    "slower": ("ac3", "stereo", 32_000),
    "MPEG mono": ("mp2", "mono", 44_100),
    "MPEG stereo": ("mp2", "stereo", 48_000),
    "AAC mono": ("aac", "mono", 44_100),
    "AAC stereo": ("aac", "stereo", 48_000),
}


def spliced(path: Path, *kinds: str) -> Path:
    """Two seconds of a tone of 300 Hz, then of 400, and so on, each of another kind but one codec."""
    parts = []
    for number, kind in enumerate(kinds):
        codec, layout, rate = KINDS[kind]
        time = np.arange(2 * rate) / rate
        tone = (0.4 * np.sin(2 * np.pi * (300 + 100 * number) * time)).astype(np.float32)
        sound = Sound(
            np.vstack([tone] * av.AudioLayout(layout).nb_channels), codec, layout=layout, rate=rate, from_ms=2000 * number
        )
        parts.append(film(path.with_suffix(f".{number}.ts"), sound, container="mpegts"))
    return media.joined(path, *parts)


@pytest.mark.parametrize(
    "kinds",
    [
        ("stereo", "surround"),
        ("surround", "stereo"),
        ("mono", "surround", "stereo"),
        ("stereo", "slower", "mono"),
        ("MPEG mono", "MPEG stereo"),
        ("AAC mono", "AAC stereo"),
        ("AAC stereo", "AAC mono", "AAC stereo"),
    ],
    ids=", ".join,
)
def test_sound_that_becomes_another_is_heard_at_its_time(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    path = spliced(tmp_path / "a.ts", *kinds)
    whole = np.concatenate([each.samples for each in read_sound(path)])
    assert len(whole) == pytest.approx(2 * len(kinds) * RATE, abs=RATE // 5)
    cut(path, tmp_path / "clip.mp4", start_ms=0, end_ms=2000 * len(kinds), should_stop=lambda: False)
    clip = np.concatenate([each.samples for each in read_sound(tmp_path / "clip.mp4")])
    for samples in (whole, clip):
        for number in range(len(kinds)):
            second = samples[round((2 * number + 0.5) * RATE) : round((2 * number + 1.5) * RATE)]
            assert pitch_of(second) == pytest.approx(300 + 100 * number, abs=3)
            assert np.abs(second).max() > 0.25


def test_what_the_old_format_still_held_is_not_lost() -> None:
    mixer = Mixer("mono", RATE)
    found = []
    for rate in (44_100, 48_000, 22_050, 44_100):
        for frame in frames_of(Sound(media.tone(1, rate), rate=rate)):
            found += mixer.take(frame)
    found += mixer.rest()
    assert sum(part.shape[1] for part in found) == pytest.approx(4 * RATE, abs=4)
