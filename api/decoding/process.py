"""A decoding process: does one job after the other, until whoever started it hangs up.

python -m api.decoding.process SOCKET_FD PARENT_PID MOST_BYTES
"""

import errno
import os
import random
import resource
import signal
import socket
import sys
from typing import assert_never

import av

from api.decoding.jobs import (
    HEAD_BYTES,
    Answer,
    AnyJob,
    Clip,
    Done,
    Failed,
    Length,
    Poster,
    Still,
    job_of,
    packed,
)
from domain.errors import EiokuError, MediaUnreadable, StorageFailed
from infrastructure.media.clip import cut
from infrastructure.media.clock import duration_ms_of
from infrastructure.media.opening import ROOTS
from infrastructure.media.pictures import THUMBNAIL_WIDTH, is_kept, keep
from infrastructure.media.poster import best_of, candidates
from infrastructure.media.stills import fitted, still_at
from infrastructure.parent import die_with

POSTER_WIDTH = 640
MOST_CORES = 8
"""Each thread of a decoder holds pictures of its own: a machine of 64 cores would need 64 of them."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def do(job: AnyJob) -> Done:
    """Do one job; raises what the decoders raise."""
    match job:
        case Clip():
            cut(job.path, job.out, start_ms=job.start_ms, end_ms=job.end_ms, should_stop=lambda: False)
        case Still():
            keep(still_at(job.path, job.at_ms, fitted(job.screen, width=job.width)), job.out)
        case Poster():
            _choose(job)
        case Length():
            return Done(duration_ms_of(job.path))
        case _:
            assert_never(job)
    return Done()


def _choose(job: Poster) -> None:
    """A poster without knowing the scenes."""
    moments = candidates((), job.duration_ms)
    for at_ms in moments:
        if not is_kept(job.pictures.thumbnail(at_ms)):
            keep(still_at(job.path, at_ms, fitted(job.screen, width=THUMBNAIL_WIDTH)), job.pictures.thumbnail(at_ms))
    best = best_of([(at_ms, job.pictures.thumbnail(at_ms)) for at_ms in moments])
    keep(still_at(job.path, best, fitted(job.screen, width=POSTER_WIDTH)), job.out)


def answered(job: AnyJob) -> Answer:
    """The answer to a job. Whatever a library raises is an error of ours by now: the file is to blame, or the disk."""
    ROOTS.folders = job.folders
    try:
        return do(job)
    except MemoryError:
        return Failed(MediaUnreadable.code, f"{job.path} needs more memory than decoding it here may take")
    except (av.FFmpegError, OSError) as error:
        if error.errno == errno.ENOMEM:
            return Failed(MediaUnreadable.code, f"{job.path} needs more memory than decoding it here may take")
        if error.errno in _FULL:
            return Failed(StorageFailed.code, f"the result cannot be stored: {os.strerror(error.errno)}")
        return Failed(MediaUnreadable.code, f"{job.path} cannot be decoded: {error.strerror or error}")
    except EiokuError as error:
        return _of_the_cause(error)
    except Exception as error:  # noqa: BLE001 - a file can bring a library to raise anything
        return Failed(MediaUnreadable.code, f"{job.path} cannot be decoded: {type(error).__name__}: {error}"[:500])


def _of_the_cause(error: EiokuError) -> Failed:
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.errno in _FULL:
        return Failed(StorageFailed.code, f"the result cannot be stored: {os.strerror(cause.errno or 0)}")
    return Failed(error.code, str(error))


def _received(connection: socket.socket, size: int) -> bytes:
    """The next `size` bytes; raises EOFError when the other side has hung up."""
    parts = b""
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise EOFError
        parts += part
    return parts


def main(fd: int, parent: int, most_bytes: int) -> None:
    """Limit this process, then do what comes."""
    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, most_bytes))
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, random.sample(cores, min(len(cores), MOST_CORES)))
    with socket.socket(fileno=fd) as connection:
        while True:
            try:
                size = int.from_bytes(_received(connection, HEAD_BYTES))
                connection.sendall(packed(answered(job_of(_received(connection, size)))))
            except (EOFError, ConnectionError):
                return


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
