"""The computing process of a worker: it keeps its models between jobs, and knows no NATS and no database."""

import os
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from application.messages import NoAnswer, Space, TextVector
from domain.artifacts import payload_type
from domain.artifacts.envelope import ArtifactBatch, BatchHead, Item, artifact_id_of
from domain.errors import EiokuError, ModelUnavailable
from infrastructure.logs import LogStyle, configure
from infrastructure.media.frames import SampleFrames, sample_frames
from infrastructure.media.hardware import HARDWARE
from infrastructure.media.opening import ROOTS
from infrastructure.media.shared_frames import LOOK_S, SharedFrames
from infrastructure.media.source import checked
from infrastructure.media.source_cache import localised
from infrastructure.parent import die_with
from workers.faults import fault_of
from workers.memory import give_back, keep_for_the_next
from workers.producer import Found, Job, Knowing, ModelPlaces, Producer
from workers.protocol import (
    MOST_TOGETHER,
    Aid,
    Answer,
    Assignment,
    Described,
    Finished,
    Packed,
    Pulse,
    PulseContext,
    Question,
    Ready,
    Refusal,
    Report,
    Wire,
)
from workers.sharing import Shareable, aid, answer

logger = structlog.get_logger()

MOST_ITEMS = 1_000
MOST_BYTES = 256 * 1024
"""Of JSON, so less when compressed: the ingester and the projectors take a batch in one step."""
IDLE_S = 5.0
"""Without a job for so long, what libraries keep for the next one goes back to the system (ADR-0025)."""


class _Together(NamedTuple):
    """What the jobs on one video have in common."""

    frames: SharedFrames
    fetching: threading.Lock
    """Held by the job that fetches the source: the others then find the copy."""


def compute(
    connections: tuple[Connection, Connection],
    wires: Sequence[Wire],
    producers: Sequence[type[Producer]],
    models: ModelPlaces,
    *,
    folders: tuple[str, ...] | None,
    parent: int,
    log_style: LogStyle,
) -> None:
    """The life of the process: load, then do what comes until the parent hangs up.

    `connections`: one for jobs, one for questions, which are answered meanwhile. Jobs that come together are done
    together, each in a thread, and decode the video once; each reports on a wire of its own. Where there are wires for
    several videos, what comes next begins beside what is at work.
    """
    connection, questions = connections
    die_with(parent)
    configure(log_style)
    set_up(producers)
    # Ctrl-C goes to the whole process group; the parent decides what becomes of the job.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    HARDWARE.is_allowed = models.device != "cpu"
    ROOTS.folders = folders
    at_work = {kind.task_type: kind() for kind in producers}
    for producer in at_work.values():
        try:
            producer.warm(models)
        except Exception as error:  # noqa: BLE001 - the job that needs it will say what is wrong
            logger.warning("producer.not_warm", task_type=producer.task_type, error=repr(error))
    knowing = {producer.space: producer for producer in at_work.values() if isinstance(producer, Knowing)}
    if knowing:
        threading.Thread(
            target=_answer, args=(questions, knowing, models), name="questions", daemon=True
        ).start()
    for producer in at_work.values():
        if isinstance(producer, Shareable):
            threading.Thread(target=answer, args=(questions, producer), name="pieces", daemon=True).start()
    connection.send(Ready())
    one_at_a_time = len(wires) <= MOST_TOGETHER
    while True:
        try:
            if not connection.poll(IDLE_S):
                give_back()
            jobs: tuple[Assignment | Aid, ...] = connection.recv()
        except (EOFError, OSError):
            return
        if one_at_a_time:
            _do(at_work, jobs, wires)
        else:
            threading.Thread(target=_do, args=(at_work, jobs, wires), name="video", daemon=True).start()


