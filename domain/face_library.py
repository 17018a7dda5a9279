"""The clusters of a library, and how faces find theirs. Deterministic: the same faces in the same order, the same ids."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import dist
from typing import NamedTuple
from uuid import UUID, uuid5

from domain.face_cluster import Centre, FaceClusterEvent, FacesClustered, FacesReclustered, Members
from domain.face_vectors import Vector, pack_single, unpack_half, unpack_single

JOINS = 0.5
"""Distance to a cluster's centre below which a face belongs to it. Measured with dlib's network: the same person up to
0.48 in varied pictures, different people from 0.54."""
MERGES = 0.35
"""Distance of two centres below which a re-clustering makes them one."""
ROUNDS = 5
"""How often a re-clustering moves faces to nearer centres, at most."""


class Face(NamedTuple):
    """A face that can be compared."""

    video_id: UUID
    run_id: UUID
    artifact_id: UUID
    space: str
    vector: str
    """As its artifact holds it."""

    @property
    def key(self) -> tuple[UUID, UUID]:
        """What names it: (run, artifact)."""
        return self.run_id, self.artifact_id


class _Cluster(NamedTuple):
    weight: int
    centre: Vector

    def with_one_more(self, vector: Vector) -> "_Cluster":
        n = self.weight + 1
        return _Cluster(n, tuple(c + (v - c) / n for c, v in zip(self.centre, vector, strict=True)))


Clusters = dict[str, _Cluster]


class FaceLibrary:
    """All clusters of one tenant: a fold of events."""

    def __init__(self) -> None:
        self._spaces: defaultdict[str, Clusters] = defaultdict(dict)

    def fold(self, event: FaceClusterEvent) -> None:
        """Take what was decided."""
        match event:
            case FacesReclustered(part=1):
                self._spaces.clear()
                self._place(event.centres)
            case FacesClustered() | FacesReclustered():
                self._place(event.centres)
            case _:
                pass

    def place(self, faces: Sequence[Face]) -> tuple[tuple[Members, ...], tuple[Centre, ...]]:
        """Where the faces belong, one after the other, and the centres that move; changes nothing until folded.

        A face joins the nearest cluster, or opens one when none is near enough. A vector that occurs several times,
        of somebody who holds still, counts once.
        """
        spaces = {space: dict(self._spaces[space]) for space in {face.space for face in faces}}
        known: dict[tuple[str, str], str] = {}
        chosen: list[str] = []
        for face in faces:
            cluster_id = known.get((face.space, face.vector))
            if cluster_id is None:
                clusters, vector = spaces[face.space], unpack_half(face.vector)
                cluster_id = _nearest(clusters, vector)
                if cluster_id is None:
                    cluster_id = _new_id(face.run_id, face)
                    clusters[cluster_id] = _Cluster(1, vector)
                else:
                    clusters[cluster_id] = clusters[cluster_id].with_one_more(vector)
                known[face.space, face.vector] = cluster_id
            chosen.append(cluster_id)
        changed = sorted({(space, known[space, vector]) for space, vector in known})
        centres = tuple(
            _centre(space, cluster_id, spaces[space][cluster_id]) for space, cluster_id in changed
        )
        return members_of(zip(faces, chosen, strict=True)), centres

    def _place(self, centres: Iterable[Centre]) -> None:
        for one in centres:
            self._spaces[one.space][one.cluster_id] = _Cluster(one.weight, unpack_single(one.vector))


def regroup(
    faces: Sequence[Face], before: Mapping[tuple[UUID, UUID], str], name: UUID
) -> tuple[tuple[Members, ...], tuple[Centre, ...]]:
    """All faces of a library looked at together: those that change their cluster, and all clusters there are then.

    Faces move to nearer centres and centres that lie close become one, until nothing changes. A new group keeps the id
    of the old cluster (`before`: by a face's key) that it shares most faces with; each id is kept once. Groups that are
    left get new ids, made of `name`.
    """
    members: list[tuple[Face, str]] = []
    centres: list[Centre] = []
    for space in sorted({face.space for face in faces}):
        own = [face for face in faces if face.space == space]
        vectors = list(dict.fromkeys(face.vector for face in own))
        groups = _grouped([unpack_half(vector) for vector in vectors])
        group_of = dict(zip(vectors, groups, strict=True))
        ids = _kept_ids(own, group_of, before, name)
        members += [(face, ids[group_of[face.vector]]) for face in own]
        clusters: Clusters = {}
        for vector in vectors:
            cluster_id, point = ids[group_of[vector]], unpack_half(vector)
            old = clusters.get(cluster_id)
            clusters[cluster_id] = _Cluster(1, point) if old is None else old.with_one_more(point)
        centres += [_centre(space, cluster_id, clusters[cluster_id]) for cluster_id in sorted(clusters)]
    moved = [(face, cluster_id) for face, cluster_id in members if before.get(face.key) != cluster_id]
    return members_of(moved), tuple(centres)


def members_of(chosen: Iterable[tuple[Face, str]]) -> tuple[Members, ...]:
    """Faces with their clusters, those of one run and cluster together."""
    groups: dict[tuple[UUID, UUID, str], list[UUID]] = {}
    for face, cluster_id in chosen:
        groups.setdefault((face.video_id, face.run_id, cluster_id), []).append(face.artifact_id)
    return tuple(
        Members(video_id=video_id, run_id=run_id, cluster_id=cluster_id, artifact_ids=tuple(ids))
        for (video_id, run_id, cluster_id), ids in groups.items()
    )


def _centre(space: str, cluster_id: str, cluster: _Cluster) -> Centre:
    return Centre(
        cluster_id=cluster_id, space=space, weight=cluster.weight, vector=pack_single(cluster.centre)
    )


def _new_id(name: UUID, face: Face) -> str:
    return f"face-{uuid5(name, f'face:{face.run_id}:{face.artifact_id}').hex[:16]}"


def _nearest(clusters: Clusters, vector: Vector) -> str | None:
    """The nearest cluster that is near enough; of equally near ones the one with the smaller id."""
    best = min(((dist(c.centre, vector), cluster_id) for cluster_id, c in clusters.items()), default=None)
    return None if best is None or best[0] >= JOINS else best[1]


# ---- re-clustering -----------------------------------------------------------------------------------------------


def _grouped(vectors: Sequence[Vector]) -> list[int]:
    """A number for each vector, equal within a group."""
    centres: dict[int, Vector] = {}
    groups: list[int] = []
    for _ in range(ROUNDS):
        now = _assigned(vectors, centres)
        if now == groups:
            break
        groups, centres = _merged(vectors, now)
    return groups


def _assigned(vectors: Sequence[Vector], centres: Mapping[int, Vector]) -> list[int]:
    """The group with the nearest centre for each vector; one that is near to none opens a group for those after it."""
    moving = {group: _Cluster(1, centre) for group, centre in centres.items()}
    opened: set[int] = set()
    chosen = []
    for vector in vectors:
        far, group = min(((dist(c.centre, vector), g) for g, c in moving.items()), default=(JOINS, -1))
        if far >= JOINS:
            group = len(moving)
            moving[group] = _Cluster(1, vector)
            opened.add(group)
        elif group in opened:
            moving[group] = moving[group].with_one_more(vector)
        chosen.append(group)
    return chosen


def _merged(vectors: Sequence[Vector], groups: Sequence[int]) -> tuple[list[int], dict[int, Vector]]:
    """Groups whose centres lie close made one, numbered anew in order of appearance; their centres."""
    clusters: dict[int, _Cluster] = {}
    for vector, group in zip(vectors, groups, strict=True):
        old = clusters.get(group)
        clusters[group] = _Cluster(1, vector) if old is None else old.with_one_more(vector)
    into: dict[int, int] = {}
    kept: dict[int, _Cluster] = {}
    for group, cluster in clusters.items():
        far, near = min(((dist(c.centre, cluster.centre), g) for g, c in kept.items()), default=(MERGES, -1))
        if far >= MERGES:
            into[group] = len(kept)
            kept[into[group]] = cluster
        else:
            into[group] = near
            kept[near] = _sum(kept[near], cluster)
    return [into[group] for group in groups], {group: cluster.centre for group, cluster in kept.items()}


def _sum(a: _Cluster, b: _Cluster) -> _Cluster:
    n = a.weight + b.weight
    mean = ((x * a.weight + y * b.weight) / n for x, y in zip(a.centre, b.centre, strict=True))
    return _Cluster(n, tuple(mean))


def _kept_ids(
    faces: Sequence[Face],
    group_of: Mapping[str, int],
    before: Mapping[tuple[UUID, UUID], str],
    name: UUID,
) -> dict[int, str]:
    """The id of each group: of the old cluster that it shares most faces with, where that is still free."""
    shared: defaultdict[tuple[str, int], int] = defaultdict(int)
    first: dict[int, Face] = {}
    for face in faces:
        group = group_of[face.vector]
        first.setdefault(group, face)
        if (old := before.get(face.key)) is not None:
            shared[old, group] += 1
    ids: dict[int, str] = {}
    taken: set[str] = set()
    for old, group in sorted(shared, key=lambda pair: (-shared[pair], pair)):
        if old not in taken and group not in ids:
            ids[group] = old
            taken.add(old)
    return {group: ids.get(group) or _new_id(name, face) for group, face in first.items()}
