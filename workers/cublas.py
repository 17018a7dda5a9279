"""cuBLAS for CTranslate2, which asks the system for it by its name: a wheel keeps it where the system does not look."""

import ctypes
import importlib.metadata
from functools import cache

WHEEL = "nvidia-cublas-cu12"
_LIBRARIES = ("libcublasLt.so.12", "libcublas.so.12")
"""What CTranslate2 4 opens, after what that itself needs."""


@cache
def cublas_problem() -> str | None:
    """Load it into this process, from the wheel if there is one, else the system; what went wrong, None if nothing."""
    try:
        files = {file.name: str(file.locate()) for file in importlib.metadata.files(WHEEL) or ()}
    except importlib.metadata.PackageNotFoundError:
        files = {}
    try:
        for name in _LIBRARIES:
            # Whoever asks for the name later gets this one.
            ctypes.CDLL(files.get(name, name), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        return str(error)
    return None
