"""Connections and pools, all with the same settings."""

from typing import Any

from psycopg import AsyncConnection, Connection
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, ConnectionPool

CONNECT_TIMEOUT_S = 5


def connection_settings(
    url: str,
    *,
    application_name: str = "eioku",
    search_path: str | None = None,
    statement_timeout_ms: int = 0,
    lock_timeout_ms: int = 0,
    idle_in_transaction_timeout_ms: int = 60_000,
) -> dict[str, Any]:
    """Keyword arguments for `psycopg.connect(url, …)`: what the URL says wins, except the session's time zone.

    Times come back in UTC. A statement, and its waiting for a lock, ends after its timeout; 0 = none. A transaction left
    open ends after `idle_in_transaction_timeout_ms`: it would keep the locks of a client that is gone. A server whose
    machine is gone counts as lost after some 30 s.
    """
    given = conninfo_to_dict(url)
    options = {
        "statement_timeout": statement_timeout_ms,
        "lock_timeout": lock_timeout_ms,
        "idle_in_transaction_session_timeout": idle_in_transaction_timeout_ms,
        "timezone": "UTC",
        # What is read after waiting for a lock must be what is there then, whatever the server's default.
        "default_transaction_isolation": "read\\ committed",
    }
    flags = " ".join(f"-c {name}={value}" for name, value in options.items())
    if search_path is not None:
        flags += f" -c search_path={search_path}"
    silent = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4, "tcp_user_timeout": 30_000}
    return {
        **{name: given.get(name, value) for name, value in silent.items()},
        "application_name": given.get("application_name", application_name),
        "connect_timeout": given.get("connect_timeout", CONNECT_TIMEOUT_S),
        "options": f"{flags} {given.get('options', '')}".rstrip(),
    }


def connect(url: str, *, autocommit: bool = True, **settings: Any) -> Connection[TupleRow]:
    """A connection of one's own; `settings` as for `connection_settings`."""
    return Connection.connect(url, autocommit=autocommit, **connection_settings(url, **settings))


async def connect_async(url: str, *, autocommit: bool = True, **settings: Any) -> AsyncConnection[TupleRow]:
    """The same for asyncio."""
    return await AsyncConnection.connect(url, autocommit=autocommit, **connection_settings(url, **settings))


def pool(
    url: str, *, size: int, timeout_s: float = 5.0, **settings: Any
) -> ConnectionPool[Connection[TupleRow]]:
    """A closed pool of up to `size` autocommit connections; `open()` it or enter it.

    `connection()` raises psycopg_pool.PoolTimeout when none is free, or the server is not there, for `timeout_s`.
    """
    return ConnectionPool(
        url,
        kwargs={"autocommit": True, **connection_settings(url, **settings)},
        min_size=1,
        max_size=size,
        timeout=timeout_s,
        open=False,
    )


def async_pool(
    url: str, *, size: int, ready: int = 1, timeout_s: float = 5.0, **settings: Any
) -> AsyncConnectionPool[AsyncConnection[TupleRow]]:
    """The same for asyncio; `ready` connections are kept open from the start."""
    return AsyncConnectionPool(
        url,
        kwargs={"autocommit": True, **connection_settings(url, **settings)},
        min_size=ready,
        max_size=size,
        timeout=timeout_s,
        open=False,
    )
