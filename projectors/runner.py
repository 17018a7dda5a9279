"""Lets projections follow the log. Each has a thread, a connection and a checkpoint; all share one reader."""

import threading
from collections.abc import Callable, Sequence

import psycopg
import structlog

from domain.errors import ServiceUnavailable
from infrastructure.event_store.log import PostgresEventLog
from infrastructure.postgres.connections import connect
from infrastructure.postgres.listen import POLL_S
from projectors import PROJECTIONS
from projectors.checkpoint import CHANNEL, Overtaken, digest, follower_of, peek, start
from projectors.feed import Feed
from projectors.metadata import READ_SCHEMA
from projectors.projection import Projection

_STANDBY_S = 0.5
"""How often one that stands by tries to take over."""
_BACK_OFF_S = (0.1, 0.3, 1.0, 3.0, 10.0)
_BEAT_S = 1.0
_IDLE_S = 0.01
"""Pause between two writes of the checkpoints of projections that had nothing to do."""

log = structlog.get_logger(__name__)


def run_projections(
    database_url: str,
    stop: threading.Event,
    *,
    projections: Sequence[type[Projection]] = PROJECTIONS,
    beat: Callable[[], None] = lambda: None,
) -> None:
    """Follow the log with these projections until `stop` is set. `beat` is called each second meanwhile.

    Each projection has one runner in the whole deployment: where another process has it, this one stands by.
    """
    with PostgresEventLog(database_url, pool_size=2) as source:
        feed = Feed(source, database_url)
        followers = [Follower(projection(), feed, database_url, stop) for projection in projections]
        idlers = Idlers(followers, database_url, stop)
        for follower in followers:
            follower.on_idle = idlers.wake
        threads = [
            threading.Thread(target=feed.watch, args=(stop,), name="feed"),
            threading.Thread(target=idlers.run, name="idlers"),
            *(threading.Thread(target=follower.run, name=follower.name) for follower in followers),
        ]
        for thread in threads:
            thread.start()
        while not stop.wait(_BEAT_S):
            beat()
        for thread in threads:
            while thread.is_alive():
                beat()
                thread.join(_BEAT_S)


def work_connection(database_url: str, name: str, search_path: str = READ_SCHEMA) -> psycopg.Connection:
    """A connection for a projection's writes.

    Commits do not wait for the disk: rows and checkpoint are lost together or not at all, and the log has it all.
    """
    connection = connect(database_url, application_name=f"eioku projector {name}", search_path=search_path)
    connection.execute("SET synchronous_commit = off")
    return connection


