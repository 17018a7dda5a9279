"""HTTP by hand: requests that no well-behaved client sends."""

import socket
from contextlib import suppress
from urllib.parse import urlsplit


def connection(url, timeout_s=30):
    """An open socket to the server at `url`."""
    place = urlsplit(url)
    return socket.create_connection((place.hostname, place.port), timeout=timeout_s)


def answer_to(url, request, timeout_s=30):
    """(status, everything that came) for a request's bytes; status None when the connection ended without an answer."""
    with connection(url, timeout_s) as client:
        with suppress(OSError):  # refused before all of it was sent; there may be an answer
            client.sendall(request)
        return read_answer(client)


def read_answer(client):
    """(status, everything that came) up to the end of one answer."""
    came = b""
    try:
        while b"\r\n\r\n" not in came and (piece := client.recv(65536)):
            came += piece
        head, _, body = came.partition(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        while len(body) < length and (piece := client.recv(65536)):
            body += piece
            came += piece
    except OSError:
        pass
    return (int(came.split(b" ", 2)[1]) if came else None), came
