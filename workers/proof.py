"""Proof that each producer loads: its library and its model, and a second of film through it, a process per family.

For `eioku doctor`. A library that crashes or hangs takes its process with it, and only its producer is blamed.
"""

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from uuid import UUID

import msgspec

from application.messages import TaskMessage
from domain.errors import EiokuError, ModelUnavailable
from domain.pipeline import BY_NAME, DEFAULT_PROFILE, FAMILIES, config_hash, full_config
from domain.run import ModelIdentity
from infrastructure.parent import die_with
from workers.producer import Job, ModelPlaces, Producer

PATIENCE_S = 300.0
"""For one producer: a cold disk reads a gigabyte of libraries; on a busy machine of two cores it took two minutes."""
_END_S = 5.0
_NOBODY = UUID(int=0)


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one producer."""

    name: str
    task_type: str
    family: str
    loads: bool | None
    """None = it was not tried."""
    reason: str | None = None
    """Why it does not load."""
    remedy: str | None = None
    is_missing: bool = False
    """It does not load because something is not installed here; anything else is a fault."""
    models: tuple[ModelIdentity, ...] = ()
    """The weights that profile `balanced` uses here."""
    seconds: float | None = None
    """Until it was done with a second of film."""


def prove(
    producers: Sequence[type[Producer]], places: ModelPlaces, *, timeout_s: float = PATIENCE_S
) -> Iterator[Proof]:
    """One proof for each, family by family; nothing is downloaded."""
    offline = msgspec.structs.replace(places, is_offline=True)
    for family in FAMILIES:
        waiting = [kind for kind in producers if BY_NAME[kind.task_type].family == family]
        while waiting:
            for proof in _in_process(waiting, offline, timeout_s):
                yield proof
                waiting = waiting[1:]


def untried(producers: Sequence[type[Producer]]) -> Iterator[Proof]:
    """The same list without loading anything."""
    for kind in producers:
        yield _proof(kind, loads=None, reason="not tried")


def _in_process(
    producers: Sequence[type[Producer]], places: ModelPlaces, timeout_s: float
) -> Iterator[Proof]:
    """Proofs from one process until it is done; the last is of the one that it died or hung at."""
    context = get_context("spawn")  # as workers do
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_try_each, args=(theirs, tuple(producers), places, os.getpid()), daemon=True)
    process.start()
    theirs.close()
    try:
        for kind in producers:
            if not ours.poll(timeout_s):
                yield _proof(kind, loads=False, reason=f"did not load within {timeout_s:g} s")
                return
            try:
                proof: Proof = ours.recv()
            except EOFError:
                process.join(timeout_s)
                code = process.exitcode or 0
                how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
                yield _proof(kind, loads=False, reason=f"its process ended {how}")
                return
            yield proof
        process.join(_END_S)  # a library may have something to clean up
    finally:
        process.kill()
        process.join()
        ours.close()


def _try_each(
    connection: Connection, producers: Sequence[type[Producer]], places: ModelPlaces, parent: int
) -> None:
    die_with(parent)
    with Path(os.devnull).open("w") as nowhere:  # libraries talk; the doctor's output is a document
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    with tempfile.TemporaryDirectory(prefix="eioku-doctor-") as folder:
        for kind in producers:
            connection.send(_tried(kind, places, Path(folder)))


def _tried(kind: type[Producer], places: ModelPlaces, folder: Path) -> Proof:
    begun = time.monotonic()
    try:
        producer, job = kind(), _job(kind, places, _film(folder / "second.mp4"))
        model = producer.describe(job).model
        for _ in producer.produce(job, _Nobody()):
            pass
    except ModelUnavailable as error:
        return _proof(kind, loads=False, reason=error.missing, remedy=error.remedy, is_missing=True)
    except ImportError as error:
        return _proof(kind, loads=False, reason=f"{type(error).__name__}: {error}", is_missing=True)
    except EiokuError as error:
        return _proof(kind, loads=False, reason=str(error))
    except Exception as error:  # noqa: BLE001 - whatever a library raises is the answer
        return _proof(kind, loads=False, reason=f"{type(error).__name__}: {error}"[:1_000])
    models = () if model is None else (model,)
    return _proof(kind, loads=True, models=models, seconds=round(time.monotonic() - begun, 2))


class _Nobody:
    """`workers.producer.Context` that nobody watches."""

    def progress(self, done_ms: int, total_ms: int) -> None:
        """Nothing."""

    def wait(self) -> None:
        """Nothing."""


def _proof(kind: type[Producer], **found: object) -> Proof:
    about = {"name": kind.name, "task_type": kind.task_type, "family": BY_NAME[kind.task_type].family}
    return msgspec.convert(about | found, Proof)


def _job(kind: type[Producer], places: ModelPlaces, path: Path) -> Job:
    profile, config = full_config(kind.task_type, DEFAULT_PROFILE, None)
    message = TaskMessage(
        task_id=_NOBODY,
        tenant_id="default",
        video_id=_NOBODY,
        task_type=kind.task_type,
        profile=profile,
        config=config,
        config_hash=config_hash(kind.task_type, config, None),
        language=None,
        priority="std",
        request_version=1,
        source=str(path),
        blake3=None,
        correlation_id=_NOBODY,
        position=0,
    )
    return Job(message=message, run_id=_NOBODY, path=path, models=places, pictures=path.parent / "pictures")


def _film(path: Path) -> Path:
    """A second of grey, five frames."""
    import av
    import numpy as np

    if path.exists():
        return path
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.time_base = 320, 240, Fraction(1, 5)
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((240, 320, 3), 128, np.uint8), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
