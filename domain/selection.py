"""Stream selection: whose results count, for one video or for the whole library."""

from collections.abc import Sequence
from typing import Literal, assert_never, get_args
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec

from domain.errors import InvalidParameter
from domain.event import Command, DomainEvent, head

Mode = Literal["default", "latest", "latest_per_language", "profile", "pinned", "best_quality", "all"]
MODES: tuple[Mode, ...] = get_args(Mode)
PROFILE_RANK = {"high_quality": 0, "balanced": 1, "fast": 2}
"""`best_quality` takes the smallest; any other profile comes after these."""


def selection_id_of(tenant_id: str, video_id: UUID | None, artifact_type: str) -> UUID:
    """The stream of one policy; `video_id` None is the library-wide one."""
    return uuid5(NAMESPACE_URL, f"eioku:{tenant_id}:selection:{video_id or 'library'}:{artifact_type}")


class SelectionEvent(DomainEvent, frozen=True, kw_only=True):
    """Base of the stream's events."""

    video_id: UUID | None
    artifact_type: str


class SelectionSet(SelectionEvent, frozen=True, kw_only=True):
    """A policy was chosen."""

    TOPIC = "selection.set"
    mode: Mode
    profile: str | None = None
    run_id: UUID | None = None


class SelectionCleared(SelectionEvent, frozen=True, kw_only=True):
    """The wider policy applies again."""

    TOPIC = "selection.cleared"


EVENTS: tuple[type[SelectionEvent], ...] = (SelectionSet, SelectionCleared)


class SetSelection(Command, frozen=True, kw_only=True):
    """Choose a policy."""

    video_id: UUID | None
    artifact_type: str
    mode: Mode
    profile: str | None = None
    run_id: UUID | None = None


class ClearSelection(Command, frozen=True, kw_only=True):
    """Remove the policy."""

    video_id: UUID | None
    artifact_type: str


SelectionCommand = SetSelection | ClearSelection


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """The policy in force; `mode` None = none."""

    version: int
    mode: Mode | None = None
    profile: str | None = None
    run_id: UUID | None = None


def evolve(_state: Selection | None, event: SelectionEvent) -> Selection:
    """The state after `event`."""
    match event:
        case SelectionSet():
            return Selection(
                version=event.originator_version, mode=event.mode, profile=event.profile, run_id=event.run_id
            )
        case SelectionCleared():
            return Selection(version=event.originator_version)
        case _:
            raise TypeError(event)


def decide(state: Selection | None, command: SelectionCommand) -> Sequence[SelectionEvent]:
    """The events that `command` causes; empty when the policy is as wished."""
    now = state or Selection(version=0)
    base = head(command, now.version + 1) | {
        "video_id": command.video_id,
        "artifact_type": command.artifact_type,
    }
    match command:
        case SetSelection():
            if command.mode == "pinned" and command.run_id is None:
                raise InvalidParameter("run_id", "mode pinned needs the run to pin")
            if command.mode == "profile" and not (command.profile or "").strip():
                raise InvalidParameter("profile", "mode profile needs the profile's name")
            profile = command.profile if command.mode == "profile" else None
            run_id = command.run_id if command.mode == "pinned" else None
            if (now.mode, now.profile, now.run_id) == (command.mode, profile, run_id):
                return []
            return [SelectionSet(**base, mode=command.mode, profile=profile, run_id=run_id)]
        case ClearSelection():
            return [] if now.mode is None else [SelectionCleared(**base)]
        case _:
            assert_never(command)
