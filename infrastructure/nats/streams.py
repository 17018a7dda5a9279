"""Streams and consumers as data, and declaring them."""

from collections.abc import Mapping

import msgspec
import structlog
from nats.errors import NoRespondersError
from nats.js import api
from nats.js.errors import NotFoundError

from domain.errors import ServiceUnavailable
from domain.pipeline import TASK_TYPES
from domain.task import PRIORITIES
from infrastructure.nats import subjects
from infrastructure.nats.connection import REPLY_S, Bus, Reply

logger = structlog.get_logger()

CMD, RES, EVT, ADV = "EIOKU_CMD", "EIOKU_RES", "EIOKU_EVT", "EIOKU_ADV"
INGESTER, MOVER = "ingester", "mover"
DAY_S = 86_400
ACK_WAIT_S = 60.0
"""A worker that says nothing for this long has lost its task; it sends a sign of life every third of it."""
MAX_DELIVER = 5
_ADVISORY = "$JS.EVENT.ADVISORY.CONSUMER"

STREAMS: tuple[api.StreamConfig, ...] = (
    api.StreamConfig(
        name=CMD,
        description="Tasks that wait for a worker or are being worked on",
        subjects=[subjects.COMMANDS],
        retention=api.RetentionPolicy.WORK_QUEUE,
        storage=api.StorageType.FILE,
        discard=api.DiscardPolicy.NEW,
        max_msgs_per_subject=1,
        discard_new_per_subject=True,
        max_bytes=256 << 20,
        duplicate_window=10,  # beyond it the subject itself refuses a second command
        allow_atomic=True,
        # The server tells idle workers what it has stored, by class and task type: they ask for it at once and need
        # not keep requests open on every consumer, of which a simultaneous arrival would lose all but one (ADR-0011).
        republish=api.RePublish(
            src="eioku.*.cmd.*.*.*", dest="eioku.queued.{{wildcard(2)}}.{{wildcard(3)}}", headers_only=True
        ),
    ),
    api.StreamConfig(
        name=RES,
        description="What workers found, until it is in the log",
        subjects=[subjects.RESULTS],
        retention=api.RetentionPolicy.WORK_QUEUE,
        storage=api.StorageType.FILE,
        discard=api.DiscardPolicy.NEW,
        max_bytes=1 << 30,
        duplicate_window=120,
    ),
    api.StreamConfig(
        name=EVT,
        description="What happened, for other systems: CloudEvents 1.0 JSON",
        subjects=[subjects.EVENTS],
        retention=api.RetentionPolicy.LIMITS,
        storage=api.StorageType.FILE,
        discard=api.DiscardPolicy.OLD,
        max_age=14 * DAY_S,
        max_bytes=1 << 30,
        duplicate_window=600,
        deny_delete=True,
        allow_atomic=True,
        allow_direct=True,
        compression=api.StoreCompression.S2,
    ),
    api.StreamConfig(
        name=ADV,
        description="Tasks that the server gave up on, until they are parked",
        subjects=[
            f"{_ADVISORY}.MAX_DELIVERIES.{CMD}.>",
            f"{_ADVISORY}.MSG_TERMINATED.{CMD}.>",
            f"{_ADVISORY}.MSG_TERMINATED.{RES}.>",
        ],
        retention=api.RetentionPolicy.LIMITS,
        storage=api.StorageType.FILE,
        discard=api.DiscardPolicy.OLD,
        max_age=30 * DAY_S,
        max_bytes=16 << 20,
    ),
)


def durable_of(priority: str, task_type: str) -> str:
    """The consumer of one class and task type."""
    return f"{priority}-{task_type}"


CONSUMERS: tuple[tuple[str, api.ConsumerConfig], ...] = (
    *(
        (
            CMD,
            api.ConsumerConfig(
                durable_name=durable_of(priority, kind.name),
                filter_subject=f"eioku.*.cmd.{priority}.{kind.name}.*",
                ack_policy=api.AckPolicy.EXPLICIT,
                ack_wait=ACK_WAIT_S,
                max_deliver=MAX_DELIVER,
                max_ack_pending=1_000,
                max_waiting=512,
            ),
        )
        for priority in PRIORITIES
        for kind in TASK_TYPES
    ),
    (
        RES,
        api.ConsumerConfig(
            durable_name=INGESTER,
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_S,
            max_deliver=-1,  # the ingester decides what is given up
            max_ack_pending=1_000,
        ),
    ),
    (
        ADV,
        api.ConsumerConfig(
            durable_name=MOVER,
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_S,
            max_deliver=-1,
            max_ack_pending=1_000,
        ),
    ),
)
"""(stream, consumer). Filters on a work queue must not overlap: one durable for each class and task type."""


class Drift(msgspec.Struct, frozen=True):
    """A stream or consumer at the server is not as declared here; it is left as it is."""

    name: str
    reason: str


async def declare(bus: Bus, *, replicas: int = 1) -> list[Drift]:
    """Create what is missing. What exists with other settings is reported (and logged as an error), never overwritten.

    Raises:
        ServiceUnavailable: the server has no JetStream now, or does not answer.
    """
    drifts = []
    for stream in STREAMS:
        config = stream.evolve(num_replicas=replicas)
        drifts += await _create(bus, f"$JS.API.STREAM.CREATE.{stream.name}", config.as_dict(), str(stream.name))
    for name, consumer in CONSUMERS:
        # Raw, because `add_consumer` would update an existing one in silence.
        request = {"stream_name": name, "config": consumer.as_dict(), "action": "create"}
        subject = f"$JS.API.CONSUMER.CREATE.{name}.{consumer.durable_name}"
        if consumer.filter_subject:
            subject += f".{consumer.filter_subject}"
        drifts += await _create(bus, subject, request, f"{name}/{consumer.durable_name}")
    return drifts


async def _create(bus: Bus, subject: str, request: Mapping[str, object], name: str) -> list[Drift]:
    try:
        reply = await bus.request(subject, msgspec.json.encode(request))
    except (TimeoutError, NoRespondersError) as error:
        raise ServiceUnavailable(f"JetStream does not answer: {error!r}") from error
    refused = msgspec.json.decode(reply.data, type=Reply).error
    if refused is None:
        return []
    match refused.err_code:
        case 10058 | 10013 | 10148:  # stream name in use, consumer name exists, consumer exists: with other settings
            logger.error("bus.declared_otherwise", name=name, reason=refused.description)
            return [Drift(name, refused.description)]
        case _:
            raise ServiceUnavailable(f"{name}: {refused.description} ({refused.err_code})")


async def exists(bus: Bus, stream: str, durable: str) -> bool:
    """Whether the consumer is there; a fetch from a deleted one looks like an idle one."""
    try:
        await bus.js.consumer_info(stream, durable, timeout=REPLY_S)
    except NotFoundError:
        return False
    return True
