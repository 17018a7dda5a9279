"""Streams of face clustering: whose faces are whose, across the library.

Each batch of detected faces has a stream of its own, `clustering_id_of`, with the one answer to it, so that a second
answer is refused by the log. Each re-clustering has one too: the request, then what it changed. The clusters of the
library are the fold of all of them in log order (`domain.face_library`).
"""

from collections.abc import Sequence
from typing import assert_never
from uuid import UUID, uuid5

import msgspec

from domain.errors import InvalidState
from domain.event import Command, DomainEvent, head

ALGORITHM = "nearest-centre-1"
FACES_A_PART, CENTRES_A_PART = 5_000, 500
"""So that no event is larger than a message of the broker."""


def clustering_id_of(run_id: UUID, first_version: int) -> UUID:
    """The stream that says whose the faces of one batch of a run are."""
    return uuid5(run_id, f"faces:{first_version}")


class Members(msgspec.Struct, frozen=True, kw_only=True):
    """Faces of one run that belong to one cluster."""

    video_id: UUID
    run_id: UUID
    cluster_id: str
    artifact_ids: tuple[UUID, ...]


class Centre(msgspec.Struct, frozen=True, kw_only=True):
    """Where a cluster lies from now on."""

    cluster_id: str
    space: str
    """The vector space of its faces."""
    weight: int
    """Faces it is the mean of."""
    vector: str
    """`domain.face_vectors.pack_single`"""


# ---- events ------------------------------------------------------------------------------------------------------


class FaceClusterEvent(DomainEvent, frozen=True, kw_only=True):
    """Base of the streams' events."""


class FacesClustered(FaceClusterEvent, frozen=True, kw_only=True):
    """The faces of one batch joined clusters, or opened some."""

    TOPIC = "faces.clustered"
    algorithm: str
    members: tuple[Members, ...]
    centres: tuple[Centre, ...]
    """Of the clusters that changed."""


class ReclusterRequested(FaceClusterEvent, frozen=True, kw_only=True):
    """All faces of the library are to be looked at again, together."""

    TOPIC = "faces.recluster_requested"


class FacesReclustered(FaceClusterEvent, frozen=True, kw_only=True):
    """What a re-clustering changed, in parts. The first ends all clusters there were; the parts hold those there are."""

    TOPIC = "faces.reclustered"
    algorithm: str
    part: int
    """From 1."""
    parts: int
    members: tuple[Members, ...]
    """Faces that changed their cluster."""
    centres: tuple[Centre, ...]


EVENTS: tuple[type[FaceClusterEvent], ...] = (FacesClustered, ReclusterRequested, FacesReclustered)


# ---- commands ----------------------------------------------------------------------------------------------------


class ClusterFaces(Command, frozen=True, kw_only=True):
    """Say whose the faces of a batch are."""

    members: tuple[Members, ...]
    centres: tuple[Centre, ...]


class RequestRecluster(Command, frozen=True, kw_only=True):
    """Wish for a re-clustering."""


class ReclusterFaces(Command, frozen=True, kw_only=True):
    """Say what a re-clustering came to."""

    members: tuple[Members, ...]
    centres: tuple[Centre, ...]


FaceClusterCommand = ClusterFaces | RequestRecluster | ReclusterFaces


# ---- state -------------------------------------------------------------------------------------------------------


class Clustering(msgspec.Struct, frozen=True, kw_only=True):
    """Where one clustering stands."""

    version: int
    is_done: bool


def evolve(_state: Clustering | None, event: FaceClusterEvent) -> Clustering:
    """The state after `event`."""
    match event:
        case FacesClustered() | FacesReclustered():
            return Clustering(version=event.originator_version, is_done=True)
        case ReclusterRequested():
            return Clustering(version=event.originator_version, is_done=False)
        case _:
            raise TypeError(event)


def decide(state: Clustering | None, command: FaceClusterCommand) -> Sequence[FaceClusterEvent]:
    """The events that `command` causes; empty when it is done already."""
    match command:
        case ClusterFaces():
            if state is not None:
                return []
            return [
                FacesClustered(
                    **head(command, 1), algorithm=ALGORITHM, members=command.members, centres=command.centres
                )
            ]
        case RequestRecluster():
            return [] if state is not None else [ReclusterRequested(**head(command, 1))]
        case ReclusterFaces():
            if state is None:
                raise InvalidState(f"nobody asked for re-clustering {command.stream_id}")
            return [] if state.is_done else _parts(state, command)
        case _:
            assert_never(command)


def _parts(state: Clustering, command: ReclusterFaces) -> list[FaceClusterEvent]:
    members = _sliced(command.members)
    centres = [
        command.centres[at : at + CENTRES_A_PART] for at in range(0, len(command.centres), CENTRES_A_PART)
    ]
    count = max(1, len(members), len(centres))
    return [
        FacesReclustered(
            **head(command, state.version + 1 + part),
            algorithm=ALGORITHM,
            part=part + 1,
            parts=count,
            members=members[part] if part < len(members) else (),
            centres=centres[part] if part < len(centres) else (),
        )
        for part in range(count)
    ]


def _sliced(members: Sequence[Members]) -> list[tuple[Members, ...]]:
    """Members in order, so many to a part that it holds no more than `FACES_A_PART` faces or groups."""
    parts: list[tuple[Members, ...]] = []
    now: list[Members] = []
    room = FACES_A_PART
    for group in members:
        ids = group.artifact_ids
        while ids:
            now.append(msgspec.structs.replace(group, artifact_ids=ids[:room]))
            taken = len(ids[:room])
            ids, room = ids[taken:], room - taken - 3  # a group's own fields weigh as much as three faces
            if room <= 0:
                parts.append(tuple(now))
                now, room = [], FACES_A_PART
    return [*parts, tuple(now)] if now else parts
