"""What an error of a library means for the task: the one place where those that nobody translated nearer by end.

A producer that knows more about an error than its class raises one of `domain.errors` itself. What is left is judged by
where it was raised and of which kind it is: the same bytes in the same decoder fail in the same way every time.
"""

import errno
from collections.abc import Iterator
from pathlib import Path
from traceback import walk_tb
from typing import Final, NamedTuple

from domain.errors import (
    EiokuError,
    MediaError,
    MediaMissing,
    MediaUnreadable,
    ModelFailed,
    ModelUnavailable,
    OutOfMemory,
    ProducerFailed,
    StorageFailed,
)
from infrastructure.media.source import checked
from workers.memory import is_out_of_memory
from workers.producer import Producer

MEDIA: Final = {"av": "FFmpeg", "PIL": "Pillow", "infrastructure.media": "reading the file"}
"""Who reads the file: module → its name for people."""
MODELS: Final = {
    "ctranslate2": "CTranslate2",
    "faster_whisper": "faster-whisper",
    "onnxruntime": "ONNX Runtime",
    "paddle": "Paddle",
    "paddleocr": "PaddleOCR",
    "paddlex": "PaddleX",
    "cv2": "OpenCV",
    "dlib": "dlib",
    "scenedetect": "PySceneDetect",
    "ultralytics": "Ultralytics",
    "torch": "PyTorch",
    "torchvision": "torchvision",
    "transformers": "transformers",
    "sentence_transformers": "sentence-transformers",
    "tokenizers": "tokenizers",
}
"""Who computes on what was read."""

_DATA: Final = (
    "ValueError", "TypeError", "AssertionError", "LookupError", "ArithmeticError", "EOFError", "SyntaxError",
    "struct.error",
)  # fmt: skip
"""Errors of what a function was given; the next time it is given the same."""
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_MOST: Final = 2_000
"""Characters of an error that are kept: some libraries put whole tensors into theirs."""
_PASSING: Final = frozenset(
    getattr(errno, name)
    for name in ("ESTALE", "ETIMEDOUT", "ECONNRESET", "ENOTCONN", "EHOSTDOWN", "EHOSTUNREACH", "ENETUNREACH")
)
"""What a file server says while it is away: the file is not to blame, also where FFmpeg passes it on."""


class _Row(NamedTuple):
    """Raised by one of `libraries` and of one of `kinds`: it becomes that."""

    libraries: dict[str, str]
    kinds: tuple[str, ...]
    """Names of classes, with their module unless built in; a package alone stands for all of its classes."""
    becomes: type[EiokuError]


TABLE: Final = (
    # FFmpeg's errors carry its own numbers under the names of Python's: a PermissionError of it (EPERM) has nothing to do
    # with permissions, an EOFError or OSError with the disk.
    _Row(MEDIA, ("av", "PIL", *_DATA), MediaUnreadable),
    _Row({"PIL": MEDIA["PIL"]}, ("OSError",), MediaUnreadable),
    _Row({"infrastructure.media": MEDIA["infrastructure.media"]}, ("OSError",), MediaMissing),
    _Row(
        MODELS,
        (
            "cv2.error",
            *(
                f"onnxruntime.capi.onnxruntime_pybind11_state.{name}"
                for name in ("InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented")
            ),
            *_DATA,
        ),
        ModelFailed,
    ),
)
"""The first row that fits decides; what fits none is tried once more (ProducerFailed): a driver's hiccup passes."""


def fault_of(error: Exception, producer: Producer, path: Path) -> EiokuError:
    """What `error`, raised while `producer` worked on the file, is to be told as; it is not raised."""
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, ImportError):
        return ModelUnavailable(f"a library cannot be loaded: {error}", "eioku doctor tells what to install")
    if is_out_of_memory(error):
        return OutOfMemory(said[:_MOST])
    if isinstance(error, OSError) and not _is_of(error, "av") and error.errno in _FULL:
        return StorageFailed(said[:_MOST])
    if isinstance(error, OSError) and error.errno in _PASSING:
        return ProducerFailed(said[:_MOST])
    library = _raised_in(error)
    for row in TABLE:
        if library in row.libraries and any(_is_of(error, kind) for kind in row.kinds):
            if issubclass(row.becomes, MediaError):
                return _of_the_file(row, library, path, getattr(error, "strerror", None) or said)
            return row.becomes(f"{row.libraries[library]}: {said}"[:_MOST])
    name = (MEDIA | MODELS).get(library or "", producer.name)
    return ProducerFailed(f"{name}: {said}"[:_MOST])


def _of_the_file(row: _Row, library: str, path: Path, why: str) -> EiokuError:
    try:
        checked(path)
    except MediaError as gone:
        return gone
    return row.becomes(f"{path} cannot be read: {row.libraries[library]}: {why}"[:_MOST])


def _is_of(error: Exception, kind: str) -> bool:
    """Whether it is of a class, or of any class of a package."""
    return any(kind in {name, name.partition(".")[0]} for name in _classes(error))


def _classes(error: Exception) -> Iterator[str]:
    for kind in type(error).__mro__:
        yield kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _raised_in(error: Exception) -> str | None:
    """The library that its class belongs to, else the innermost that was at work when it was raised."""
    modules = [type(error).__module__]
    modules += [str(frame.f_globals.get("__name__")) for frame, _ in reversed(list(walk_tb(error.__traceback__)))]
    for module in modules:
        for library in MEDIA | MODELS:
            if module == library or module.startswith(f"{library}."):
                return library
    return None
