"""Read model: where each face occurs, by the cluster it belongs to."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from uuid import UUID

import msgspec
import psycopg
from sqlalchemy import Column, Double, Text

from application.ports import Recorded
from domain.face_cluster import FacesClustered, FacesReclustered
from projectors.timeline import Escaped, Found, TimelineProjection, counts_table, timeline_table, videos_table


class _Payload(msgspec.Struct, gc=False):
    confidence: float
    cluster_id: str | None = None


class _Face(Found, gc=False):
    payload: _Payload


class FaceClusters(TimelineProjection[_Face]):
    """One row for each face in each frame, also those that belong to no cluster yet.

    The cluster is the producer's own, until clustering across the library says whose the face is.
    """

    name = "face_clusters"
    artifact_type = "face.detection"
    topics = TimelineProjection.topics | {FacesClustered.TOPIC, FacesReclustered.TOPIC}
    tables = (
        timeline_table(
            name,
            Column("cluster_id", Text(collation="C")),
            Column("confidence", Double, nullable=False),
            label="cluster_id",
        ),
        videos_table(name),
        counts_table(name),
    )
    decoder = msgspec.json.Decoder(list[_Face])
    own_columns = ("cluster_id", "confidence")
    has_counts = True

    def apply(self, connection: psycopg.Connection, records: Sequence[Recorded]) -> None:
        """Stretches of other records as all timelines do; between them, whose the faces are."""
        for is_clustering, stretch in groupby(records, key=_is_clustering):
            if is_clustering:
                _assign(connection, list(stretch))
            else:
                super().apply(connection, list(stretch))

    def lines(self, found: Sequence[_Face]) -> list[str]:
        """The rows."""
        clusters = Escaped()
        return [
            f"{f.start_ms}\t{f.end_ms}\t{f.artifact_id}\t{clusters[f.payload.cluster_id]}\t{f.payload.confidence!r}"
            for f in found
        ]

    def labels(self, found: Sequence[_Face]) -> Iterable[str]:
        """The clusters that are known."""
        return (f.payload.cluster_id for f in found if f.payload.cluster_id is not None)


def _is_clustering(record: Recorded) -> bool:
    return isinstance(record.item, FacesClustered | FacesReclustered)


_CHANGED = """
    FROM unnest(%s::text[], %s::uuid[], %s::uuid[], %s::uuid[], %s::text[])
        c (tenant_id, video_id, run_id, artifact_id, cluster_id)
    JOIN face_clusters_videos v ON v.tenant_id = c.tenant_id AND v.video_id = c.video_id"""
_SAME = """
    t.tenant_id = v.tenant_id AND t.captured_at = v.captured_at AND t.video_id = v.video_id
    AND t.run_id = c.run_id AND t.artifact_id = c.artifact_id AND t.cluster_id IS DISTINCT FROM c.cluster_id"""


def _assign(connection: psycopg.Connection, records: Sequence[Recorded]) -> None:
    """Give rows that are there their clusters; of several for one face the last counts."""
    wanted: dict[tuple[str, UUID, UUID, UUID], str] = {}
    for record in records:
        assert isinstance(record.item, FacesClustered | FacesReclustered)
        for group in record.item.members:
            cluster_id = group.cluster_id.replace("\0", "")
            for artifact_id in group.artifact_ids:
                wanted[record.item.tenant_id, group.video_id, group.run_id, artifact_id] = cluster_id
    if not wanted:
        return
    columns = [*map(list, zip(*wanted, strict=True)), list(wanted.values())]
    counts: Counter[tuple[str, str, str, UUID, UUID]] = Counter()
    for tenant_id, at, video_id, run_id, old, new, n in connection.execute(
        "SELECT t.tenant_id, t.captured_at::text, t.video_id, t.run_id, t.cluster_id, c.cluster_id, count(*)"
        f"{_CHANGED} JOIN face_clusters t ON {_SAME} GROUP BY 1, 2, 3, 4, 5, 6",
        columns,
    ):
        if old is not None:
            counts[tenant_id, old, at, video_id, run_id] -= n
        counts[tenant_id, new, at, video_id, run_id] += n
    if not counts:
        return
    connection.execute(
        f"UPDATE face_clusters t SET cluster_id = c.cluster_id{_CHANGED} WHERE {_SAME}",
        columns,
    )
    cells = [list(column) for column in zip(*((*key, n) for key, n in counts.items()), strict=True)]
    connection.execute(
        "INSERT INTO face_clusters_counts AS f (tenant_id, label, captured_at, video_id, run_id, n)"
        " SELECT * FROM unnest(%s::text[], %s::text[], %s::text[]::timestamptz[], %s::uuid[], %s::uuid[], %s::int[])"
        " ON CONFLICT (tenant_id, label, captured_at, video_id, run_id) DO UPDATE SET n = f.n + excluded.n",
        cells,
    )
    connection.execute(
        "DELETE FROM face_clusters_counts f"
        " USING unnest(%s::text[], %s::text[], %s::text[]::timestamptz[], %s::uuid[], %s::uuid[], %s::int[])"
        " c (tenant_id, label, captured_at, video_id, run_id, n)"
        " WHERE f.n = 0 AND f.tenant_id = c.tenant_id AND f.label = c.label AND f.captured_at = c.captured_at"
        " AND f.video_id = c.video_id AND f.run_id = c.run_id",
        cells,
    )
