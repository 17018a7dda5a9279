"""What goes into the log comes out the same."""

from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from eventsourcing.persistence import StoredEvent
from hypothesis import given
from hypothesis import strategies as st

from domain.artifacts.envelope import BatchHead, Item, pack, unpack
from domain.errors import InvalidArtifact, Undecodable
from domain.event import DomainEvent
from infrastructure.event_store.codec import (
    CODEC,
    COLUMNS,
    EVENT_TYPES,
    EventCodec,
    decode_batch,
    encode_batch,
    events_of,
)
from infrastructure.event_store.records import SEGMENT_MAX, LogEvent, segments
from tests.support.examples import strategy
from tests.support.log_items import a_batch, an_event


def decoded(stored: LogEvent, codec: EventCodec = CODEC) -> DomainEvent:
    assert isinstance(stored.originator_id, UUID)
    assert stored.recorded_at is not None
    return codec.decode(
        stored.topic,
        stored.schema_version,
        stored.state,
        stored.originator_id,
        stored.originator_version,
        stored.tenant_id,
        stored.recorded_at,
    )


@pytest.mark.parametrize("event_type", EVENT_TYPES, ids=lambda kind: kind.TOPIC)
@given(data=st.data())
def test_an_event_comes_back_the_same(event_type: type[DomainEvent], data: st.DataObject) -> None:
    event = data.draw(strategy(event_type))
    stored = CODEC.encode(event)
    assert decoded(stored) == event
    assert not COLUMNS & msgspec.json.decode(stored.state).keys()


@given(
    head=strategy(BatchHead),
    items=st.lists(strategy(Item), min_size=1, max_size=5),
    first=st.integers(min_value=1, max_value=2**40),
)
def test_a_batch_comes_back_the_same(head: BatchHead, items: list[Item], first: int) -> None:
    batch = pack(head, first, items)
    stored = encode_batch(batch)
    again = decode_batch(stored.last_version, stored.length, stored.head, stored.codec, stored.body)
    assert again == batch
    assert unpack(again) == items
    assert [event.originator_version for event in events_of(again)] == [*range(first, first + len(items))]
    assert encode_batch(again).digest == stored.digest


def test_an_event_that_could_not_be_read_back_is_not_stored() -> None:
    with pytest.raises(ValueError, match="reason"):
        CODEC.encode(an_event(uuid4(), 1, reason=5))
    with pytest.raises(ValueError, match="time zone"):
        CODEC.encode(
            msgspec.structs.replace(
                an_event(uuid4(), 1), recorded_at=an_event(uuid4(), 1).recorded_at.replace(tzinfo=None)
            )
        )


@pytest.mark.parametrize("items", [b"[]", b"[1,2]", b"{}", b"[1,", b""])
def test_a_batch_that_is_not_what_it_says_is_not_stored(items: bytes) -> None:
    with pytest.raises(InvalidArtifact):
        encode_batch(msgspec.structs.replace(a_batch(uuid4(), 1, 3), items=msgspec.Raw(items)))


def test_a_batch_of_more_than_ten_thousand_is_not_stored() -> None:
    encode_batch(a_batch(uuid4(), 1, 10_000))
    with pytest.raises(InvalidArtifact):
        encode_batch(a_batch(uuid4(), 1, 10_001))


@pytest.mark.parametrize("change", [{"codec": 9}, {"body": b"no zstd"}, {"head": b"{}"}])
def test_a_batch_that_cannot_be_read_says_so(change: dict[str, Any]) -> None:
    stored = encode_batch(a_batch(uuid4(), 1, 3))
    row = {"head": stored.head, "codec": stored.codec, "body": stored.body} | change
    with pytest.raises(Undecodable):
        decode_batch(3, 3, **row)


class Moved(DomainEvent, frozen=True, kw_only=True):
    """An event whose shape changed twice: `x` was `pos`, and `y` came later."""

    TOPIC = "test.moved"
    SCHEMA = 3
    x: int
    y: int


def test_older_shapes_are_brought_to_the_present_one_step_by_step() -> None:
    codec = EventCodec(
        [Moved],
        {
            ("test.moved", 1): lambda state: {"x": state.pop("pos"), **state},
            ("test.moved", 2): lambda state: {"y": state["x"] + 1, **state},
        },
    )
    base = {"actor": "a", "correlation_id": str(UUID(int=1)), "causation_id": None}
    common = {
        "originator_id": UUID(int=2),
        "originator_version": 1,
        "tenant_id": "t",
        "recorded_at": an_event(UUID(int=2), 1).recorded_at,
    }
    for version, fields in ((1, {"pos": 4}), (2, {"x": 4}), (3, {"x": 4, "y": 5})):
        stored = LogEvent(
            topic="test.moved", state=msgspec.json.encode(base | fields), schema_version=version, **common
        )
        assert decoded(stored, codec) == Moved(x=4, y=5, actor="a", correlation_id=UUID(int=1), **common)
    of_the_future = LogEvent(topic="test.moved", state=b"{}", schema_version=4, **common)
    with pytest.raises(Undecodable):
        decoded(of_the_future, codec)


def test_an_unknown_topic_says_so() -> None:
    stored = CODEC.encode(an_event(uuid4(), 1))
    with pytest.raises(Undecodable, match=r"task\.cancelled"):
        decoded(stored, EventCodec([Moved]))


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from(["a", "b"]), st.booleans()),
        max_size=20,
    )
)
def test_segments_cover_an_append_in_its_order(choices: list[tuple[int, str, bool]]) -> None:
    versions = [0, 0]
    items: list[StoredEvent] = []
    for stream, topic, skips in choices:
        versions[stream] += 2 if skips else 1
        items.append(StoredEvent(UUID(int=stream), versions[stream], topic, b"x"))
    covered = [
        (segment.stream_id, version, segment.kind)
        for segment in segments(items)
        for version in range(segment.last_version - segment.length + 1, segment.last_version + 1)
    ]
    assert covered == [(item.originator_id, item.originator_version, item.topic) for item in items]


def test_a_long_append_has_segments_of_a_limited_size() -> None:
    stream = uuid4()
    items = [StoredEvent(stream, version, "t", b"x") for version in range(1, 2 * SEGMENT_MAX + 2)]
    assert [segment.length for segment in segments(items)] == [SEGMENT_MAX, SEGMENT_MAX, 1]
