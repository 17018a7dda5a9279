"""Read model: where each video was filmed."""

from collections.abc import Sequence
from uuid import UUID

import msgspec
import psycopg
from sqlalchemy import Column, Double, Text

from domain.words import bare, fold
from projectors.projection import escape
from projectors.timeline import Found, TimelineProjection, timeline_table, videos_table


class Location(msgspec.Struct, frozen=True, gc=False):
    """A place on earth; what the file and the gazetteer do not say is None."""

    latitude: float | None = None
    """Degrees, WGS 84."""
    longitude: float | None = None
    altitude: float | None = None
    """Metres above sea level."""
    country: str | None = None
    state: str | None = None
    city: str | None = None
    district: str | None = None
    """Part of the city."""

    def is_empty(self) -> bool:
        """Whether it says nothing about a place."""
        return self.latitude is None and self.country is None and self.state is None and self.city is None


class _Metadata(Found, gc=False):
    payload: Location


class VideoLocations(TimelineProjection[_Metadata]):
    """One row for each `video.metadata` that names a place. It counts for the whole video, so it lies at 0 ms."""

    name = "video_locations"
    artifact_type = "video.metadata"
    tables = (
        timeline_table(
            name,
            Column("latitude", Double),
            Column("longitude", Double),
            Column("altitude", Double),
            Column("country", Text),
            Column("state", Text),
            Column("city", Text),
            Column("names_folded", Text, nullable=False),
            Column("names_bare", Text, nullable=False),
            Column("district", Text),
        ),
        videos_table(name),
    )
    decoder = msgspec.json.Decoder(list[_Metadata])
    version = 2
    own_columns = (*Location.__struct_fields__, "names_folded", "names_bare")

    def lines(self, found: Sequence[_Metadata]) -> list[str]:
        """The rows."""
        return [
            "\t".join(("0", "0", f.artifact_id, *map(_cell, (*msgspec.structs.astuple(f.payload), *_names(f.payload)))))
            for f in found
            if not f.payload.is_empty()
        ]


def _names(place: Location) -> tuple[str, str]:
    """Country, state and city, a line each, and the district if any, as they are compared: with accents and without."""
    district = (place.district,) if place.district else ()
    names = "\n".join(fold(name or "") for name in (place.country, place.state, place.city, *district))
    return names, bare(names)


def _cell(value: float | str | None) -> str:
    if value is None:
        return "\\N"
    return escape(value) if isinstance(value, str) else repr(value)


async def location_of_video(
    connection: psycopg.AsyncConnection, *, tenant_id: str, video_id: UUID
) -> Location | None:
    """Where a video was filmed by the runs that count; None when nobody knows."""
    found = await connection.execute(
        """SELECT o.latitude, o.longitude, o.altitude, o.country, o.state, o.city, o.district FROM video_locations o
        JOIN run_types r ON r.run_id = o.run_id AND r.artifact_type = 'video.metadata' AND r.is_selected
        WHERE o.tenant_id = %(tenant_id)s AND o.video_id = %(video_id)s AND o.captured_at = (
            SELECT captured_at FROM video_locations_videos WHERE tenant_id = %(tenant_id)s AND video_id = %(video_id)s)
        ORDER BY o.artifact_id LIMIT 1""",
        {"tenant_id": tenant_id, "video_id": video_id},
    )
    row = await found.fetchone()
    return None if row is None else Location(*row)