def set_up(producers: Iterable[type[Producer] | Producer]) -> None:
    """Set how this process waits and keeps memory, before a library reads it (ADR-0017, ADR-0025)."""
    # Threads that spin while they wait take the cores from the other families.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for waiting in ("WORKER", "MAIN"):
        os.environ.setdefault(f"OPENCV_THREAD_POOL_ACTIVE_WAIT_{waiting}", "0")
    if any(producer.reuses_memory for producer in producers):
        keep_for_the_next()


def _do(at_work: Mapping[str, Producer], jobs: Sequence[Assignment | Aid], wires: Sequence[Wire]) -> None:
    """Do these together, until the last one has ended."""
    if len(jobs) == 1:
        _do_one(at_work, jobs[0], wires)
        return
    together = _Together(SharedFrames(len(jobs)), threading.Lock())
    threads = [
        threading.Thread(target=_do_one, args=(at_work, job, wires, together), name="job", daemon=True) for job in jobs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _do_one(
    at_work: Mapping[str, Producer],
    job: Assignment | Aid,
    wires: Sequence[Wire],
    together: "_Together | None" = None,
) -> None:
    wire = wires[job.wire]
    match job:
        case Assignment():
            producer = at_work[job.message.task_type]
            # Others do the same for other videos meanwhile, and what is found is the job's own.
            own = type(producer)() if producer.shares_batches else producer
            _report(wire, run(own, job, wire.pulse, together))
        case Aid():
            helper = at_work[job.task_type]
            assert isinstance(helper, Shareable)
            _report(wire, iter((aid(helper, job, wire.pulse),)))


def _report(wire: Wire, reports: Iterator[Report]) -> None:
    with suppress(BrokenPipeError):  # the parent is gone
        for report in reports:
            wire.reports.send(report)


def _answer(questions: Connection, knowing: Mapping[Space, Knowing], models: ModelPlaces) -> None:
    """Say what queries mean until the parent hangs up."""
    while True:
        try:
            question: Question = questions.recv()
        except (EOFError, OSError):
            return
        answer: TextVector | NoAnswer
        try:
            answer = knowing[question.space].meaning_of(question.text, models)
        except ModelUnavailable as error:
            answer = NoAnswer(f"{error.missing}: {error.remedy}")
        except Exception as error:
            logger.exception("question.crashed")
            answer = NoAnswer(f"{type(error).__name__}: {error}"[:2_000])
        try:
            questions.send(Answer(question.number, answer))
        except OSError:
            return


def run(
    producer: Producer, assignment: Assignment, pulse: Pulse, together: _Together | None = None
) -> Iterator[Report]:
    """Do one job; the last report is Finished or Refusal. Raises nothing of the producer's."""
    context = PulseContext(pulse, assignment.number)
    path = Path(assignment.message.source)
    try:
        with ExitStack() as stack:
            sample = stack.enter_context(together.frames.reader(context.wait)) if together else sample_frames
            if not producer.needs:  # or else it works on texts, and the file stays closed
                fetching = together.fetching if together else threading.Lock()
                path = stack.enter_context(_file(assignment, context, fetching))
            yield from _work(producer, assignment, path, sample, context)
    except BrokenPipeError:
        raise
    except EiokuError as error:
        yield _refusal(error)
    except Exception as error:
        fault = fault_of(error, producer, path)
        logger.exception(
            "job.crashed", task_type=producer.task_type, run_id=str(assignment.run_id), code=fault.code
        )
        yield _refusal(fault)


def _refusal(error: EiokuError) -> Refusal:
    return Refusal(
        code=error.code,
        error=str(error),
        retryable=error.retryable,
        needs_a_hand=error.needs_a_hand,
        is_unexplained=error.is_unexplained,
        missing=error.missing if isinstance(error, ModelUnavailable) else None,
        remedy=error.remedy,
    )


@contextmanager
def _file(assignment: Assignment, context: PulseContext, fetching: threading.Lock) -> Iterator[Path]:
    """The source as a file of this machine."""
    with ExitStack() as stack:
        while not fetching.acquire(timeout=LOOK_S):
            context.wait()
        try:
            path = stack.enter_context(
                localised(assignment.message.source, assignment.sources, context.fetched)
            )
        finally:
            fetching.release()
        checked(path)
        yield path


def _work(
    producer: Producer, assignment: Assignment, path: Path, sample: SampleFrames, context: PulseContext
) -> Iterator[Report]:
    job = Job(
        message=assignment.message,
        run_id=assignment.run_id,
        path=path,
        models=assignment.models,
        delivery=assignment.delivery,
        texts=assignment.texts,
        spans=assignment.spans,
        pictures=assignment.pictures,
        sample=sample,
    )
    description = producer.describe(job)
    yield Described(description)
    packer = Packer(assignment, producer)
    for found in producer.produce(job, context):
        if (batch := packer.add(found)) is not None:
            yield Packed(batch)
    for batch in packer.rest():
        yield Packed(batch)
    counts = dict.fromkeys(description.artifact_types, 0) | packer.counts
    yield Finished(counts, producer.outcome())


class Packer:
    """Artifacts into batches: one type each, at most `MOST_ITEMS` and about `MOST_BYTES`."""

    def __init__(self, assignment: Assignment, producer: Producer) -> None:
        self._assignment, self._producer = assignment, producer
        self._waiting: dict[str, list[tuple[int, int, bytes]]] = {}
        """(start, end, payload) by type; an artifact gets its version, and so its id, when its batch is packed."""
        self._bytes: dict[str, int] = {}
        self._next = 1
        self.counts: dict[str, int] = {}

    def add(self, found: Found) -> ArtifactBatch | None:
        """Take one artifact; the batch that it filled, if any."""
        kind, start_ms, end_ms, payload = found
        encoded = msgspec.json.encode(payload)
        size = len(encoded) + _ITEM_BYTES
        full = self._pack(kind) if self._bytes.get(kind, 0) + size > MOST_BYTES else None
        self._waiting.setdefault(kind, []).append((start_ms, end_ms, encoded))
        self._bytes[kind] = self._bytes.get(kind, 0) + size
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return self._pack(kind) if len(self._waiting[kind]) == MOST_ITEMS else full

    def rest(self) -> Iterator[ArtifactBatch]:
        """What has not filled a batch."""
        for kind in list(self._waiting):
            if (batch := self._pack(kind)) is not None:
                yield batch

    def _pack(self, kind: str) -> ArtifactBatch | None:
        waiting = self._waiting.pop(kind, [])
        self._bytes.pop(kind, None)
        if not waiting:
            return None
        first, self._next = self._next, self._next + len(waiting)
        run_id = self._assignment.run_id
        items = [
            Item(
                artifact_id=artifact_id_of(run_id, first + n),
                start_ms=start_ms,
                end_ms=end_ms,
                payload=msgspec.Raw(payload),
            )
            for n, (start_ms, end_ms, payload) in enumerate(waiting)
        ]
        return ArtifactBatch(
            head=self._head(kind),
            first_version=first,
            count=len(items),
            items=msgspec.Raw(msgspec.json.encode(items)),
        )

    def _head(self, kind: str) -> BatchHead:
        run_id, message = self._assignment.run_id, self._assignment.message
        return BatchHead(
            run_id=run_id,
            video_id=message.video_id,
            tenant_id=message.tenant_id,
            artifact_type=kind,
            schema_version=payload_type(kind).VERSION,
            producer=self._producer.name,
            producer_version=self._producer.version,
            model_profile=message.profile,
            config_hash=message.config_hash,
            input_hash=message.blake3 or "",
            created_at=self._assignment.started_at,
            actor=f"worker:{self._assignment.worker}",
            correlation_id=message.correlation_id,
            causation_id=str(run_id),
        )


_ITEM_BYTES = len(b'{"artifact_id":"","start_ms":,"end_ms":,"payload":},') + 36 + 20
"""JSON around a payload, with room for the times."""
