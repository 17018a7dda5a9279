"""Given these events, when this command, then those events: the way deciders are specified."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import ModuleType
from typing import Any
from uuid import UUID

from application.handle import STREAMS
from domain.errors import EiokuError
from domain.event import Command, DomainEvent, Meta

AT = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
META = Meta(at=AT, actor="user:test", correlation_id=UUID(int=1))
STREAM = UUID(int=2)


def head(version: int, *, stream: UUID = STREAM, meta: Meta = META) -> dict[str, Any]:
    """The fields that every event has."""
    return {
        "originator_id": stream,
        "originator_version": version,
        "recorded_at": meta.at,
        "tenant_id": meta.tenant_id,
        "actor": meta.actor,
        "correlation_id": meta.correlation_id,
        "causation_id": meta.causation_id,
    }


def order(kind: type[Command], **fields: Any) -> Any:
    """A command to the stream under test."""
    return kind(**{"stream_id": STREAM, "meta": META, **fields})


@dataclass
class Spec:
    """A history, and what a command makes of it."""

    stream: ModuleType
    state: Any
    version: int
    outcome: Sequence[DomainEvent] | EiokuError = ()

    def when(self, *commands: Command) -> "Spec":
        """Decide each command on what those before it caused."""
        events: list[DomainEvent] = []
        try:
            for command in commands:
                for event in self.stream.decide(self.state, command):
                    self.version += 1
                    assert event.originator_version == self.version
                    assert event.originator_id == command.stream_id
                    assert event.recorded_at == command.meta.at
                    self.state = self.stream.evolve(self.state, event)
                    events.append(event)
        except EiokuError as error:
            self.outcome = error
        else:
            self.outcome = events
        return self

    def then(self, *topics: str, **fields: Any) -> "Spec":
        """Exactly events of these topics came of it; `fields` are those of the last."""
        assert not isinstance(self.outcome, EiokuError), self.outcome
        assert [event.TOPIC for event in self.outcome] == list(topics)
        for name, value in fields.items():
            assert getattr(self.outcome[-1], name) == value
        return self

    def refused(self, kind: type[EiokuError], match: str | None = None) -> "Spec":
        """It was refused with this error."""
        assert isinstance(self.outcome, kind), self.outcome
        assert match is None or match in str(self.outcome)
        return self


def given(stream: ModuleType, *events: DomainEvent) -> Spec:
    """A stream with this history; builders leave the heads to `head(version)`."""
    assert stream in STREAMS.values()
    state: Any = None
    for event in events:
        state = stream.evolve(state, event)
    return Spec(stream, state, len(events))
