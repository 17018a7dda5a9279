"""Jumping along the timeline, in one video and across the library."""

import math
from typing import Annotated, Literal
from uuid import UUID

from litestar import Controller, get
from litestar.params import FromPath, FromQuery, QueryParameter

from api.request import Call
from api.routes.common import NOT_BLANK, Cursor, Millis, Profile, Selection, clamped, filled
from domain.errors import InvalidParameter
from projectors import jump as read
from projectors.selection import selection_filter

VideoKind = Literal["scene", "transcript", "object", "face", "place", "ocr"]
Kind = Literal["scene", "transcript", "object", "face", "place", "ocr", "location"]
Direction = Literal["next", "prev"]
Label = Annotated[
    str | None,
    QueryParameter(description="Exactly this label, in any case.", max_length=200, schema_extra=NOT_BLANK),
]
Query = Annotated[
    str | None,
    QueryParameter(
        name="query",
        description="Words that must all be there, stemmed; for locations part of a name.",
        max_length=1_000,
        schema_extra=NOT_BLANK,
    ),
]
Cluster = Annotated[str | None, QueryParameter(description="Exactly this face cluster.", max_length=200)]
Confidence = Annotated[float | None, QueryParameter(ge=0, le=1, description="At least this confidence.")]
Degrees = Annotated[float | None, QueryParameter(description="Bound of a box, degrees.")]


class Timeline(Controller):
    """Timeline."""

    path = "/v1"
    tags = ("Timeline",)

    @get("/videos/{video_id:str}/jump")
    async def in_video(
        self,
        request: Call,
        video_id: FromPath[UUID],
        kind: FromQuery[VideoKind],
        direction: FromQuery[Direction],
        from_ms: Millis = None,
        label: Label = None,
        words: Query = None,
        face_cluster_id: Cluster = None,
        min_confidence: Confidence = None,
        run_id: FromQuery[UUID | None] = None,
        selection: Selection = None,
        profile: Profile = None,
        cursor: Cursor = None,
    ) -> read.VideoJump:
        """The nearest thing of a kind strictly after or before a moment of a video; 404 NO_MATCH when there is none."""
        asked = read.JumpFilter(
            tenant_id=request.tenant,
            kind=kind,
            direction=direction,
            from_ms=clamped(from_ms),
            label=filled("label", label),
            query=filled("query", words),
            face_cluster_id=filled("face_cluster_id", face_cluster_id),
            min_confidence=finite("min_confidence", min_confidence),
            cursor=cursor,
            selection=selection_filter(run_id=run_id, selection=selection, profile=profile),
        )
        async with request.reading() as connection:
            return await read.jump_in_video(connection, video_id, asked)

    @get("/jump/global")
    async def across_library(
        self,
        request: Call,
        kind: FromQuery[Kind],
        direction: FromQuery[Direction],
        from_video_id: FromQuery[UUID | None] = None,
        from_ms: Millis = None,
        label: Label = None,
        words: Query = None,
        face_cluster_id: Cluster = None,
        min_confidence: Confidence = None,
        min_lat: Degrees = None,
        max_lat: Degrees = None,
        min_lon: Degrees = None,
        max_lon: Degrees = None,
        run_id: FromQuery[UUID | None] = None,
        selection: Selection = None,
        profile: Profile = None,
        limit: Annotated[int, QueryParameter(ge=1, le=50)] = 1,
        cursor: Cursor = None,
    ) -> read.GlobalJump:
        """The nearest things of a kind across the library, from a moment of a video or from the far end of time."""
        asked = read.JumpFilter(
            tenant_id=request.tenant,
            kind=kind,
            direction=direction,
            from_ms=clamped(from_ms),
            label=filled("label", label),
            query=filled("query", words),
            face_cluster_id=filled("face_cluster_id", face_cluster_id),
            min_confidence=finite("min_confidence", min_confidence),
            min_lat=finite("min_lat", min_lat),
            max_lat=finite("max_lat", max_lat),
            min_lon=finite("min_lon", min_lon),
            max_lon=finite("max_lon", max_lon),
            cursor=cursor,
            selection=selection_filter(run_id=run_id, selection=selection, profile=profile),
        )
        async with request.reading() as connection:
            return await read.jump_global(connection, asked, from_video_id=from_video_id, limit=limit)


def finite(parameter: str, value: float | None) -> float | None:
    """`value`, which may be absent but neither NaN nor infinite."""
    if value is not None and not math.isfinite(value):
        raise InvalidParameter(parameter, "must be a finite number")
    return value
