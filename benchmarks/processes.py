"""What processes take: CPU, memory of their own, their peak; of a whole tree, sampled every second."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self

_TICKS = os.sysconf("SC_CLK_TCK")


def descendants(pid: int) -> list[int]:
    """Processes that it started, and those that they started."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:  # the thread has ended meanwhile
            continue
        for child in children:
            found += [int(child), *descendants(int(child))]
    return found


def name_of(pid: int) -> str:
    """ "eioku worker light", "eioku worker light: compute" for its computing process, else the program's file name."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    if "eioku" in words:
        return "eioku " + " ".join(w for w in words[words.index("eioku") + 1 :] if w and not w.startswith("-"))[:40]
    if "--multiprocessing-fork" in words:
        return f"{name_of(_parent(pid))}: compute"
    if any("resource_tracker" in word for word in words):
        return f"{name_of(_parent(pid))}: tracker"
    return (words[0].rsplit("/", 1)[-1] or "?")[:60].split(":")[0]


def own_mb(pid: int) -> float:
    """Memory of the process in MB: anonymous and file pages, its share where it shares. Postgres' buffers are left out:
    they are one block of shared memory, which counts as resident in every backend that has touched it."""
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {name: int(rest.split()[0]) for name, rest in (row.split(":", 1) for row in rows)}
    return (sizes["Pss_Anon"] + sizes["Pss_File"]) / 1024


def resident_mb(pid: int) -> float:
    """The same but for pages that it shares, which count in full. Costs the kernel nothing to tell."""
    return _status_mb(pid, "RssAnon:") + _status_mb(pid, "RssFile:")


def peak_mb(pid: int) -> float:
    """The most that was ever resident (VmHWM), MB."""
    return _status_mb(pid, "VmHWM:")


def _status_mb(pid: int, field: str) -> float:
    return int(Path(f"/proc/{pid}/status").read_text().split(field)[1].split()[0]) / 1024


def cpu_s(pid: int) -> float:
    """CPU-seconds of all its threads, ended ones too; not of its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


class Sample(NamedTuple):
    """One look at one process."""

    at_s: float
    """Since the sampler began."""
    size_mb: float
    cpu_s: float


class Process:
    """A process and what was seen of it."""

    def __init__(self, pid: int) -> None:
        self.pid, self.name = pid, ""
        self.samples: list[Sample] = []
        self.peak_mb = 0.0


class Sampler(threading.Thread):
    """Looks at every process below this one once a second; a context manager.

    `size_mb` is what it takes for a process' memory.
    """

    def __init__(self, size_mb: Callable[[int], float] = resident_mb) -> None:
        super().__init__(name="sampler", daemon=True)
        self._size_mb = size_mb
        self.processes: dict[int, Process] = {}
        self._began = time.monotonic()
        self._ending = threading.Event()
        self._looking = threading.Lock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self.join()

    def run(self) -> None:
        """Sample until the context is left."""
        while not self._ending.wait(1):
            self.look()

    @property
    def now_s(self) -> float:
        """On the clock of the samples."""
        return time.monotonic() - self._began

    def look(self) -> None:
        """Sample now."""
        with self._looking:
            for pid in descendants(os.getpid()):
                try:
                    process = self.processes.get(pid) or Process(pid)
                    process.name = name_of(pid)  # it changes with exec
                    process.samples.append(Sample(self.now_s, self._size_mb(pid), cpu_s(pid)))
                    process.peak_mb = peak_mb(pid)
                except (OSError, KeyError, IndexError):  # it has ended meanwhile
                    continue
                self.processes[pid] = process

    def cpu_by_name(self) -> dict[str, float]:
        """CPU-seconds until now; of processes that have ended, until they were last seen."""
        self.look()
        found: dict[str, float] = {}
        for process in list(self.processes.values()):
            found[process.name] = found.get(process.name, 0.0) + process.samples[-1].cpu_s
        return found
