"""Read model: the scenes of each video."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import BigInteger, Column

from projectors.timeline import Found, TimelineProjection, timeline_table, videos_table


class _Payload(msgspec.Struct, gc=False):
    scene_index: int


class _Scene(Found, gc=False):
    payload: _Payload


class SceneRanges(TimelineProjection[_Scene]):
    """One row for each scene."""

    name = "scene_ranges"
    artifact_type = "scene"
    tables = (timeline_table(name, Column("scene_index", BigInteger, nullable=False)), videos_table(name))
    decoder = msgspec.json.Decoder(list[_Scene])
    own_columns = ("scene_index",)

    def lines(self, found: Sequence[_Scene]) -> list[str]:
        """The rows."""
        return [f"{f.start_ms}\t{f.end_ms}\t{f.artifact_id}\t{f.payload.scene_index}" for f in found]
