"""The library's mapper between domain events and stored events, over our codec."""

from uuid import UUID

from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import Mapper, StoredEvent

from domain.event import DomainEvent
from infrastructure.event_store.codec import CODEC
from infrastructure.event_store.records import LogEvent, LogNotification


class EventMapper(Mapper[UUID]):
    """Chosen by MAPPER_TOPIC. Names are TOPICs from an explicit registry, never Python paths."""

    def to_stored_event(self, domain_event: DomainEventProtocol[UUID]) -> LogEvent:
        """The event as it is stored; only our events have a codec."""
        assert isinstance(domain_event, DomainEvent)
        return CODEC.encode(domain_event)

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[UUID]:
        """The event of a stored event or notification that our recorder returned."""
        if not isinstance(stored_event, LogEvent | LogNotification) or stored_event.recorded_at is None:
            raise TypeError(stored_event)
        assert isinstance(stored_event.originator_id, UUID)  # the column is uuid
        return CODEC.decode(
            stored_event.topic,
            stored_event.schema_version,
            stored_event.state,
            stored_event.originator_id,
            stored_event.originator_version,
            stored_event.tenant_id,
            stored_event.recorded_at,
        )
