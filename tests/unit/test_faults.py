"""What errors of libraries are told as. Each is raised by the real library."""

import errno
import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from tempfile import NamedTemporaryFile

import av
import numpy as np
import pytest

from domain.errors import EiokuError
from tests.support import media
from tests.support.producers import Obedient
from workers.child import death_of
from workers.faults import fault_of
from workers.memory import killed_for_memory


def ffmpeg(code: int) -> Callable[[], object]:
    return lambda: av.error.err_check(-code, "film.avi")


def ffmpeg_is_at_its_end() -> None:
    av.open(BytesIO(bytes.fromhex("1a45dfa393428288") + b"matroska"), format="matroska")


def seek_behind_a_header() -> None:
    with NamedTemporaryFile(suffix=".avi") as file:
        film = media.clip(Path(file.name), codec="mjpeg").read_bytes()
        with av.open(BytesIO(film[: film.index(b"movi") + 4])) as header:
            header.seek(0)


def pillow() -> None:
    from PIL import Image

    Image.open(BytesIO(b"\x89PNG\r\n\x1a\n" + bytes(40))).load()


def pillow_cut_off() -> None:
    from PIL import Image

    whole = BytesIO()
    Image.effect_noise((64, 64), 90).save(whole, "JPEG")
    Image.open(BytesIO(whole.getvalue()[:800])).load()


def our_own_reading() -> None:
    from infrastructure.media.gps import _sexagesimal

    _sexagesimal(("a", "b", "c"))


def opencv() -> None:
    import cv2

    cv2.cvtColor(np.zeros((0, 0, 3), np.uint8), cv2.COLOR_BGR2GRAY)


def onnx() -> None:
    import onnxruntime

    onnxruntime.InferenceSession(b"this is no model")


def numpy_too_large() -> None:
    np.ones(1 << 50, np.uint8)


def no_library() -> None:
    import no_such_library  # noqa: F401


def disk_full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/a.webp")


def a_bug() -> None:
    {}["label"]


def raised(cause: Callable[[], object]) -> Exception:
    try:
        cause()
    except Exception as error:  # noqa: BLE001
        return error
    raise AssertionError("it raised nothing")


@pytest.mark.parametrize(
    ("cause", "code", "is_tried_again", "words"),
    [
        (ffmpeg(errno.EPERM), "MEDIA_UNREADABLE", False, "FFmpeg: Operation not permitted"),
        (ffmpeg(errno.EACCES), "MEDIA_UNREADABLE", False, "FFmpeg: Permission denied"),
        (ffmpeg(errno.ENOMEM), "MEDIA_UNREADABLE", False, "FFmpeg: Cannot allocate memory"),
        (ffmpeg(errno.EINVAL), "MEDIA_UNREADABLE", False, "FFmpeg: Invalid argument"),
        (ffmpeg(errno.EIO), "MEDIA_UNREADABLE", False, "FFmpeg: Input/output error"),
        (ffmpeg(errno.EAGAIN), "MEDIA_UNREADABLE", False, "FFmpeg"),
        (ffmpeg_is_at_its_end, "MEDIA_UNREADABLE", False, "FFmpeg: "),
        (seek_behind_a_header, "MEDIA_UNREADABLE", False, "FFmpeg: "),
        (pillow, "MEDIA_UNREADABLE", False, "Pillow: "),
        (pillow_cut_off, "MEDIA_UNREADABLE", False, "Pillow: "),
        (our_own_reading, "MEDIA_UNREADABLE", False, "could not convert"),
        (opencv, "MODEL_FAILED", False, "OpenCV: "),
        (onnx, "MODEL_FAILED", False, "ONNX Runtime: InvalidProtobuf"),
        (numpy_too_large, "OUT_OF_MEMORY", True, "Unable to allocate"),
        (no_library, "MODEL_UNAVAILABLE", False, "no_such_library"),
        (disk_full, "STORAGE_FAILED", True, "No space left"),
        (a_bug, "PRODUCER_FAILED", True, "obedient: KeyError: 'label'"),
    ],
)
def test_an_error_of_a_library_is_told_as_what_it_is_with_a_remedy(tmp_path: Path, cause, code, is_tried_again, words):
    path = tmp_path / "film.mp4"
    path.write_bytes(b"x")
    fault = fault_of(raised(cause), Obedient(), path)
    assert (fault.code, fault.retryable) == (code, is_tried_again)
    assert words in str(fault)
    assert fault.remedy


def test_a_file_that_went_away_under_ffmpeg_is_missing_not_broken(tmp_path: Path) -> None:
    gone = tmp_path / "gone.mp4"
    for code in (errno.ENOENT, errno.EPERM, errno.EINVAL):
        assert fault_of(raised(ffmpeg(code)), Obedient(), gone).code == "MEDIA_MISSING"


def test_an_error_as_long_as_a_tensor_is_cut(tmp_path: Path) -> None:
    assert len(str(fault_of(KeyError("x" * 100_000), Obedient(), tmp_path))) <= 2_000


@pytest.mark.parametrize(
    ("exit_code", "killed_for_memory", "code", "is_unexplained"),
    [
        (-9, 1, "OUT_OF_MEMORY", False),
        (-9, 0, "WORKER_DIED", False),
        (-15, 0, "WORKER_DIED", False),
        (-11, 0, "WORKER_CRASHED", True),
        (-11, 3, "WORKER_CRASHED", True),
        (-6, 0, "WORKER_CRASHED", True),
        (-7, 0, "WORKER_CRASHED", True),
        (-63, 0, "WORKER_CRASHED", True),
        (3, 0, "WORKER_CRASHED", True),
        (0, 0, "WORKER_CRASHED", True),
    ],
)
def test_a_process_that_ended_is_told_by_how_it_did(exit_code, killed_for_memory, code, is_unexplained) -> None:
    death = death_of(exit_code, killed_for_memory)
    assert (death.code, death.retryable, death.is_unexplained) == (code, True, is_unexplained)
    assert death.remedy


def test_the_kernel_counts_whom_it_killed() -> None:
    assert killed_for_memory() >= 0


def test_every_error_that_may_end_a_task_says_what_to_do() -> None:
    def below(kind: type[EiokuError]) -> list[type[EiokuError]]:
        return [kind, *(each for sub in kind.__subclasses__() for each in below(sub))]

    named = {kind.code: kind.remedy for kind in below(EiokuError)}
    for code in (
        "MEDIA_MISSING", "MEDIA_UNREADABLE", "TIMED_OUT", "WORKER_DIED", "WORKER_CRASHED", "MODEL_FAILED",
        "PRODUCER_FAILED", "OUT_OF_MEMORY", "STORAGE_FAILED",
    ):  # fmt: skip
        assert named[code], code


