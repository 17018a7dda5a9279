"""A long film through every task: does memory stay flat, does anything time out?

    python -m benchmarks.soak [--minutes 120] [--warm-up 8] [--task NAME …]

A shorter film goes first, so that everything is loaded and every buffer has been as large as it gets. Ctrl-C ends it with
what was seen so far.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import linear_regression, median

from benchmarks import clips, program, stand
from benchmarks.processes import Process, Sample, Sampler
from domain.pipeline import BY_NAME, FAMILIES

_FLAT = 0.05
"""Share by which a process may be larger or smaller at the end than at the start."""
_EDGE = 0.05
"""Share of the samples that are the start, and the end."""
_SMALL_MB = 5.0
"""Change that is none, whatever the share: an allocator's page more or less."""

_NOTABLE_MB = 10.0
"""Smaller processes are listed only when they are not flat."""
_WELL = ("completed", "unavailable")


def main() -> int:
    """Measure and print; 1 when memory was not flat or a task did not complete."""
    parser = argparse.ArgumentParser(description="memory over a long film")
    parser.add_argument("--minutes", type=int, default=120)
    parser.add_argument("--warm-up", type=int, default=8)
    parser.add_argument("--task", action="append", choices=list(BY_NAME))
    given = parser.parse_args()
    pipeline = ["metadata_extraction", *(name for name in given.task or BY_NAME if name != "metadata_extraction")]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        begin = time.process_time()
        first = clips.long_film(folder / "first.mp4", seconds=given.warm_up * 60)
        film = clips.long_film(folder / "film.mp4", seconds=given.minutes * 60)
        print(f"{film.stat().st_size / 1e6:.0f} MB of film made in {time.process_time() - begin:.0f} CPU-s", flush=True)
        with program.running(folder) as (_, client), Sampler() as sampler:
            print(f"warming up on {given.warm_up} minutes", flush=True)
            program.finish(client, program.register(client, first, pipeline), pipeline, is_told=True)
            print(f"{given.minutes} minutes", flush=True)
            began_s, before = sampler.now_s, sampler.cpu_by_name()
            video_id = program.register(client, film, pipeline)
            try:
                tasks = program.finish(client, video_id, pipeline, is_told=True)
            except KeyboardInterrupt:
                tasks = program.tasks_of(client, video_id)
            ended_s, after = sampler.now_s, sampler.cpu_by_name()
            figures = program.metrics(client, video_id)
    stand.show(
        f"{given.minutes} minutes of film, {ended_s - began_s:.0f} s of wall",
        ("task", "ended", "attempts", "wall s", "x real time"),
        [
            (name, task["status"], task["attempts"], seconds := figures.get(name, {}).get("seconds", 0.0),
             given.minutes * 60 / seconds if seconds else "")
            for name, task in tasks.items()
        ],
    )  # fmt: skip
    stand.show(
        "CPU-seconds, loading and warming up left out",
        ("family", "CPU-s", "per minute of film"),
        [(name, cpu, cpu / given.minutes) for name, cpu in _by_family(before, after).items()],
    )
    uneven = _show_memory([*sampler.processes.values()], began_s, ended_s)
    failed = [name for name, task in tasks.items() if task["status"] not in _WELL or task["attempts"] > 1]
    if failed:
        print(f"not completed at once: {', '.join(failed)}")
    return 1 if uneven or failed else 0


def _by_family(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, cpu in after.items():
        family = next((f"worker {family}" for family in FAMILIES if name.startswith(f"eioku worker {family}")), "everything else")
        found[family] = found.get(family, 0.0) + cpu - before.get(name, 0.0)
    return found


def _show_memory(processes: list[Process], began_s: float, ended_s: float) -> list[str]:
    """Print what each process had; the names of those that were not flat."""
    uneven, rows = [], []
    together = [0.0, 0.0]
    for process in sorted(processes, key=lambda one: -one.peak_mb):
        seen = [sample for sample in process.samples if began_s <= sample.at_s <= ended_s]
        if len(seen) < 20 or process.samples[0].at_s > began_s:  # a database connection that came and went
            continue
        edge = max(5, int(len(seen) * _EDGE))
        start, end = (median(sample.size_mb for sample in part) for part in (seen[:edge], seen[-edge:]))
        together = [together[0] + start, together[1] + end]
        is_flat = abs(end - start) <= max(_FLAT * start, _SMALL_MB)
        if is_flat and max(start, end) < _NOTABLE_MB:
            continue
        if not is_flat:
            uneven.append(process.name)
        rows.append((process.name, start, end, f"{100 * (end / start - 1):+.1f} %", max(s.size_mb for s in seen),
                     _slope(seen), process.peak_mb, "" if is_flat else "NOT FLAT"))  # fmt: skip
    if rows:
        rows.append(("all together", *together, f"{100 * (together[1] / together[0] - 1):+.1f} %", "", "", "", ""))
    stand.show(
        f"memory, MB (goal: the end within {_FLAT:.0%} of the start; Postgres' shared buffers not counted)",
        ("process", "start", "end", "change", "most", "MB/h", "VmHWM", ""),
        rows,
    )
    return uneven


def _slope(seen: list[Sample]) -> float:
    """MB an hour, by least squares."""
    return 3600 * linear_regression([sample.at_s for sample in seen], [sample.size_mb for sample in seen]).slope


if __name__ == "__main__":
    sys.exit(main())
