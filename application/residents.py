"""Which video lies at a path: the same path made known twice is one video."""

from collections.abc import Iterable, Sequence
from itertools import count
from uuid import UUID

import msgspec

from application.handle import decide, present, store
from application.ports import EventLog
from domain import video
from domain.errors import ContentMismatch
from domain.event import DomainEvent
from domain.video import RegisterVideo, Video, later_id_of, video_id_of


def residents(
    log: EventLog, tenant_id: str, source: str, hints: Iterable[UUID] = ()
) -> list[tuple[UUID, Video]]:
    """The videos at a place, the likeliest first; at most one unless something is just happening.

    A video that somebody deleted there is returned when no other is. `hints`: ids that the read model proposes.
    """
    found: dict[UUID, Video] = {}
    for hint in (*hints, video_id_of(tenant_id, source)):
        video_id, state = hint, _video(log, tenant_id, hint)
        while state is not None and state.merged_into is not None:
            video_id = state.merged_into  # the one that its file belongs to
            state = _video(log, tenant_id, video_id)
        if state is not None and state.source == source:
            found[video_id] = state
    living = [(video_id, state) for video_id, state in found.items() if not state.is_deleted]
    return sorted(living, key=lambda one: one[1].is_missing) or list(found.items())


def free_id(log: EventLog, wish: RegisterVideo) -> UUID:
    """The id under which a new video at this place is registered: one that nobody has or had elsewhere."""
    tenant_id = wish.meta.tenant_id
    video_id = video_id_of(tenant_id, wish.source)
    for number in count():
        state = _video(log, tenant_id, video_id)
        if state is None and not log.version(video_id):
            break
        if state is not None and state.is_deleted and state.source == wish.source:
            break
        video_id = later_id_of(tenant_id, wish.source, wish.size_bytes, wish.mtime_ms, number)
    return video_id


def register(
    log: EventLog, wish: RegisterVideo, hints: Sequence[UUID] = (), *, is_id_chosen: bool
) -> tuple[UUID, str, int]:
    """Make a video known unless one lies there: (its id, what it is called, the position to read at).

    A video that was deleted begins anew under its id. `is_id_chosen`: the wish's id is the client's, and is kept.

    Raises:
        ContentMismatch: the place is another video's, or the id another place's.
    """
    video_id, filename = wish.stream_id, wish.filename

    def decided() -> Sequence[DomainEvent]:
        nonlocal video_id, filename
        found = residents(log, wish.meta.tenant_id, wish.source, hints)
        living = {one: state for one, state in found if not state.is_deleted}
        if is_id_chosen:
            if living and wish.stream_id not in living:
                raise ContentMismatch(f"video {next(iter(living))} lies at {wish.source} already; use that id")
            return decide(log, wish)
        if living:
            video_id, there = next(iter(living.items()))
            filename = there.filename
            return ()
        video_id = found[0][0] if found else free_id(log, wish)
        return decide(log, msgspec.structs.replace(wish, stream_id=video_id))

    position = store(log, decided)
    return video_id, filename, position


def _video(log: EventLog, tenant_id: str, video_id: UUID) -> Video | None:
    state: Video | None = present(log, video, video_id)
    return state if state is not None and state.tenant_id == tenant_id else None
