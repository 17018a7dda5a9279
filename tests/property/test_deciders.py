"""Any commands in any order: each is refused with our own error or makes events that the state accepts."""

from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any, get_type_hints
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from application.handle import STREAMS
from domain import capability, content, face_cluster, run, scan, selection, task, video
from domain.errors import EiokuError
from domain.event import Command, DomainEvent, Meta
from domain.run import ModelIdentity
from domain.scan import ScanProblem
from domain.video import FileFacts

STREAM = UUID(int=2)
_uuids = st.sampled_from([UUID(int=n) for n in (2, 3, 4)])
_times = st.integers(0, 40).map(lambda n: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=n))
_BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    UUID: _uuids,
    str: st.sampled_from(["a", "b", "fast"]),
    int: st.integers(0, 4),
    float: st.sampled_from([0.0, 1.5]),
    datetime: _times,
    dict[str, Any]: st.sampled_from([{}, {"threshold": 27.0}]),
    dict[str, int]: st.sampled_from([{}, {"scene": 2}]),
    dict[str, float]: st.sampled_from([{}, {"seconds": 0.5}]),
    tuple[str, ...]: st.sampled_from([(), ("scene",), ("a", "b")]),
    tuple[ScanProblem, ...]: st.sampled_from([(), (ScanProblem("/x", "broken"),)]),
    tuple[face_cluster.Members, ...]: st.sampled_from(
        [(), (face_cluster.Members(video_id=STREAM, run_id=STREAM, cluster_id="a", artifact_ids=(STREAM,) * 7_000),)]
    ),
    tuple[face_cluster.Centre, ...]: st.sampled_from(
        [(), (face_cluster.Centre(cluster_id="a", space="s", weight=1, vector=""),) * 600]
    ),
    FileFacts: st.builds(
        FileFacts, duration_ms=st.integers(0, 3), container=st.just("mp4"), has_video=st.booleans(), has_audio=st.booleans()
    ),
    ModelIdentity: st.builds(ModelIdentity, name=st.sampled_from(["tiny", "base"])),
    Meta: st.builds(
        Meta,
        at=_times,
        tenant_id=st.sampled_from(["default", "default", "default", "other"]),
        actor=st.just("user:test"),
        correlation_id=_uuids,
    ),
}


def _values(hint: Any) -> st.SearchStrategy[Any]:
    if hint in _BY_TYPE:
        return _BY_TYPE[hint]
    options = getattr(hint, "__args__", ())
    if type(None) in options:
        return st.none() | st.one_of([_values(option) for option in options if option is not type(None)])
    return st.from_type(hint)


def commands_of(stream: ModuleType) -> st.SearchStrategy[Command]:
    """Commands of a stream with values from so few that they often meet."""
    kinds = [c for c in vars(stream).values() if isinstance(c, type) and issubclass(c, Command) and c is not Command]
    return st.one_of(
        [
            st.builds(kind, **{n: _values(h) for n, h in get_type_hints(kind).items() if n != "stream_id"}, stream_id=st.just(STREAM))
            for kind in kinds
        ]
    )


def run_through(stream: ModuleType, commands: list[Command]) -> list[tuple[Any, Command, list[DomainEvent], Any]]:
    """(state before, command, events, state after) of every step that was not refused; laws of all streams hold."""
    state: Any = None
    steps = []
    version = 0
    for command in commands:
        before = state
        try:
            events = list(stream.decide(state, command))
        except EiokuError:
            continue
        for event in events:
            version += 1
            assert event.originator_version == version
            assert event.originator_id == STREAM
            assert event.tenant_id == command.meta.tenant_id
            assert type(event) in stream.EVENTS
            state = stream.evolve(state, event)
            assert state.version == version
        steps.append((before, command, events, state))
    return steps


@pytest.mark.parametrize("stream", STREAMS.values(), ids=lambda s: s.__name__)
def test_decide_refuses_or_makes_events_that_evolve_accepts(stream):
    @settings(max_examples=150, deadline=None)
    @given(st.lists(commands_of(stream), max_size=25))
    def law(commands):
        run_through(stream, commands)

    law()


@pytest.mark.parametrize("stream", STREAMS.values(), ids=lambda s: s.__name__)
def test_a_command_given_twice_at_once_never_counts_twice(stream):
    """Redelivery: the repetition is refused or makes nothing, except where asking again is the wish."""
    again_is_new = (task.RetryTask, scan.CompleteScan)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(commands_of(stream), max_size=12), commands_of(stream))
    def law(commands, last):
        if isinstance(last, again_is_new):
            return
        steps = run_through(stream, [*commands, last, last])
        if len(steps) > 1 and steps[-1][1] is last and steps[-2][1] is last:
            assert steps[-1][2] == []

    law()


