"""Builds a read model again from the first event, beside the live one, and puts it in its place when they agree.

Reads and writes go on all the while. The new tables lie in a schema of their own, `read_next_<name>`, under their
final names; the swap is two `SET SCHEMA` a table in one short transaction. A rebuild that dies leaves the live tables
as they were, and the next one starts clean (ADR-0012).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Literal

import msgspec
import psycopg
import structlog
from psycopg import sql

from domain.errors import Conflict, InvalidParameter
from infrastructure.event_store.log import PostgresEventLog
from infrastructure.postgres.connections import connect
from projectors import PROJECTIONS
from projectors.checkpoint import digest, follower_of, lock, peek
from projectors.feed import STEP, Entry, read_entries
from projectors.metadata import READ_SCHEMA
from projectors.projection import Projection
from projectors.runner import work_connection
from projectors.tables import TableSum, copy_structure, sums

_LOCK_TIMEOUTS_MS = (100, 200, 200, 400, 400, 800, 800, *(1_500,) * 40)
"""Waiting for a table's lock makes its readers wait too, so tries are short; the long ones outlast an autovacuum,
which gives way after one second."""
_PAUSE_S = 0.05
_CATCH_UPS = 5

log = structlog.get_logger(__name__)

Phase = Literal["load", "compare", "catch up", "swap"]


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a rebuild is."""

    name: str
    phase: Phase
    position: int
    goal: int
    """Where the live read model is."""
    events_per_s: float
    eta_s: float | None
    """Seconds to the goal at this rate."""


class RebuildReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a rebuild came to."""

    name: str
    version: int
    position: int
    """At which live and rebuilt tables were compared."""
    live: dict[str, TableSum]
    """Table → rows and checksum."""
    rebuilt: dict[str, TableSum]
    differences: tuple[str, ...]
    """Tables that differ."""
    is_swapped: bool
    """Whether the rebuilt tables are the live ones now."""
    parked: int
    """Records that the rebuild could not digest."""
    seconds: float
    events_per_s: float
    swap_ms: float
    """How long the read model stood still; readers waited for a part of it at most."""


def projection_named(name: str) -> type[Projection]:
    """The projection of that name; raises InvalidParameter."""
    for projection in PROJECTIONS:
        if projection.name == name:
            return projection
    raise InvalidParameter("name", f"{name!r} is none of {', '.join(p.name for p in PROJECTIONS)}")


def rebuild(
    database_url: str,
    name: str,
    on_progress: Callable[[Progress], None] = lambda _: None,
    *,
    force: bool = False,
) -> RebuildReport:
    """Build the read model again and swap it in.

    When live and rebuilt differ at the same position though the version is the one that built the live tables, these
    stay and the report says what differs; `force` swaps all the same.

    Raises:
        InvalidParameter: no such projection.
        Conflict: it is being rebuilt already.
        psycopg.OperationalError: the database was lost, or a table stayed locked; the live tables are untouched.
    """
    with ExitStack() as stack:
        source = stack.enter_context(PostgresEventLog(database_url, pool_size=2))
        build = _Build(projection_named(name), source, database_url, on_progress)
        stack.enter_context(build.opened())
        live_position, live = build.load()
        rebuilt = build.sums()
        differences = tuple(table for table in live if live[table] != rebuilt[table])
        is_wanted = force or not differences or build.built_version() != build.projection.version
        swap_ms = build.swap() if is_wanted else 0.0
        report = RebuildReport(
            name=name,
            version=build.projection.version,
            position=live_position,
            live=live,
            rebuilt=rebuilt,
            differences=differences,
            is_swapped=is_wanted,
            parked=build.parked,
            seconds=build.seconds,
            events_per_s=build.rate,
            swap_ms=swap_ms,
        )
    log.info("projection.rebuilt", **msgspec.to_builtins(report))
    return report


class _Build:
    """One rebuild under way."""

    def __init__(
        self,
        projection: type[Projection],
        source: PostgresEventLog,
        database_url: str,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.projection, self.name = projection, projection.name
        self.parked = 0
        self._source, self._url, self._on_progress = source, database_url, on_progress
        self._instance = projection()
        self._tables = [str(table.name) for table in projection.tables]
        self._next, self._old = f"read_next_{self.name}", f"read_old_{self.name}"
        self._follower, self._live = follower_of(f"{self.name}@next"), follower_of(self.name)
        self._position = 0
        self._began = time.monotonic()

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Connections, empty tables; afterwards nothing is left of them but what was swapped in."""
        with (
            work_connection(self._url, f"rebuild {self.name}", search_path=self._next) as self._work,
            # Stands still in a transaction while the other connection compares and catches up.
            connect(
                self._url, application_name=f"eioku rebuild {self.name}", idle_in_transaction_timeout_ms=0
            ) as self._guard,
            ThreadPoolExecutor(1) as self._reader,
        ):
            if self._guard.execute(
                "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (f"eioku rebuild {self.name}",)
            ).fetchone() != (True,):
                raise Conflict(f"{self.name} is being rebuilt already")
            self._clean()
            self._work.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(self._next)))
            for table in self._tables:
                copy_structure(self._work, table, READ_SCHEMA, self._next)
            self._work.execute(
                "INSERT INTO es.tracking (application_name, notification_id) VALUES (%s, 0)",
                (self._follower,),
            )
            try:
                yield
            finally:
                self._clean()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._began

    @property
    def rate(self) -> float:
        """Positions a second."""
        return self._position / max(self.seconds, 1e-3)

    def built_version(self) -> int | None:
        """The version that made the live tables; None when nobody noted it."""
        row = self._guard.execute(
            "SELECT version FROM read.projection_state WHERE name = %s", (self.name,)
        ).fetchone()
        return None if row is None else int(row[0])

    def load(self) -> tuple[int, dict[str, TableSum]]:
        """Come to a position at which the live tables were; that position, and their sums at it."""
        self._come_near()
        with self._guard.transaction():
            # A snapshot: the live tables at their checkpoint, while they move on.
            self._guard.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            position = peek(self._guard, self._live)
            self._tell("compare", position)
            live = sums(self._guard, READ_SCHEMA, self._tables)
        self._advance(position, "catch up")
        return position, live

    def sums(self) -> dict[str, TableSum]:
        """Of the rebuilt tables."""
        return sums(self._work, self._next, self._tables)

    def swap(self) -> float:
        """Put the rebuilt tables in the place of the live ones; milliseconds that the live ones stood still."""
        for table in self._tables:
            self._work.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(self._next, table)))
        for tries_left, timeout_ms in reversed(list(enumerate(reversed(_LOCK_TIMEOUTS_MS)))):
            self._come_near()
            began = time.monotonic()
            try:
                with self._guard.transaction():
                    self._guard.execute(
                        sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(timeout_ms))
                    )
                    position = lock(self._guard, self._live)
                    self._advance(position, "catch up")
                    self._tell("swap", position)
                    self._exchange()
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                if not tries_left:
                    raise
                time.sleep(_PAUSE_S)
            else:
                return (time.monotonic() - began) * 1_000
        raise AssertionError

    def _exchange(self) -> None:
        run = self._guard.execute
        old, new, live = (sql.Identifier(schema) for schema in (self._old, self._next, READ_SCHEMA))
        names = [sql.Identifier(table) for table in self._tables]
        run(
            sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(
                sql.SQL(", ").join(sql.SQL("{}.{}").format(live, name) for name in names)
            )
        )
        run(sql.SQL("CREATE SCHEMA {}").format(old))
        for name in names:
            run(sql.SQL("ALTER TABLE {}.{} SET SCHEMA {}").format(live, name, old))
            run(sql.SQL("ALTER TABLE {}.{} SET SCHEMA {}").format(new, name, live))
        run(
            "INSERT INTO read.projection_state (name, version, built_at) VALUES (%s, %s, clock_timestamp())"
            " ON CONFLICT (name) DO UPDATE SET version = EXCLUDED.version, built_at = EXCLUDED.built_at",
            (self.name, self.projection.version),
        )
        # What nobody here can read was not asked for by the rebuild: it stays parked.
        run(
            "DELETE FROM read.parked WHERE projection = %s AND topic = ANY(%s)",
            (self.name, [*self.projection.topics, *self.projection.kinds]),
        )
        run("UPDATE read.parked SET projection = %s WHERE projection = %s", (self.name, f"{self.name}@next"))

    def _come_near(self) -> None:
        for _ in range(_CATCH_UPS):
            goal = peek(self._guard, self._live)
            self._advance(goal, "load")
            if peek(self._guard, self._live) - goal < STEP:
                return

    def _advance(self, goal: int, phase: Phase) -> None:
        """Apply what lies up to `goal`. The next stretch is read while one is applied."""
        reading = self._read(self._position) if self._position < goal else None
        while reading is not None:
            read = reading.result()
            entries = [entry for entry in read if entry.position <= goal]
            is_last = len(entries) < len(read) or not read
            upto = goal if is_last else entries[-1].position
            reading = None if upto >= goal else self._read(upto)
            if entries:
                self.parked += digest(
                    self._work,
                    self._instance,
                    entries,
                    follower=self._follower,
                    after=self._position,
                    upto=upto,
                    parked_as=f"{self.name}@next",
                )
            self._position = upto
            self._tell(phase, goal)

    def _read(self, after: int) -> "Future[list[Entry]]":
        kinds: Sequence[str] = [*self.projection.topics, *self.projection.kinds]
        return self._reader.submit(read_entries, self._source, after, kinds=kinds)

    def _tell(self, phase: Phase, goal: int) -> None:
        rate = self.rate
        self._on_progress(
            Progress(
                name=self.name,
                phase=phase,
                position=self._position,
                goal=goal,
                events_per_s=rate,
                eta_s=(goal - self._position) / rate if rate else None,
            )
        )

    def _clean(self) -> None:
        """Remove what this rebuild, or one that died, leaves behind. A reader may still be in an old table."""
        for tries_left, timeout_ms in reversed(list(enumerate(reversed(_LOCK_TIMEOUTS_MS)))):
            try:
                with self._guard.transaction():
                    self._guard.execute(
                        sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(timeout_ms))
                    )
                    for schema in (self._next, self._old):
                        self._guard.execute(
                            sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema))
                        )
                    self._guard.execute(
                        "DELETE FROM es.tracking WHERE application_name = %s", (self._follower,)
                    )
                    self._guard.execute(
                        "DELETE FROM read.parked WHERE projection = %s", (f"{self.name}@next",)
                    )
            except psycopg.errors.LockNotAvailable:
                if not tries_left:
                    raise
                time.sleep(_PAUSE_S)
            else:
                return
