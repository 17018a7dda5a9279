"""The HTTP server around the application, with every bound that it has."""

import resource
from functools import partial

import uvicorn

from api.app import create_app
from api.connections import Connection, Connections
from api.door import Door
from api.hosts import Hosts
from api.services import ApiServices

MOST_DESCRIPTORS = 65_536
MOST_CONNECTIONS = 4_096
"""In one process. Each takes 6 KB while its head is not whole."""


def make_server(
    services: ApiServices,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    graceful_s: int = 10,
    most_connections: int | None = None,
) -> uvicorn.Server:
    """A server that is not running yet; `run(sockets=…)` of it ignores host and port."""
    connections = Connections(most_connections or min(MOST_CONNECTIONS, _raised_descriptors() // 4))
    config = uvicorn.Config(
        Door(create_app(services), Hosts(services.hosts, services.cors_origins)),
        host=host,
        port=port,
        http=partial(Connection, connections=connections),  # type: ignore[arg-type]  # called as the class would be
        ws="none",
        callback_notify=connections.tick,
        timeout_notify=0,
        # What a proxy says about its client is believed by nobody here.
        proxy_headers=False,
        server_header=False,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=graceful_s,
        timeout_keep_alive=75,  # clients that ask now and then keep their connection
        backlog=512,
    )
    return uvicorn.Server(config)


def _raised_descriptors() -> int:
    """How many descriptors this process may have, after asking for as many as it may: 1,024 are the usual first bound."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if most == resource.RLIM_INFINITY else min(most, MOST_DESCRIPTORS)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
        return wanted
    return MOST_DESCRIPTORS if now == resource.RLIM_INFINITY else now
