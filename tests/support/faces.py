"""Puts what a face producer found into a log, as the ingester would, and tells whose face each is."""

from uuid import UUID, uuid5

from domain.artifacts.envelope import BatchHead, Item, artifact_id_of, pack
from domain.face_cluster import FacesClustered, FacesReclustered
from tests.support.given import AT, META
from tests.support.memory_log import MemoryLog
from tests.support.produce import Made


class Cinema:
    """Films by name."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self._counts: dict[str, int] = {}

    def show(self, name: str, made: Made) -> None:
        """Store the faces of a film."""
        run_id = self._run(name)
        head = BatchHead(
            run_id=run_id, video_id=uuid5(run_id, "video"), tenant_id="default", artifact_type="face.detection",
            schema_version=1, producer="p", producer_version="1", model_profile="balanced", config_hash="c",
            input_hash="i", created_at=AT, actor="worker:w", correlation_id=META.correlation_id,
        )  # fmt: skip
        items = [
            Item(artifact_id=artifact_id_of(run_id, index), start_ms=start_ms, end_ms=end_ms, payload=payload)
            for index, (_, start_ms, end_ms, payload) in enumerate(made.found, start=1)
        ]
        self._counts[name] = len(items)
        self.log.append([pack(head, 1, items)])

    def clusters(self) -> dict[str, list[str | None]]:
        """The cluster of each face of each film, in order of the artifacts."""
        now: dict[UUID, str] = {}
        for record in self.log.records:
            if isinstance(record.item, FacesClustered | FacesReclustered):
                for group in record.item.members:
                    now |= dict.fromkeys(group.artifact_ids, group.cluster_id)
        return {
            name: [now.get(artifact_id_of(self._run(name), index)) for index in range(1, count + 1)]
            for name, count in self._counts.items()
        }

    @staticmethod
    def _run(name: str) -> UUID:
        return uuid5(UUID(int=1), name)
