"""The whole pipeline on a minute of 768×432 against the bare calls of its models, in CPU-seconds.

    python -m benchmarks producers [--rounds 2]

The real program does every task: once one by one, then `rounds` times all together, as a user has it. After each round the
model calls alone are made again (`benchmarks.bare`), one process a family and beside each other, as the program's are: set up as workers are,
which is what the program is held against, and as a plain script makes them, whose threads spin while they wait. Loading, and what the program takes when it has nothing to do, are
told apart and not counted. CPU-seconds of all threads are what to look at; wall is only as good as the machine is quiet.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from application.messages import SourceText
from benchmarks import clips, program, stand
from benchmarks.bare import Bare
from benchmarks.processes import Sampler
from domain.pipeline import BY_NAME, FAMILIES
from eioku import bootstrap
from eioku.client import Client
from tests.support.produce import Wish
from workers.producer import ModelPlaces

_SECONDS = 60
_RATIO, _CPU_A_MINUTE = 1.15, 30.0
_PEAK_MB = {"asr": 500.0, "ocr": 900.0, "torch": 1600.0}
_SETTLE_S, _IDLE_S = 2.0, 10.0
_TEXT_TYPES = ("transcript.segment", "ocr.text")
_OTHERS = "everything else"
Cpu = dict[str, float]
"""CPU-seconds by family, and of `_OTHERS`: API, relay, ingester, projector, Postgres, NATS."""


class Meter:
    """CPU of the program by family, without what it takes when it has nothing to do."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self.idle: Cpu = {}
        """CPU-seconds a second."""

    def total(self) -> Cpu:
        """Since the start."""
        found = dict.fromkeys((*FAMILIES, _OTHERS), 0.0)
        for name, cpu in self._sampler.cpu_by_name().items():
            family = next((family for family in FAMILIES if name.startswith(f"eioku worker {family}")), _OTHERS)
            found[family] += cpu
        return found

    def measure_idle(self) -> None:
        """Look at it doing nothing."""
        before = self.total()
        time.sleep(_IDLE_S)
        self.idle = {family: (cpu - before[family]) / _IDLE_S for family, cpu in self.total().items()}

    def of(self, work: Any) -> tuple[Cpu, float]:
        """(CPU-seconds of `work()`, its wall seconds until everything is still)."""
        before, began = self.total(), time.monotonic()
        work()
        wall = time.monotonic() - began
        time.sleep(_SETTLE_S)  # read models, checkpoints
        took = time.monotonic() - began
        return {family: cpu - before[family] - self.idle[family] * took for family, cpu in self.total().items()}, wall


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="the pipeline against the bare calls of its models")
    parser.add_argument("--rounds", type=int, default=2)
    rounds = parser.parse_args().rounds
    pipeline = list(BY_NAME)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        film = clips.minute(folder / "minute.mp4")
        copies = [_copy(film, number) for number in range(rounds + 2)]
        with program.running(folder) as (tree, client), Sampler() as sampler:
            meter = Meter(sampler)
            ended = program.finish(client, program.register(client, copies[0], pipeline), pipeline)
            left_out = {name: task["error"] or task["remedy"] for name, task in ended.items() if task["status"] != "completed"}
            doing = [name for name in pipeline if name not in left_out]
            time.sleep(_SETTLE_S)
            loading = meter.total()
            meter.measure_idle()
            single = _one_by_one(client, meter, copies[1], doing)
            together: list[tuple[Cpu, float]] = []
            spared: list[list[Bare]] = []
            plain: list[list[Bare]] = []
            for copy in copies[2:]:
                together.append(meter.of(lambda: _all_tasks(client, copy, doing)))  # noqa: B023
                video_id = program.id_of(client, copy)
                figures = program.metrics(client, video_id)
                places, texts = bootstrap.model_places(tree.settings), _texts(client, video_id)
                spared.append(_bare(copy, doing, places, texts, "spared"))
                plain.append(_bare(copy, doing, places, texts))
            sampler.look()
        _show_whole(together, spared, plain)
        _show_tasks(doing, single, spared, figures)
        _show_processes(sampler, loading, meter.idle)
    for name, why in left_out.items():
        print(f"left out: {name}: {why}")


def _copy(film: Path, number: int) -> Path:
    """The same film in other bytes, so that it is not taken for a duplicate: an empty box more."""
    path = film.with_name(f"copy-{number}.mp4")
    path.write_bytes(film.read_bytes() + (16).to_bytes(4, "big") + b"free" + number.to_bytes(8, "big"))
    return path


def _all_tasks(client: Client, film: Path, pipeline: list[str]) -> None:
    program.finish(client, program.register(client, film, pipeline), pipeline)


def _one_by_one(client: Client, meter: Meter, film: Path, tasks: list[str]) -> dict[str, tuple[Cpu, float]]:
    found = {tasks[0]: meter.of(lambda: _all_tasks(client, film, tasks[:1]))}
    video_id = program.id_of(client, film)
    for name in tasks[1:]:
        found[name] = meter.of(lambda: program.ask(client, video_id, name))  # noqa: B023
    return found


def _texts(client: Client, video_id: str) -> tuple[SourceText, ...]:
    found = [
        SourceText(one["artifact_id"], kind, one["span_start_ms"], one["span_end_ms"], one["payload"]["text"])
        for kind in _TEXT_TYPES
        for one in client.pages(f"/v1/videos/{video_id}/artifacts", "artifacts", type=kind, limit=100)
    ]
    return tuple(sorted(found, key=lambda text: text.start_ms))


