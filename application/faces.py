"""Whose faces are whose: follows the log, gives each detected face its cluster, and clusters anew when asked."""

from collections.abc import Iterator
from typing import Final
from uuid import UUID

import structlog

from application.handle import handle
from application.ports import Clock, EventLog, Recorded
from domain.artifacts import upcast
from domain.artifacts.envelope import ArtifactBatch, unpack
from domain.artifacts.face_detection import FaceDetectionV1
from domain.event import Meta
from domain.face_cluster import (
    ClusterFaces,
    FacesClustered,
    FacesReclustered,
    ReclusterFaces,
    ReclusterRequested,
    clustering_id_of,
)
from domain.face_library import Face, FaceLibrary, regroup
from domain.video import VideoDeleted

logger = structlog.get_logger()

FOLLOWER: Final = "faces"
FACES: Final = FaceDetectionV1.NAME
KINDS: Final = (FACES, ReclusterRequested.TOPIC)
_ANSWERS: Final = (FacesClustered.TOPIC, FacesReclustered.TOPIC)


class FaceClusterer:
    """Holds the clusters of the library in memory, as the fold of what is in the log. One process runs it at a time.

    Faces to which their producer gave a cluster, as imports may, keep it and are not looked at.
    """

    def __init__(self, log: EventLog, *, clock: Clock) -> None:
        self._log, self._clock = log, clock
        self._libraries: dict[str, FaceLibrary] | None = None
        """By tenant; None = not read from the log yet."""

    def react(self, recorded: Recorded) -> None:
        """Answer a batch of faces or a wish to cluster anew, unless it was answered before."""
        match recorded.item:
            case ArtifactBatch() as batch:
                self._cluster(batch, recorded.position)
            case ReclusterRequested() as wish:
                self._recluster(wish, recorded.position)
            case _:
                pass

    def _cluster(self, batch: ArtifactBatch, position: int) -> None:
        stream = clustering_id_of(batch.head.run_id, batch.first_version)
        if self._log.version(stream) or not (faces := list(_faces_of(batch))):
            return
        members, centres = self._library(batch.head.tenant_id).place(faces)
        meta = self._meta(batch.head.tenant_id, batch.head.correlation_id, position)
        handle(self._log, ClusterFaces(stream_id=stream, meta=meta, members=members, centres=centres))
        self._fold(stream)

    def _recluster(self, wish: ReclusterRequested, position: int) -> None:
        stream = wish.originator_id
        if self._log.version(stream) > wish.originator_version:
            return
        faces, before = self._everything(wish.tenant_id, position)
        members, centres = regroup(faces, before, stream)
        meta = self._meta(wish.tenant_id, wish.correlation_id, position)
        handle(self._log, ReclusterFaces(stream_id=stream, meta=meta, members=members, centres=centres))
        self._fold(stream)
        logger.info(
            "faces.reclustered",
            faces=len(faces),
            moved=sum(len(group.artifact_ids) for group in members),
            clusters=len(centres),
        )

    def _everything(self, tenant_id: str, until: int) -> tuple[list[Face], dict[tuple[UUID, UUID], str]]:
        """The tenant's faces up to a position, in log order, without those of deleted videos; and whose they are."""
        faces: dict[tuple[UUID, UUID], Face] = {}
        before: dict[tuple[UUID, UUID], str] = {}
        for record in _read(self._log, (FACES, VideoDeleted.TOPIC, *_ANSWERS)):
            match record.item:
                case ArtifactBatch() as batch if (
                    record.position <= until and batch.head.tenant_id == tenant_id
                ):
                    faces |= {face.key: face for face in _faces_of(batch)}
                case VideoDeleted(originator_id=gone):
                    faces = {key: face for key, face in faces.items() if face.video_id != gone}
                case FacesClustered() | FacesReclustered() as event if event.tenant_id == tenant_id:
                    for group in event.members:
                        before |= {
                            (group.run_id, artifact_id): group.cluster_id
                            for artifact_id in group.artifact_ids
                        }
        return list(faces.values()), before

    def _library(self, tenant_id: str) -> FaceLibrary:
        if self._libraries is None:
            libraries: dict[str, FaceLibrary] = {}
            for record in _read(self._log, _ANSWERS):
                if isinstance(event := record.item, FacesClustered | FacesReclustered):
                    libraries.setdefault(event.tenant_id, FaceLibrary()).fold(event)
            self._libraries = libraries
        return self._libraries.setdefault(tenant_id, FaceLibrary())

    def _fold(self, stream: UUID) -> None:
        """Take what is stored, so that memory says what a reader of the log would say."""
        stored = self._log.load(stream)
        for event in stored:
            if isinstance(event, FacesClustered | FacesReclustered):
                self._library(event.tenant_id).fold(event)

    def _meta(self, tenant_id: str, correlation_id: UUID, position: int) -> Meta:
        return Meta(
            at=self._clock(),
            tenant_id=tenant_id,
            actor=f"system:{FOLLOWER}",
            correlation_id=correlation_id,
            causation_id=f"g{position}",
        )


def _faces_of(batch: ArtifactBatch) -> Iterator[Face]:
    """The faces of a batch that can be compared and belong to nobody yet."""
    head = batch.head
    for item in unpack(batch):
        payload = upcast(FACES, head.schema_version, item.payload)
        vector, space = payload.get("vector"), payload.get("vector_space")
        if vector is not None and space is not None and payload.get("cluster_id") is None:
            yield Face(head.video_id, head.run_id, item.artifact_id, space, vector)


def _read(log: EventLog, kinds: tuple[str, ...]) -> Iterator[Recorded]:
    after = 0
    while records := log.read(after, kinds=kinds):
        yield from records
        after = records[-1].position
