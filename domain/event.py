"""What every event and command carries."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

import msgspec

DEFAULT_TENANT = "default"


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """Who asked, when, and because of what. Travels with a command into each event that it causes."""

    at: datetime
    """When the command was given, timezone-aware UTC; becomes `recorded_at`."""
    tenant_id: str = DEFAULT_TENANT
    actor: str
    """`user:<name>`, `worker:<name>`, `system:<role>` or `api` while authentication is off."""
    correlation_id: UUID
    """One id for everything that one outside request set off."""
    causation_id: str | None = None
    """What directly caused this: `g<position>` of an event, or a message id."""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A wish addressed to one stream; `decide` turns it into events or refuses."""

    stream_id: UUID
    meta: Meta


class DomainEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A fact in a stream. Never changed, never removed.

    The stored name is `TOPIC`, never the Python path, so that code may move.
    """

    TOPIC: ClassVar[str] = ""
    SCHEMA: ClassVar[int] = 1
    """Version of the stored shape; older ones are brought here by upcasters."""

    originator_id: UUID
    """The stream."""
    originator_version: int
    """Place in the stream, from 1, without gaps."""
    recorded_at: datetime
    tenant_id: str
    actor: str
    correlation_id: UUID
    causation_id: str | None = None


def head(command: Command, version: int) -> dict[str, Any]:
    """The fields of `DomainEvent` for the event at `version` that `command` causes."""
    meta = command.meta
    return {
        "originator_id": command.stream_id,
        "originator_version": version,
        "recorded_at": meta.at,
        "tenant_id": meta.tenant_id,
        "actor": meta.actor,
        "correlation_id": meta.correlation_id,
        "causation_id": meta.causation_id,
    }
