"""Memory as models use it: how much there is, who has run out of it, and how it is given back."""

import contextlib
import ctypes
import gc
import os
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

from domain.errors import EiokuError
from infrastructure.devices import gpu_of

CPU = "cpu"
_SAID = ("out of memory", "can't allocate memory", "insufficient memory", "alloc_failed", "bad_alloc")
"""How torch, CTranslate2, Paddle, OpenCV, cuBLAS and cuDNN put it; each has several classes for it."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of glibc's mallopt (malloc.h)."""
_KEPT_BYTES, _LARGEST_KEPT_BYTES = 64 << 20, 32 << 20
"""32 MiB is the most that glibc takes for M_MMAP_THRESHOLD on 64 bits (mallopt(3))."""
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


class Memory(NamedTuple):
    """Of one device, in bytes."""

    used: int
    """CPU: by this process. GPU: by everybody."""
    total: int


def memory_of(device: str) -> Memory | None:
    """What is used and what there is; None for a GPU that cannot be asked."""
    if device == CPU:
        return Memory(_resident_bytes(), _machine_bytes())
    if (torch := sys.modules.get("torch")) is not None:
        free, total = torch.cuda.mem_get_info(device)
        return Memory(total - free, total)
    gpu = gpu_of(device)
    return None if gpu is None else Memory(gpu.used_bytes, gpu.total_bytes)


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@cache
def _machine_bytes() -> int:
    """Of the machine, or of the container where that has less."""
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in _CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # not there, or "max"
            found = min(found, int(path.read_text(encoding="ascii")))
    return found


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory ran out, or was raised from an error that does."""
    if type(error).__module__.partition(".")[0] == "av":
        return False  # FFmpeg says so of sizes that a damaged file makes up
    if isinstance(error, MemoryError):
        return True
    # Of ours, and of those about a file, the text may hold a name that somebody gave.
    is_plain = not isinstance(error, EiokuError) and getattr(error, "filename", None) is None
    if is_plain and any(words in str(error).lower() for words in _SAID):
        return True
    return error.__cause__ is not None and is_out_of_memory(error.__cause__)


def killed_for_memory() -> int:
    """How many processes the kernel has killed for want of memory since it started; 0 where it does not say."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def keep_for_the_next() -> None:
    """Let this process keep up to 64 MiB that was freed, in pieces of at most 32 MiB: models ask for the same tensors and
    pictures frame after frame. As glibc has it, each larger one comes from the system, zeroed, and goes back to it.
    """
    with contextlib.suppress(AttributeError):  # not every C library has it
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def give_back() -> None:
    """Return what nobody uses any more to the system and the GPU: libraries keep it for themselves."""
    gc.collect()
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if (paddle := sys.modules.get("paddle")) is not None and paddle.device.is_compiled_with_cuda():
        paddle.device.cuda.empty_cache()
    trim()


def trim() -> None:
    """Return free memory of the process to the system; other C libraries than glibc have no such call."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
