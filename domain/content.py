"""Stream content: which video holds some bytes first, so that the same file is analysed once.

Later videos with the same bytes wait: when the holder is deleted or changes, the next of them takes over.
"""

from collections.abc import Sequence
from typing import assert_never
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec

from domain.event import Command, DomainEvent, head


def content_id_of(tenant_id: str, blake3: str) -> UUID:
    """The stream of one content within a tenant."""
    return uuid5(NAMESPACE_URL, f"eioku:{tenant_id}:content:{blake3}")


class ContentEvent(DomainEvent, frozen=True, kw_only=True):
    """Base of the stream's events."""

    video_id: UUID


class ContentClaimed(ContentEvent, frozen=True, kw_only=True):
    """The video is the first, or the only one left, with this content."""

    TOPIC = "content.claimed"


class ContentShared(ContentEvent, frozen=True, kw_only=True):
    """The video has the same content as the holder, and waits."""

    TOPIC = "content.shared"


class ContentReleased(ContentEvent, frozen=True, kw_only=True):
    """The video, holder or waiting, was deleted or has other content now."""

    TOPIC = "content.released"


EVENTS: tuple[type[ContentEvent], ...] = (ContentClaimed, ContentShared, ContentReleased)


class ClaimContent(Command, frozen=True, kw_only=True):
    """Claim the content for a video, or wait while another video holds it."""

    video_id: UUID


class ReleaseContent(Command, frozen=True, kw_only=True):
    """Give the content up; the first that waits takes over."""

    video_id: UUID


ContentCommand = ClaimContent | ReleaseContent


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds the content."""

    version: int
    video_id: UUID | None = None
    waiting: tuple[UUID, ...] = ()


def evolve(state: Content | None, event: ContentEvent) -> Content:
    """The state after `event`."""
    now = state or Content(version=0)
    others = tuple(video_id for video_id in now.waiting if video_id != event.video_id)
    match event:
        case ContentClaimed():
            return Content(version=event.originator_version, video_id=event.video_id, waiting=others)
        case ContentShared():
            return Content(
                version=event.originator_version, video_id=now.video_id, waiting=(*others, event.video_id)
            )
        case ContentReleased():
            holder = None if now.video_id == event.video_id else now.video_id
            return Content(version=event.originator_version, video_id=holder, waiting=others)
        case _:
            raise TypeError(event)


def decide(state: Content | None, command: ContentCommand) -> Sequence[ContentEvent]:
    """The events that `command` causes; empty when nothing changes hands."""
    now = state or Content(version=0)
    base = head(command, now.version + 1)
    match command:
        case ClaimContent():
            if command.video_id in (now.video_id, *now.waiting):
                return []
            kind = ContentClaimed if now.video_id is None else ContentShared
            return [kind(**base, video_id=command.video_id)]
        case ReleaseContent():
            if command.video_id not in (now.video_id, *now.waiting):
                return []
            released = ContentReleased(**base, video_id=command.video_id)
            if now.video_id != command.video_id or not now.waiting:
                return [released]
            return [released, ContentClaimed(**head(command, now.version + 2), video_id=now.waiting[0])]
        case _:
            assert_never(command)
