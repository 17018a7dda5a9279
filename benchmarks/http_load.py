"""A lean HTTP/1.1 load client: blocking sockets, keep-alive, one thread or process a client.

The client shares the machine's cores with the server, so that it must cost little: no library on the hot path.
"""

import multiprocessing
import socket
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit


class Connection:
    """One keep-alive connection; GET only."""

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        self._socket = socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 80), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head = f" HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()

    def get(self, path: str) -> tuple[int, bytes]:
        """(status, body)."""
        self._socket.sendall(b"GET " + path.encode() + self._head)
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            if not (more := self._socket.recv(65536)):
                raise ConnectionError("the server closed the connection")
            data += more
        headers = data[:end].lower()
        start = headers.index(b"content-length:") + 15
        length = int(headers[start : (headers + b"\r\n").index(b"\r\n", start)])
        body = data[end + 4 :]
        while len(body) < length:
            body += self._socket.recv(1 << 20)
        return int(data[9:12]), body

    def close(self) -> None:
        """End the connection."""
        self._socket.close()


@contextmanager
def connection(base_url: str) -> Iterator[Connection]:
    """A connection that is closed at the end."""
    made = Connection(base_url)
    try:
        yield made
    finally:
        made.close()


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the sorted values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def latencies_ms(base_url: str, path: Callable[[], str], *, calls: int, warm_up: int = 15) -> list[float]:
    """Milliseconds of each timed call over one connection; every answer must be below 400, or a 404 NO_MATCH."""
    out = []
    with connection(base_url) as client:
        for n in range(warm_up + calls):
            target = path()
            start = time.perf_counter()
            status, body = client.get(target)
            took = (time.perf_counter() - start) * 1e3
            if status >= 400 and b"NO_MATCH" not in body:
                raise RuntimeError(f"{target} -> {status} {body[:300]!r}")
            if n >= warm_up:
                out.append(took)
    return out


def _client(base_url: str, paths: Sequence[str], results: "multiprocessing.Queue[tuple[float, float, list[float]]]",
            go: "multiprocessing.synchronize.Barrier") -> None:
    took = []
    with connection(base_url) as client:
        client.get(paths[0])
        go.wait()
        start = time.time()
        for path in paths:
            begin = time.perf_counter()
            status, body = client.get(path)
            took.append((time.perf_counter() - begin) * 1e3)
            if status >= 400 and b"NO_MATCH" not in body:
                raise RuntimeError(f"{path} -> {status} {body[:300]!r}")
        results.put((start, time.time(), took))


def throughput(base_url: str, path: Callable[[], str], *, clients: int, calls: int) -> tuple[float, float, float]:
    """(requests a second, p50 ms, p99 ms) of `clients` processes that make `calls` requests each at the same time."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    go = context.Barrier(clients)
    jobs = [
        context.Process(target=_client, args=(base_url, [path() for _ in range(calls)], results, go))
        for _ in range(clients)
    ]
    for job in jobs:
        job.start()
    rows = [results.get(timeout=300) for _ in jobs]
    for job in jobs:
        job.join()
    seconds = max(r[1] for r in rows) - min(r[0] for r in rows)
    every = [ms for r in rows for ms in r[2]]
    return clients * calls / seconds, statistics.median(every), percentile(every, 0.99)
