"""Every event log obeys this."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from application.ports import EventLog, Recorded, walk
from domain.artifacts.envelope import ArtifactBatch
from domain.errors import ConcurrencyConflict, IntegrityConflict, OutOfOrder
from domain.run import artifacts_stream_of
from infrastructure.event_store.log import PostgresEventLog
from tests.support.log_items import a_batch, an_event, events
from tests.support.memory_log import MemoryLog


@pytest.fixture(params=["memory", "postgres"])
def log(request: pytest.FixtureRequest) -> Iterator[EventLog]:
    if request.param == "memory":
        yield MemoryLog()
        return
    with PostgresEventLog(request.getfixturevalue("database")) as log:
        yield log


def spans(records: list[Recorded]) -> list[tuple[int, int]]:
    return [(record.first_position, record.position) for record in records]


def test_an_empty_log_has_nothing(log: EventLog) -> None:
    assert (log.head(), list(log.read(0)), list(log.load(uuid4())), log.version(uuid4())) == (0, [], [], 0)


def test_what_was_appended_comes_back_the_same(log: EventLog) -> None:
    stream = uuid4()
    written = events(stream, 1, 3)
    assert log.append(written) == 3
    assert list(log.load(stream)) == written
    assert [record.item for record in log.read(0)] == written
    assert log.version(stream) == 3
    assert log.head() == 3


def test_a_batch_comes_back_packed_and_counts_as_its_events(log: EventLog) -> None:
    run = uuid4()
    batch = a_batch(run, 1, 10)
    assert log.append([batch]) == 10
    (record,) = log.read(0)
    assert record.item == batch
    assert (record.first_position, record.position) == (1, 10)
    assert log.version(artifacts_stream_of(run)) == 10


def test_one_append_keeps_its_order_over_streams_and_batches(log: EventLog) -> None:
    a, b, run = uuid4(), uuid4(), uuid4()
    written = [
        an_event(a, 1),
        an_event(b, 1),
        a_batch(run, 1, 5),
        an_event(a, 2),
        a_batch(run, 6, 2),
        an_event(b, 2),
    ]
    assert log.append(written) == 11
    records = list(log.read(0))
    assert [record.item for record in records] == written
    assert spans(records) == [(1, 1), (2, 2), (3, 7), (8, 8), (9, 10), (11, 11)]


def test_a_taken_version_is_a_conflict_and_nothing_of_the_append_is_stored(log: EventLog) -> None:
    stream, other, run = uuid4(), uuid4(), uuid4()
    log.append(events(stream, 1, 2))
    with pytest.raises(ConcurrencyConflict) as caught:
        log.append([an_event(other, 1), a_batch(run, 1, 3), an_event(stream, 2)])
    assert (caught.value.stream, caught.value.expected) == (stream, 1)
    assert (log.head(), log.version(other), log.version(artifacts_stream_of(run))) == (2, 0, 0)


def test_a_redelivered_batch_changes_nothing(log: EventLog) -> None:
    run = uuid4()
    log.append([a_batch(run, 1, 4)])
    log.append([a_batch(run, 5, 4)])
    log.append([an_event(uuid4(), 1)])
    assert log.append([a_batch(run, 1, 4)]) in (4, 9)
    assert log.append([a_batch(run, 1, 4), a_batch(run, 5, 4)]) in (8, 9)
    assert (log.head(), len(list(log.read(0)))) == (9, 3)


def test_what_follows_a_redelivered_batch_in_one_append_is_stored(log: EventLog) -> None:
    run, stream = uuid4(), uuid4()
    log.append([a_batch(run, 1, 4)])
    assert log.append([a_batch(run, 1, 4), a_batch(run, 5, 1), an_event(stream, 1)]) == 6
    assert spans(list(log.read(0))) == [(1, 4), (5, 5), (6, 6)]


@pytest.mark.parametrize(
    ("first", "count", "label"), [(1, 4, "cat"), (1, 3, "dog"), (3, 2, "dog"), (2, 6, "dog")]
)
def test_other_content_at_known_versions_is_refused(
    log: EventLog, first: int, count: int, label: str
) -> None:
    run = uuid4()
    log.append([a_batch(run, 1, 4)])
    log.append([a_batch(run, 5, 4)])
    with pytest.raises(IntegrityConflict):
        log.append([a_batch(run, first, count, label=label)])
    assert log.head() == 8


def test_a_batch_before_its_predecessor_is_out_of_order(log: EventLog) -> None:
    run = uuid4()
    with pytest.raises(OutOfOrder):
        log.append([a_batch(run, 3, 2)])
    log.append([a_batch(run, 1, 1)])
    with pytest.raises(OutOfOrder) as caught:
        log.append([a_batch(run, 3, 2)])
    assert (caught.value.expected, caught.value.got) == (1, 3)
    log.append([a_batch(run, 2, 1)])
    assert log.append([a_batch(run, 3, 2)]) == 4


def test_reading_by_kind_skips_the_rest(log: EventLog) -> None:
    run, stream = uuid4(), uuid4()
    scene = a_batch(run, 4, 2, kind="scene")
    log.append([a_batch(run, 1, 3), an_event(stream, 1), scene, an_event(stream, 2)])
    assert [record.item for record in log.read(0, kinds=["scene"])] == [scene]
    assert spans(log.read(0, kinds=["task.cancelled"])) == [(4, 4), (7, 7)]
    assert spans(log.read(4, kinds=["task.cancelled", "object.detection"])) == [(7, 7)]
    assert list(log.read(0, kinds=["video.deleted"])) == []


@pytest.mark.parametrize("limit", [1, 2, 7, 5_000])
def test_pages_of_any_size_give_the_same(log: EventLog, limit: int) -> None:
    run, stream = uuid4(), uuid4()
    for index in range(8):
        log.append([*events(stream, index * 3 + 1, 3), a_batch(run, index * 5 + 1, 5)])
    records = list(walk(log, 0, limit=limit))
    assert len(records) == 8 * 4
    assert [record.first_position for record in records] == [
        1,
        *(record.position + 1 for record in records[:-1]),
    ]
    assert records[-1].position == log.head() == 64


def test_reading_from_within_a_batch_gives_the_whole_batch(log: EventLog) -> None:
    log.append([a_batch(uuid4(), 1, 10), an_event(uuid4(), 1)])
    assert spans(list(log.read(9))) == [(1, 10), (11, 11)]
    assert spans(list(log.read(10))) == [(11, 11)]


def test_a_follower_comes_forward_only(log: EventLog) -> None:
    assert log.checkpoint("relay") == 0
    log.advance("relay", 5)
    log.advance("relay", 5)
    log.advance("policies", 2)
    with pytest.raises(IntegrityConflict):
        log.advance("relay", 4)
    assert (log.checkpoint("relay"), log.checkpoint("policies")) == (5, 2)


def test_streams_do_not_see_each_other(log: EventLog) -> None:
    a, b = UUID(int=1), UUID(int=2)
    log.append([an_event(a, 1), an_event(b, 1), an_event(a, 2)])
    assert [event.originator_version for event in log.load(a)] == [1, 2]
    assert [event.originator_version for event in log.load(b)] == [1]
    assert not any(isinstance(event, ArtifactBatch) for event in log.load(a))