def _bare(
    film: Path, tasks: Iterable[str], models: ModelPlaces, texts: tuple[SourceText, ...], *how: str
) -> list[Bare]:
    """The calls of each family in a process of its own, beside each other."""
    with ExitStack() as stack:
        calls: list[subprocess.Popen[bytes]] = []
        for family in FAMILIES:
            wishes = [
                Wish(task_type=name, path=os.fsencode(film), models=models, texts=texts)
                for name in tasks
                if BY_NAME[name].family == family
            ]
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.bare", family, *how],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            stack.enter_context(process)  # closes its input, and waits for its end
            calls.append(process)
            _ask(process, msgspec.json.encode(wishes, enc_hook=str))
        for process in calls:
            _answer(process)  # it is ready
        for process in calls:
            _ask(process)
        return [bare for process in calls for bare in _answer(process)]


def _ask(process: subprocess.Popen[bytes], line: bytes = b"") -> None:
    assert process.stdin is not None
    process.stdin.write(line + b"\n")
    process.stdin.flush()


def _answer(process: subprocess.Popen[bytes]) -> list[Bare]:
    assert process.stdout is not None
    if not (line := process.stdout.readline()):
        raise RuntimeError(f"{process.args!r} ended before it answered")
    return msgspec.json.decode(line, type=list[Bare])


# ---- what is printed ---------------------------------------------------------------------------------------------


def _show_whole(together: list[tuple[Cpu, float]], spared: list[list[Bare]], plain: list[list[Bare]]) -> None:
    def of_models(round_: list[Bare], *families: str) -> float:
        return sum(bare.cpu_s for bare in round_ if bare.task_type in BY_NAME and BY_NAME[bare.task_type].family in families)

    def row(name: str, ours: list[float], goal: str, *families: str) -> tuple[object, ...]:
        columns: list[object] = [name, median(ours)]
        for rounds in (spared, plain):
            models = [of_models(round_, *families) for round_ in rounds]
            ratios = [one / bare for one, bare in zip(ours, models, strict=True) if bare]
            columns += [median(models), median(ratios) if ratios else ""]
        return (*columns, goal)

    workers = [sum(cpu[family] for family in FAMILIES) for cpu, _ in together]
    ratios = [ours / of_models(bare, *FAMILIES) for ours, bare in zip(workers, spared, strict=True)]
    decoding = median(bare.cpu_s for round_ in spared for bare in round_ if bare.task_type == "decode")
    print(f"ratio {median(ratios):.2f} (goal ≤ {_RATIO}; rounds {', '.join(f'{one:.2f}' for one in ratios)})")
    print(f"decoding once: {decoding:.2f} CPU-s, not among the bare calls")
    stand.show(
        f"all tasks together on {_SECONDS} s of 768×432; wall {', '.join(f'{wall:.0f} s' for _, wall in together)}",
        ("CPU-seconds, median of rounds", "program", "bare calls", "ratio", "plain script", "ratio", "goal"),
        [
            *(row(f"worker {family}", [cpu[family] for cpu, _ in together], "", family) for family in FAMILIES),
            row("all workers", workers, f"≤ {_RATIO}", *FAMILIES),
            (f"{_OTHERS} (log, queue, API)", median(cpu[_OTHERS] for cpu, _ in together), "", "", "", "", ""),
            row("in all", [sum(cpu.values()) for cpu, _ in together], f"≤ {_CPU_A_MINUTE:g} CPU-s a minute of film", *FAMILIES),
        ],
    )


def _show_tasks(
    tasks: list[str], single: dict[str, tuple[Cpu, float]], bare_rounds: list[list[Bare]], figures: dict[str, dict[str, float]]
) -> None:
    rows = []
    for name in tasks:
        cpu, wall = single[name]
        ours = cpu[BY_NAME[name].family]
        same = [one for round_ in bare_rounds for one in round_ if one.task_type == name]
        bare, whole = median(one.cpu_s for one in same), median(one.producer_cpu_s for one in same)
        frames = figures.get(name, {}).get("frames_read") or figures.get(name, {}).get("frames") or 0.0
        rows.append((
            name, ours, whole, bare, ours / bare if bare >= 0.05 else "", int(frames) or "", 1000 * ours / frames if frames else "",
            _SECONDS / ours if ours > 0 else "", wall, cpu[_OTHERS],
        ))  # fmt: skip
    stand.show(
        "one task at a time (× real time: seconds of film a CPU-second)",
        ("task", "CPU-s", "in the bare process", "bare calls", "ratio", "frames", "CPU-ms a frame", "× real time", "wall s", f"CPU-s {_OTHERS}"),
        rows,
    )


def _show_processes(sampler: Sampler, loading: Cpu, idle: Cpu) -> None:
    peaks: dict[str, float] = {}
    for process in sampler.processes.values():
        peaks[process.name] = max(peaks.get(process.name, 0.0), process.peak_mb)
    rows: list[tuple[object, ...]] = []
    for family in FAMILIES:
        goal = _PEAK_MB.get(family)
        rows.append((
            f"worker {family}", peaks.get(f"eioku worker {family}: compute", 0.0), f"≤ {goal:g}" if goal else "",
            peaks.get(f"eioku worker {family}", 0.0), loading[family], 1000 * idle[family],
        ))  # fmt: skip
    rows.append((_OTHERS, "", "", "", loading[_OTHERS], 1000 * idle[_OTHERS]))
    stand.show(
        "processes",
        ("", "computing, VmHWM MB", "goal", "parent, VmHWM MB", "CPU-s to load and warm up", "idle, CPU-ms a second"),
        rows,
    )


if __name__ == "__main__":
    main()
