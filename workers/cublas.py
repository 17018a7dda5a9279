"""cuBLAS for CTranslate2, which asks the system for it by its name: a wheel keeps it where the system does not look."""

import ctypes
import importlib.metadata
from functools import cache

import structlog

log = structlog.get_logger(__name__)

WHEEL = "nvidia-cublas-cu12"
_LIBRARIES = ("libcublasLt.so.12", "libcublas.so.12")
"""What CTranslate2 4 opens, after what that itself needs."""


@cache
def load_cublas() -> bool:
    """Whether it is in this process now: the wheel's if that is installed, else the system's."""
    try:
        files = {file.name: str(file.locate()) for file in importlib.metadata.files(WHEEL) or ()}
    except importlib.metadata.PackageNotFoundError:
        files = {}
    try:
        for name in _LIBRARIES:
            # Whoever asks for the name later gets this one.
            ctypes.CDLL(files.get(name, name), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        log.warning("cublas.missing", error=str(error), remedy=f"pip install {WHEEL}")
        return False
    return True
