"""Stream scan: a look through a folder for videos."""

from collections.abc import Sequence
from typing import assert_never

import msgspec

from domain.errors import ScanNotFound
from domain.event import Command, DomainEvent, head


class ScanProblem(msgspec.Struct, frozen=True):
    """One file that could not be taken in."""

    path: str
    error: str


class PassedOver(msgspec.Struct, frozen=True):
    """Something that looks like a video, or a folder that may hold some, and was not taken in on purpose."""

    path: str
    reason: str


class ScanEvent(DomainEvent, frozen=True, kw_only=True):
    """Base of the stream's events."""


class ScanRequested(ScanEvent, frozen=True, kw_only=True):
    """Somebody wants a folder looked through."""

    TOPIC = "scan.requested"
    root: str
    recursive: bool
    watch: bool


class ScanCompleted(ScanEvent, frozen=True, kw_only=True):
    """The folder was looked through once. A watched folder completes again after each later look that found news."""

    TOPIC = "scan.completed"
    found: int
    registered: int
    changed: int
    problems: tuple[ScanProblem, ...]
    """At most 100; `problem_count` has them all."""
    problem_count: int
    relocated: int = 0
    """Videos whose file was found elsewhere than before."""
    missing: int = 0
    """Videos whose file is no longer there."""
    passed_over: tuple[PassedOver, ...] = ()
    """At most 100; `passed_over_count` has them all."""
    passed_over_count: int = 0


class ScanStopped(ScanEvent, frozen=True, kw_only=True):
    """A watched folder is no longer watched."""

    TOPIC = "scan.stopped"


EVENTS: tuple[type[ScanEvent], ...] = (ScanRequested, ScanCompleted, ScanStopped)


class RequestScan(Command, frozen=True, kw_only=True):
    """Look through a folder."""

    root: str
    recursive: bool = True
    watch: bool = False


class CompleteScan(Command, frozen=True, kw_only=True):
    """Note what was found."""

    found: int
    registered: int
    changed: int
    problems: tuple[ScanProblem, ...]
    problem_count: int
    relocated: int = 0
    missing: int = 0
    passed_over: tuple[PassedOver, ...] = ()
    passed_over_count: int = 0


class StopScan(Command, frozen=True, kw_only=True):
    """Watch no longer."""


ScanCommand = RequestScan | CompleteScan | StopScan


class Scan(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules need to know of a scan."""

    version: int
    tenant_id: str
    root: str
    recursive: bool
    is_watched: bool
    has_completed: bool = False


def evolve(state: Scan | None, event: ScanEvent) -> Scan:
    """The state after `event`."""
    if isinstance(event, ScanRequested):
        return Scan(
            version=event.originator_version,
            tenant_id=event.tenant_id,
            root=event.root,
            recursive=event.recursive,
            is_watched=event.watch,
        )
    if state is None:
        raise ScanNotFound(event.originator_id)
    change = msgspec.structs.replace
    match event:
        case ScanCompleted():
            return change(state, version=event.originator_version, has_completed=True)
        case ScanStopped():
            return change(state, version=event.originator_version, is_watched=False)
        case _:
            raise TypeError(event)


def decide(state: Scan | None, command: ScanCommand) -> Sequence[ScanEvent]:
    """The events that `command` causes; empty when nothing changes."""
    if isinstance(command, RequestScan):
        if state is not None:
            return []
        return [
            ScanRequested(
                **head(command, 1), root=command.root, recursive=command.recursive, watch=command.watch
            )
        ]
    if state is None or state.tenant_id != command.meta.tenant_id:
        raise ScanNotFound(command.stream_id)
    base = head(command, state.version + 1)
    match command:
        case CompleteScan():
            if state.has_completed and not state.is_watched:
                return []
            return [
                ScanCompleted(
                    **base,
                    found=command.found,
                    registered=command.registered,
                    changed=command.changed,
                    problems=command.problems,
                    problem_count=command.problem_count,
                    relocated=command.relocated,
                    missing=command.missing,
                    passed_over=command.passed_over,
                    passed_over_count=command.passed_over_count,
                )
            ]
        case StopScan():
            return [ScanStopped(**base)] if state.is_watched else []
        case _:
            assert_never(command)
