"""A long film through every task: does memory stay flat, does anything time out?

    python -m benchmarks.soak [--minutes 120] [--warm-up 120] [--task NAME …]

A film as long goes first, so that everything is loaded and every list has been as long as it gets, and an import, for
nats-server keeps the block of a stream that it is writing in memory, up to 8 MB. Then memory is compared at rest, before the
film and after it, and at the film's start and end for what works all the time. Ctrl-C ends it with what was seen so far.
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
from eioku.client import Client

_FLAT = 0.05
"""Share by which a process may be larger or smaller afterwards."""
_EDGE = 0.05
"""Share of the samples that are the start, and the end."""
_REST_S, _LOOK_S = 180, 30
"""Nothing is asked for so long, before the film and after it, and memory is looked at towards the end: Go, say, gives back
what it does not need every two minutes (runtime: forcegcperiod)."""
_WORKS = 0.05
"""CPU-seconds a second from which on a process counts as working."""
_IMPORTS, _IMPORTED = 400, 200
"""Requests, and artifacts in each: nats-server was level after 60,000 artifacts."""
_SMALL_MB = 5.0
"""Change that is none, whatever the share: an allocator's page more or less."""

_NOTABLE_MB = 10.0
"""Smaller processes are listed only when they are not flat."""
_WELL = ("completed", "unavailable")


def main() -> int:
    """Measure and print; 1 when memory was not flat or a task did not complete."""
    parser = argparse.ArgumentParser(description="memory over a long film")
    parser.add_argument("--minutes", type=int, default=120)
    parser.add_argument("--warm-up", type=int, default=120)
    parser.add_argument("--task", action="append", choices=list(BY_NAME))
    given = parser.parse_args()
    pipeline = ["metadata_extraction", *(name for name in given.task or BY_NAME if name != "metadata_extraction")]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        begin = time.process_time()
        # Told once more: the same film again would be a duplicate, and nothing would be done.
        first = clips.long_film(folder / "first.mp4", seconds=given.warm_up * 60 + clips.STORY_S)
        film = clips.long_film(folder / "film.mp4", seconds=given.minutes * 60)
        print(f"{film.stat().st_size / 1e6:.0f} MB of film made in {time.process_time() - begin:.0f} CPU-s", flush=True)
        with program.running(folder) as (_, client), Sampler() as sampler:
            print(f"warming up on {given.warm_up} minutes", flush=True)
            video_id = program.register(client, first, pipeline)
            program.finish(client, video_id, pipeline, is_told=True)
            _import(client, video_id)
            time.sleep(_REST_S)
            print(f"{given.minutes} minutes", flush=True)
            began_s, before = sampler.now_s, sampler.cpu_by_name()
            video_id = program.register(client, film, pipeline)
            try:
                tasks = program.finish(client, video_id, pipeline, is_told=True)
            except KeyboardInterrupt:
                tasks = program.tasks_of(client, video_id)
            ended_s, after = sampler.now_s, sampler.cpu_by_name()
            figures = program.metrics(client, video_id)
            time.sleep(_REST_S)
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


def _import(client: Client, video_id: str) -> None:
    box = {"label": "ball", "confidence": 0.9, "box": [0.1, 0.1, 0.2, 0.2]}
    for number in range(_IMPORTS):
        times = range(number * _IMPORTED, (number + 1) * _IMPORTED)
        client.post(
            f"/v1/videos/{video_id}/imports",
            {
                "producer": "soak",
                "producer_version": "1",
                "artifacts": [
                    {"artifact_type": "object.detection", "schema_version": 1, "span_start_ms": at_ms, "span_end_ms": at_ms,
                     "payload": box | {"frame_index": at_ms}}
                    for at_ms in times
                ],
            },
        )  # fmt: skip


def _show_memory(processes: list[Process], began_s: float, ended_s: float) -> list[str]:
    """Print what each process had; the names of those that were not flat."""
    uneven, rows = [], []
    together = [0.0, 0.0]
    for process in sorted(processes, key=lambda one: -one.peak_mb):
        before, seen, after = (
            [sample for sample in process.samples if since_s <= sample.at_s < until_s]
            for since_s, until_s in (
                (began_s - _LOOK_S, began_s), (began_s, ended_s), (ended_s + _REST_S - _LOOK_S, ended_s + _REST_S),
            )
        )  # fmt: skip
        if len(seen) < 20 or not before or not after:  # a database connection that came and went
            continue
        edge = max(5, int(len(seen) * _EDGE))
        rest, start, end, rested = (_size_mb(part) for part in (before, seen[:edge], seen[-edge:], after))
        together = [together[0] + rest, together[1] + rested]
        works = all(_cpu_share(part) > _WORKS for part in (seen[:edge], seen[-edge:]))
        is_flat = _is_flat(rest, rested) and not (works and not _is_flat(start, end))
        if is_flat and max(rest, rested) < _NOTABLE_MB:
            continue
        if not is_flat:
            uneven.append(process.name)
        rows.append((
            process.name, rest, rested, _change(rest, rested), start, end, _change(start, end) if works else "",
            max(sample.size_mb for sample in seen), _slope(seen), process.peak_mb, "" if is_flat else "NOT FLAT",
        ))  # fmt: skip
    if not rows:
        print("the film was too short to say anything about memory")
        return ["all"]
    rows.append(("all together", *together, _change(*together), *[""] * 7))
    stand.show(
        f"memory, MB (goal: within {_FLAT:.0%}, at rest and where one works all the time; Postgres' shared buffers not counted)",
        ("process", "before", "after", "", "at the start", "at the end", "", "most", "MB/h", "VmHWM", ""),
        rows,
    )
    return uneven


def _size_mb(samples: list[Sample]) -> float:
    return median(sample.size_mb for sample in samples)


def _cpu_share(samples: list[Sample]) -> float:
    return (samples[-1].cpu_s - samples[0].cpu_s) / (samples[-1].at_s - samples[0].at_s)


def _is_flat(before_mb: float, after_mb: float) -> bool:
    return abs(after_mb - before_mb) <= max(_FLAT * before_mb, _SMALL_MB)


def _change(before_mb: float, after_mb: float) -> str:
    return f"{100 * (after_mb / before_mb - 1):+.1f} %"


def _slope(seen: list[Sample]) -> float:
    """MB an hour, by least squares."""
    return 3600 * linear_regression([sample.at_s for sample in seen], [sample.size_mb for sample in seen]).slope


if __name__ == "__main__":
    sys.exit(main())
