"""The real API over a real database: uvicorn and the projections, in threads or as a process of its own."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from api.server import make_server
from api.services import ApiServices
from infrastructure.event_store.log import PostgresEventLog
from projectors.runner import run_projections

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def running_api(
    database_url: str,
    folder: Path,
    /,
    *,
    projections: bool = True,
    most_connections: int | None = None,
    **options: Any,
) -> Iterator[str]:
    """The base URL of an API in this process; `options` are fields of ApiServices."""
    stop = threading.Event()
    with PostgresEventLog(database_url) as log:
        services = ApiServices(
            **{
                "log": log,
                "database_url": database_url,
                "data_dir": folder / "data",
                "media_roots": (folder,),
            }
            | options
        )
        listener = socket.create_server(("127.0.0.1", 0))
        server = make_server(services, graceful_s=5, most_connections=most_connections)
        threads = [threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="api")]
        if projections:
            threads.append(
                threading.Thread(target=run_projections, args=(database_url, stop), name="projections")
            )
        for thread in threads:
            thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stop.set()
            server.should_exit = True
            for thread in threads:
                thread.join()


@contextmanager
def api_process(database_url: str, folder: Path) -> Iterator[str]:
    """The base URL of an API in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.api_server", database_url, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        assert url, f"the API process ended with {process.wait(30)}"
        yield url
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


if __name__ == "__main__":
    with running_api(sys.argv[1], Path(sys.argv[2])) as base_url:
        print(base_url, flush=True)
        sys.stdin.read()  # until whoever started us lets go