@settings(max_examples=300, deadline=None)
@given(st.lists(commands_of(task), max_size=40))
def test_a_task_that_has_completed_stays_so_and_old_attempts_change_nothing(commands):
    requests = {"task.requested", "task.retried", "task.requeued"}
    for before, command, events, after in run_through(task, commands):
        if before is not None and before.status == "completed":
            assert events == []
        if isinstance(command, task.CompleteTask | task.FailTask) and before.run_id != command.run_id:
            assert events == []
        if isinstance(command, task.CompleteTask | task.FailTask) and before.status in ("pending", "cancelled", "completed"):
            assert events == []
        if (
            isinstance(command, task.StartTask | task.MarkUnavailable | task.RequeueTask | task.ParkTask)
            and command.request_version != before.request_version
        ):
            assert events == []
        if isinstance(command, task.StartTask) and events:
            assert after.attempts == (before.attempts + 1)
            assert command.delivery > before.delivery
        if events and events[-1].TOPIC in requests:
            assert (after.status, after.request_version) == ("pending", events[-1].originator_version)


@settings(max_examples=200, deadline=None)
@given(st.lists(commands_of(run), max_size=25))
def test_a_run_ends_at_most_once_and_counts_all_it_looked_for(commands):
    ends = 0
    for before, _command, events, after in run_through(run, commands):
        for event in events:
            ends += event.TOPIC in ("run.completed", "run.failed")
            if event.TOPIC == "run.completed":
                assert set(before.artifact_types) <= set(event.counts)
        assert after is None or after.has_ended == (ends == 1)
    assert ends <= 1


@settings(max_examples=200, deadline=None)
@given(st.lists(commands_of(content), max_size=25))
def test_content_has_one_holder_and_passes_to_the_first_that_waits(commands):
    holder, waiting = None, []
    for _before, _command, events, after in run_through(content, commands):
        for event in events:
            if event.TOPIC == "content.claimed":
                assert holder is None
                assert not waiting or waiting.pop(0) == event.video_id
                holder = event.video_id
            elif event.TOPIC == "content.shared":
                assert holder not in (None, event.video_id)
                assert event.video_id not in waiting
                waiting.append(event.video_id)
            elif event.video_id == holder:
                holder = None
            else:
                waiting.remove(event.video_id)
        if after is not None:
            assert (after.video_id, list(after.waiting)) == (holder, waiting)
            assert holder is not None or not waiting


@settings(max_examples=200, deadline=None)
@given(st.lists(commands_of(video), max_size=25))
def test_only_registering_brings_a_deleted_video_back_and_it_stays_with_its_tenant(commands):
    tenant = None
    for before, command, events, after in run_through(video, commands):
        if events and tenant is None:
            tenant = events[0].tenant_id
        assert after is None or after.tenant_id == tenant
        if before is not None and before.is_deleted and events:
            assert isinstance(command, video.RegisterVideo)
        if events and events[-1].TOPIC == "video.changed":
            assert (after.blake3, after.facts, after.duplicate_of, after.content) == (None, None, None, after.version)
        if before is not None and not before.is_deleted and command.meta.tenant_id != before.tenant_id:
            assert events == []


@settings(max_examples=150, deadline=None)
@given(st.lists(commands_of(scan), max_size=25))
def test_a_scan_that_watches_nothing_completes_once(commands):
    completed = 0
    for before, _command, events, _after in run_through(scan, commands):
        for event in events:
            if event.TOPIC == "scan.completed":
                assert not completed or before.is_watched
                completed += 1


@settings(max_examples=150, deadline=None)
@given(st.lists(commands_of(selection), max_size=25))
def test_a_selection_event_always_changes_the_policy(commands):
    for before, _command, events, after in run_through(selection, commands):
        if events:
            old = (None, None, None) if before is None else (before.mode, before.profile, before.run_id)
            assert old != (after.mode, after.profile, after.run_id)
            assert (after.mode == "pinned") == (after.run_id is not None)
            assert (after.mode == "profile") == (after.profile is not None)


@settings(max_examples=150, deadline=None)
@given(st.lists(commands_of(capability), max_size=25))
def test_an_announcement_says_something_new_or_comes_later(commands):
    for before, _command, events, after in run_through(capability, commands):
        if events and before is not None:
            assert before.digest != after.digest or after.announced_at - before.announced_at >= capability.SETTLE