class Follower:
    """One projection on its way through the log."""

    def __init__(self, projection: Projection, feed: Feed, database_url: str, stop: threading.Event) -> None:
        self.projection, self.name = projection, projection.name
        self.follower = follower_of(self.name)
        self.position = 0
        """All up to here is applied or does not concern the projection."""
        self.saved = 0
        """The checkpoint as far as we know; behind `position` while nothing concerned the projection."""
        self.is_active = False
        """Whether we, and not another process, have the projection."""
        self.on_idle: Callable[[], None] = lambda: None
        self._feed, self._url, self._stop = feed, database_url, stop
        self._failures = 0

    def run(self) -> None:
        """Follow until stopped, through lost connections and whatever else happens."""
        while not self._stop.is_set():
            try:
                with work_connection(self._url, self.name) as connection:
                    if self._take(connection):
                        self._follow(connection)
            except (psycopg.OperationalError, ServiceUnavailable) as error:
                self._back_off("projection.interrupted", error)
            except Exception as error:  # noqa: BLE001 - shown as the projection's error; the thread must outlive it
                self._back_off("projection.stuck", error)
                self._show(f"{type(error).__name__}: {error}")
            finally:
                self.is_active = False

    def _take(self, connection: psycopg.Connection) -> bool:
        """Whether the projection is ours now; waits while another process has it. The lock ends with the connection."""
        while not self._stop.is_set():
            row = connection.execute(
                "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (f"eioku {self.follower}",)
            ).fetchone()
            if row == (True,):
                self.position = self.saved = start(connection, self.follower)
                connection.execute(
                    "INSERT INTO projection_state (name, version) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                    (self.name, self.projection.version),
                )
                self.is_active = True
                log.info("projection.following", projection=self.name, position=self.position)
                return True
            self._stop.wait(_STANDBY_S)
        return False

    def _follow(self, connection: psycopg.Connection) -> None:
        while not self._stop.is_set():
            if self._feed.head <= self.position:
                self._feed.wait(self.position, POLL_S)
                continue
            stretch = self._feed.read(self.position)
            wanted = stretch.wanted_by(type(self.projection))
            if not wanted:
                self.position = stretch.upto
                self.on_idle()
                continue
            try:
                parked = digest(
                    connection,
                    self.projection,
                    wanted,
                    follower=self.follower,
                    after=stretch.after,
                    upto=stretch.upto,
                    parked_as=self.name,
                )
            except Overtaken as error:
                self.position = self.saved = error.position
                continue
            self.position = self.saved = stretch.upto
            if parked:
                log.error("projection.parked", projection=self.name, records=parked, upto=stretch.upto)
            if self._failures:
                self._failures = 0
                self._show(None)

    def _back_off(self, event: str, error: Exception) -> None:
        wait = _BACK_OFF_S[min(self._failures, len(_BACK_OFF_S) - 1)]
        self._failures += 1
        log.warning(event, projection=self.name, error=str(error), again_in_s=wait)
        self._stop.wait(wait)

    def _show(self, error: str | None) -> None:
        """Let health tell what stops the projection."""
        try:
            with connect(self._url) as connection:
                connection.execute(
                    "INSERT INTO read.projection_state (name, version, error, error_at)"
                    " VALUES (%(name)s, %(version)s, %(error)s, clock_timestamp()) ON CONFLICT (name)"
                    " DO UPDATE SET error = EXCLUDED.error, error_at = EXCLUDED.error_at",
                    {"name": self.name, "version": self.projection.version, "error": error},
                )
        except psycopg.Error as failure:
            log.warning("projection.error_not_noted", projection=self.name, error=str(failure))


class Idlers:
    """Moves the checkpoints of projections that nothing concerned, all in one statement, so that waits for a position
    end. Rows that are locked (a projection at work, a rebuild comparing) are left for the next time.
    """

    def __init__(self, followers: Sequence[Follower], database_url: str, stop: threading.Event) -> None:
        self._followers, self._url, self._stop = followers, database_url, stop
        self._woken = threading.Event()

    def wake(self) -> None:
        """Some projection has seen something that does not concern it."""
        self._woken.set()

    def run(self) -> None:
        """Move them on until stopped."""
        while not self._stop.is_set():
            try:
                with work_connection(self._url, "idlers") as connection:
                    while not self._stop.is_set():
                        self._woken.wait(POLL_S)
                        self._woken.clear()
                        self._move(connection)
                        self._stop.wait(_IDLE_S)
            except psycopg.OperationalError as error:
                log.warning("idlers.interrupted", error=str(error))
                self._stop.wait(POLL_S)

    def _move(self, connection: psycopg.Connection) -> None:
        behind = {f.follower: f.position for f in self._followers if f.is_active and f.saved < f.position}
        if not behind:
            return
        moved = connection.execute(
            """WITH wished AS (
                SELECT * FROM unnest(%s::text[], %s::bigint[]) AS w (name, position)
            ), free AS (
                SELECT t.application_name AS name, w.position FROM es.tracking AS t
                JOIN wished AS w ON t.application_name = w.name AND t.notification_id < w.position
                FOR UPDATE OF t SKIP LOCKED
            ), moved AS (
                UPDATE es.tracking AS t SET notification_id = free.position FROM free
                WHERE t.application_name = free.name RETURNING free.name, free.position
            )
            SELECT name, position, pg_notify(%s, 'idle') FROM moved""",
            (list(behind), list(behind.values()), CHANNEL),
        ).fetchall()
        saved = {name: position for name, position, _ in moved}
        for follower in self._followers:
            if follower.follower in saved:
                follower.saved = max(follower.saved, saved[follower.follower])
            elif follower.follower in behind:
                follower.saved = max(follower.saved, peek(connection, follower.follower))
