"""Decoding on hardware, and above all without it."""

from pathlib import Path

import av
import numpy as np
import pytest

from domain.errors import MediaUnreadable
from infrastructure.media import frames, hardware
from infrastructure.media.hardware import Hardware
from infrastructure.media.source import open_media
from tests.support import media

LARGE = (1280, 736)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six frames at uneven times, large enough to be worth it."""
    path = tmp_path_factory.mktemp("film") / "large.mp4"
    pictures = [media.picture(number, *LARGE) for number in range(6)]
    return media.clip(path, times_ms=(0, 40, 90, 100, 220, 300), pictures=pictures)


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> Hardware:
    """A process that may use hardware and has not tried yet, counting its tries."""
    there = Counting()
    there.is_allowed = True
    monkeypatch.setattr(frames, "HARDWARE", there)
    return there


class Counting(Hardware):
    """Counts how often hardware is opened."""

    def __init__(self) -> None:
        super().__init__()
        self._kind = "cuda"
        self.tries = 0

    def _opened(self, path: Path):
        self.tries += 1
        return super()._opened(path)


class Working(Counting):
    """A decoder that works; it is a software one."""

    def _opened(self, path: Path):
        self.tries += 1
        return open_media(path)


class Failing(Working):
    """Opens, and fails at the first frame."""

    def _opened(self, path: Path):
        return Broken(super()._opened(path))


class Broken:
    """A container whose frames cannot be decoded."""

    def __init__(self, container) -> None:
        self._container = container
        self.streams, self.name = container.streams, container.name

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._container.close()

    def decode(self, stream):
        raise av.error.ExternalError(542398533, "Generic error in an external library")
        yield

    demux = decode


class Late(Working):
    """Gives the frames other times."""

    def _opened(self, path: Path):
        container = super()._opened(path)
        next(container.decode(video=0))
        return container


def seen(path: Path) -> list[tuple[int, int, bytes]]:
    found = list(frames.sample_frames(path, every_ms=50))
    assert [frame.image.shape for frame in found] == [(LARGE[1], LARGE[0], 3)] * len(found)
    return [(frame.index, frame.time_ms, frame.image.tobytes()) for frame in found]


@pytest.fixture(scope="module")
def in_software(film: Path) -> list[tuple[int, int, bytes]]:
    found = seen(film)
    assert [(index, time_ms) for index, time_ms, _ in found] == [(0, 0), (2, 90), (3, 100), (4, 220), (5, 300)]
    return found


HAS_DEVICE = Path("/dev/nvidiactl").exists()


@pytest.mark.skipif(HAS_DEVICE, reason="a GPU is here: it would decode")
def test_without_a_device_software_takes_over_at_once_and_nobody_asks_again(
    film: Path, allowed: Counting, in_software
) -> None:
    assert [seen(film) for _ in range(3)] == [in_software] * 3
    assert allowed.tries == 1
    other = media.clip(film.with_name("other.mkv"), times_ms=(0,), pictures=[media.picture(0, 1920, 1088)])
    assert len(list(frames.sample_frames(other))) == 1
    assert allowed.tries == 1


@pytest.mark.parametrize("kind", [Failing, Late])
def test_what_the_hardware_does_not_decode_as_software_does_is_decoded_in_software(
    film: Path, monkeypatch: pytest.MonkeyPatch, in_software, kind
) -> None:
    there = kind()
    there.is_allowed = True
    monkeypatch.setattr(frames, "HARDWARE", there)
    assert [seen(film) for _ in range(2)] == [in_software] * 2
    assert there.tries == 1


def test_hardware_that_works_is_tried_once_and_then_used(
    film: Path, monkeypatch: pytest.MonkeyPatch, in_software
) -> None:
    there = Working()
    there.is_allowed = True
    monkeypatch.setattr(frames, "HARDWARE", there)
    assert [seen(film) for _ in range(3)] == [in_software] * 3
    assert there.tries == 4  # to look, and once for each pass


def test_hardware_that_goes_away_leaves_the_file_to_software(
    film: Path, monkeypatch: pytest.MonkeyPatch, in_software
) -> None:
    there = Working()
    there.is_allowed = True
    monkeypatch.setattr(frames, "HARDWARE", there)
    assert seen(film) == in_software
    monkeypatch.setattr(there, "_opened", lambda path: Counting._opened(there, path))
    if not HAS_DEVICE:
        assert seen(film) == in_software


def test_a_job_to_which_another_one_says_meanwhile_that_there_is_no_device_is_left_to_software(
    film: Path, monkeypatch: pytest.MonkeyPatch, in_software
) -> None:
    class Gone(Counting):
        def _is_taken(self, path: Path, stream) -> bool:
            self._kind = None  # by another thread, once this one knew that there was one
            return True

    there = Gone()
    there.is_allowed = True
    monkeypatch.setattr(frames, "HARDWARE", there)
    assert seen(film) == in_software
    assert there.tries == 1


def test_small_pictures_and_processes_that_were_not_told_never_ask(film: Path, tmp_path: Path, allowed) -> None:
    small = media.clip(tmp_path / "small.mp4")
    assert len(list(frames.sample_frames(small))) == 20
    assert allowed.tries == 0
    assert not Hardware().is_allowed
    assert not hardware.HARDWARE.is_allowed
    allowed.is_allowed = False
    assert len(seen(film)) == 5
    assert allowed.tries == 0


def test_a_file_that_is_broken_is_told_as_ever(tmp_path: Path, allowed: Counting) -> None:
    (tmp_path / "a.mp4").write_bytes(np.random.default_rng(1).bytes(5_000))
    with pytest.raises(MediaUnreadable):
        list(frames.sample_frames(tmp_path / "a.mp4"))
    assert allowed.tries == 0

