"""What happened, as other systems read it: CloudEvents 1.0, structured JSON (ADR-0007)."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from application.ports import Recorded
from domain.artifacts.envelope import ArtifactBatch, BatchHead, Item
from domain.event import DomainEvent
from domain.run import ArtifactProduced
from infrastructure.nats import subjects

CONTENT_TYPE = "application/cloudevents+json"
MAX_EVENT_BYTES = 512 * 1024
ENVELOPE_BYTES = 16 * 1024
"""Room for everything but the artifacts."""


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The envelope. Attributes after `data` are extensions, and strings: integers of CloudEvents end at 2³¹."""

    id: str
    """`g<position>`, or `g<first>-<last>` when it holds several events; also the message id."""
    source: str
    """`/eioku/<deployment>`."""
    type: str
    """`eioku.<topic>.v<n>`."""
    time: datetime
    dataschema: str
    """`urn:eioku:event:<topic>:<n>`: what `data` looks like, schemas/events/<topic>.v<n>.json."""
    specversion: Literal["1.0"] = "1.0"
    datacontenttype: Literal["application/json"] = "application/json"
    subject: str | msgspec.UnsetType = msgspec.UNSET
    """The video, where there is one."""
    data: Any = None
    """The event; null when it is too large for a message (then `dataomitted` is "true")."""
    position: str
    """Place in the log of the last event in here; grows from message to message."""
    firstposition: str | msgspec.UnsetType = msgspec.UNSET
    """Place of the first one, when it holds several."""
    tenant: str
    correlationid: str
    """One id for everything that one outside request set off."""
    causationid: str | msgspec.UnsetType = msgspec.UNSET
    """What directly caused it: `g<position>`, or a message id."""
    dataomitted: str | msgspec.UnsetType = msgspec.UNSET


class ArtifactsProduced(msgspec.Struct, frozen=True, kw_only=True):
    """Data of `eioku.artifact.produced.v1`: neighbouring artifacts of one type of one run, in the run's order."""

    envelope: BatchHead
    """What they share."""
    first_version: int
    """Place in the run of the first one, from 1."""
    artifacts: list[Item]


class Outgoing(msgspec.Struct, frozen=True):
    """One message for EIOKU_EVT."""

    id: str
    subject: str
    position: int
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        """Fresh at each call: nats-py writes into what it is given."""
        return {"Nats-Msg-Id": self.id, "eioku-position": str(self.position), "Content-Type": CONTENT_TYPE}


_encode = msgspec.json.Encoder().encode
_raw_items: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])


def outgoing(recorded: Recorded, *, source: str, video_id: UUID | None) -> Iterator[Outgoing]:
    """The message for an event, or the messages for a batch, each at most `MAX_EVENT_BYTES`, in order.

    The same record gives the same messages, whatever was published before.
    """
    match recorded.item:
        case ArtifactBatch() as batch:
            yield from _of_batch(batch, recorded.first_position, source)
        case event:
            yield _of_event(event, recorded.position, source, video_id)


def type_of(event: type[DomainEvent]) -> str:
    """The CloudEvents type; a breaking change is a new one."""
    return f"eioku.{event.TOPIC}.v{event.SCHEMA}"


def schema_of(event: type[DomainEvent]) -> str:
    """The name of the data's JSON Schema."""
    return f"urn:eioku:event:{event.TOPIC}:{event.SCHEMA}"


def _of_event(event: DomainEvent, position: int, source: str, video_id: UUID | None) -> Outgoing:
    envelope = CloudEvent(
        id=f"g{position}",
        source=source,
        type=type_of(type(event)),
        time=event.recorded_at,
        dataschema=schema_of(type(event)),
        subject=msgspec.UNSET if video_id is None else str(video_id),
        data=event,
        position=str(position),
        tenant=event.tenant_id,
        correlationid=str(event.correlation_id),
        causationid=event.causation_id or msgspec.UNSET,
    )
    return _fitting(envelope, subjects.event(event.tenant_id, event.TOPIC), position)


def _of_batch(batch: ArtifactBatch, first_position: int, source: str) -> Iterator[Outgoing]:
    head = batch.head
    index = 0
    for items in _parts(_raw_items.decode(batch.items)):
        first, last = first_position + index, first_position + index + len(items) - 1
        envelope = CloudEvent(
            id=f"g{first}" if first == last else f"g{first}-{last}",
            source=source,
            type=type_of(ArtifactProduced),
            time=head.created_at,
            dataschema=schema_of(ArtifactProduced),
            subject=str(head.video_id),
            # Raw JSON where the struct says Item: checked when it was stored, and not decoded here.
            data={"envelope": head, "first_version": batch.first_version + index, "artifacts": items},
            position=str(last),
            firstposition=msgspec.UNSET if first == last else str(first),
            tenant=head.tenant_id,
            correlationid=str(head.correlation_id),
            causationid=head.causation_id or msgspec.UNSET,
        )
        yield _fitting(envelope, subjects.event(head.tenant_id, ArtifactProduced.TOPIC), last)
        index += len(items)


def _parts(items: list[msgspec.Raw]) -> Iterator[list[msgspec.Raw]]:
    part: list[msgspec.Raw] = []
    size = 0
    for item in items:
        item_bytes = len(memoryview(item)) + 1
        if part and size + item_bytes > MAX_EVENT_BYTES - ENVELOPE_BYTES:
            yield part
            part, size = [], 0
        part.append(item)
        size += item_bytes
    yield part


def _fitting(envelope: CloudEvent, subject: str, position: int) -> Outgoing:
    body = _encode(envelope)
    if len(body) > MAX_EVENT_BYTES:
        body = _encode(msgspec.structs.replace(envelope, data=None, dataomitted="true"))
    return Outgoing(envelope.id, subject, position, body)
