"""Stream capability: what the workers of one family have said they can do.

A task that ended `unavailable` is asked for again when its family announces anew (ADR-0009).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import assert_never
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec

from domain.event import Command, DomainEvent, head

SETTLE = timedelta(minutes=10)
"""The same announcement within this time is old news: a worker that crashes again and again frees nothing."""


def capability_id_of(family: str) -> UUID:
    """The stream of one family of workers, whatever tenants they serve."""
    return uuid5(NAMESPACE_URL, f"eioku:capability:{family}")


class CapabilityEvent(DomainEvent, frozen=True, kw_only=True):
    """Base of the stream's events."""


class CapabilityAnnounced(CapabilityEvent, frozen=True, kw_only=True):
    """A worker came up, or something was installed beside a running one."""

    TOPIC = "capability.announced"
    family: str
    worker: str
    task_types: tuple[str, ...]
    """What this worker takes."""
    digest: str
    """Hex; changes with the producers, the libraries installed and the weights that lie there."""


EVENTS: tuple[type[CapabilityEvent], ...] = (CapabilityAnnounced,)


class AnnounceCapability(Command, frozen=True, kw_only=True):
    """Say what a worker can do."""

    family: str
    worker: str
    task_types: tuple[str, ...]
    digest: str


CapabilityCommand = AnnounceCapability


class Capability(msgspec.Struct, frozen=True, kw_only=True):
    """The newest announcement."""

    version: int
    digest: str
    announced_at: datetime


def evolve(_state: Capability | None, event: CapabilityEvent) -> Capability:
    """The state after `event`."""
    match event:
        case CapabilityAnnounced():
            return Capability(
                version=event.originator_version, digest=event.digest, announced_at=event.recorded_at
            )
        case _:
            raise TypeError(event)


def decide(state: Capability | None, command: CapabilityCommand) -> Sequence[CapabilityEvent]:
    """The announcement, unless it says again what was said a moment ago."""
    match command:
        case AnnounceCapability():
            if state and state.digest == command.digest and command.meta.at - state.announced_at < SETTLE:
                return []
            return [
                CapabilityAnnounced(
                    **head(command, state.version + 1 if state else 1),
                    family=command.family,
                    worker=command.worker,
                    task_types=command.task_types,
                    digest=command.digest,
                )
            ]
        case _:
            assert_never(command)
