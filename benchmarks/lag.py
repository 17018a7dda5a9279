"""Append → visible in a read model, milliseconds: 100 appends a second of one event, then of one batch of 100.

    python -m benchmarks.lag [--appends 500]

The projectors are a process of their own. Visible = another connection sees the row; it looks every millisecond.
"""

import argparse
import threading
import time
from datetime import UTC, datetime
from uuid import uuid4

from application.handle import decide
from application.ports import LogItem
from benchmarks import stand, w1
from benchmarks.http_load import percentile
from domain.artifacts.envelope import ArtifactBatch
from domain.event import Meta
from domain.run import artifacts_stream_of
from domain.video import RegisterVideo
from eioku.settings import Settings
from infrastructure.event_store.log import PostgresEventLog


def _lags_ms(settings: Settings, log: PostgresEventLog, appends: list[list[LogItem]], follower: str) -> list[float]:
    """Milliseconds from the end of each append to the follower's checkpoint passing it."""
    done: list[tuple[float, int]] = []
    seen: list[tuple[float, int]] = []
    stop = threading.Event()

    def watch() -> None:
        with stand.connect(settings) as connection:
            last = 0
            while not stop.is_set():
                row = connection.execute(
                    "SELECT notification_id FROM es.tracking WHERE application_name = %s", (follower,)
                ).fetchone()
                position = int(str(row[0])) if row else 0
                if position != last:
                    seen.append((time.perf_counter(), position))
                    last = position
                time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    next_at = time.perf_counter()
    for items in appends:
        next_at += 0.01
        time.sleep(max(0.0, next_at - time.perf_counter()))
        position = log.append(items)
        done.append((time.perf_counter(), position))
    while not seen or seen[-1][1] < done[-1][1]:
        time.sleep(0.01)
    stop.set()
    watcher.join()
    lags, n = [], 0
    for at, position in done:
        while seen[n][1] < position:
            n += 1
        lags.append(max(0.0, (seen[n][0] - at) * 1e3))
    return lags


def _registrations(log: PostgresEventLog, count: int) -> list[list[LogItem]]:
    meta = Meta(at=datetime.now(UTC), actor="system:benchmark", correlation_id=uuid4())
    commands = (RegisterVideo(stream_id=uuid4(), meta=meta, source=f"/f/{n}.mp4", filename=f"{n}.mp4", pipeline=()) for n in range(count))
    return [list(decide(log, command)) for command in commands]


def _batches(count: int) -> list[list[LogItem]]:
    batches = []
    for film in w1.films(10_000, seed=3):
        for item in w1.history(film):
            if isinstance(item, ArtifactBatch) and item.head.artifact_type == "object.detection" and item.first_version == 1:
                assert artifacts_stream_of(item.head.run_id)
                batches.append([item])
        if len(batches) >= count:
            return batches[:count]
    raise AssertionError


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="append to visible")
    parser.add_argument("--appends", type=int, default=500)
    count = parser.parse_args().appends
    rows = []
    with stand.services() as settings, stand.role(settings, "projector"):
        assert settings.database_url is not None
        with PostgresEventLog(settings.database_url) as log:
            _lags_ms(settings, log, _registrations(log, 50), "projection:videos")
            one = _lags_ms(settings, log, _registrations(log, count), "projection:videos")
            many = _lags_ms(settings, log, _batches(count), "projection:object_labels")
    for name, lags in (("one event → videos", one), ("200 artifacts → object_labels", many)):
        rows.append((name, percentile(lags, 0.5), percentile(lags, 0.9), percentile(lags, 0.99), max(lags)))
    stand.show("append → visible, 100 appends/s, ms", ("", "p50", "p90", "p99", "max"), rows)


if __name__ == "__main__":
    main()
