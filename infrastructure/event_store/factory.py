"""The library's wiring: PERSISTENCE_MODULE names this factory, POSTGRES_URL the database."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from eventsourcing.persistence import InfrastructureFactory, Mapper
from eventsourcing.postgres import PostgresDatastore, PostgresFactory, PostgresTrackingRecorder
from eventsourcing.utils import Environment, EnvType
from psycopg import Connection
from psycopg.rows import dict_row
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper

from infrastructure.event_store.mapper import EventMapper
from infrastructure.event_store.packing import register_arrays
from infrastructure.event_store.recorder import LogProcessRecorder, LogRecorder, LogTrackingRecorder
from infrastructure.postgres.connections import connection_settings

T = TypeVar("T", bound=PostgresTrackingRecorder)
LOCK_TIMEOUT_MS = 10_000
"""A writer's locks are held for some milliseconds; who waits for longer waits for something that hangs."""


class LogDatastore(PostgresDatastore):
    """The library's pool, by URL and with our settings."""

    def __init__(self, url: str, *, pool_size: int) -> None:
        super().__init__(
            dbname="",
            host="",
            port="",
            user="",
            password="",
            connect_timeout=5,
            pool_size=1,
            max_overflow=pool_size - 1,
            schema="es",
        )
        self.pool.conninfo = url
        settings = connection_settings(url, application_name="eioku log", lock_timeout_ms=LOCK_TIMEOUT_MS)
        self.pool.kwargs = {"row_factory": dict_row, **settings}

    def after_connect_func(self) -> Callable[[Connection[Any]], None]:
        """What is done with a new connection."""

        def configure(connection: Connection[Any]) -> None:
            connection.autocommit = True
            # Always bigint: psycopg picks a type by each number's size, and every mix would be prepared anew.
            connection.adapters.register_dumper(int, Int8Dumper)
            connection.adapters.register_dumper(int, Int8BinaryDumper)
            register_arrays(connection)

        return configure

    def register_type_adapters(self) -> None:
        """Nothing: we use no composite types."""


class LogFactory(PostgresFactory):
    """Recorders on the schema `es`; needs POSTGRES_URL, takes POSTGRES_POOL_SIZE (default 5)."""

    def __init__(self, env: Environment | EnvType | None) -> None:
        # Not PostgresFactory's: it insists on host, user and password in variables of their own.
        InfrastructureFactory.__init__(self, env)
        url = self.env.get("POSTGRES_URL")
        if not url:
            raise OSError("POSTGRES_URL is not set")
        self.datastore = LogDatastore(url, pool_size=int(self.env.get(self.POSTGRES_POOL_SIZE) or 5))

    def mapper(self, transcoder: Any = None, mapper_class: type[Mapper[Any]] | None = None) -> Mapper[Any]:
        """Ours, unless MAPPER_TOPIC or `mapper_class` says otherwise."""
        if mapper_class is None and not self.env.get(self.MAPPER_TOPIC):
            mapper_class = EventMapper
        return super().mapper(transcoder, mapper_class)

    def env_create_table(self) -> bool:
        """Never: migrations make the tables."""
        return False

    def application_recorder(self) -> LogRecorder:
        """Events and batches."""
        return LogRecorder(self.datastore)

    def process_recorder(self) -> LogProcessRecorder:
        """Events, batches and followers' positions."""
        return LogProcessRecorder(self.datastore, tracking_table_name="tracking")

    def tracking_recorder(self, tracking_recorder_class: type[T] | None = None) -> T:
        """Followers' positions."""
        chosen = tracking_recorder_class or cast("type[T]", LogTrackingRecorder)
        return chosen(self.datastore, tracking_table_name="tracking")
