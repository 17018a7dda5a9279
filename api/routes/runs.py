"""Runs: who found it, with what, when."""

from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Controller, get
from litestar.params import FromPath, QueryParameter

from api.request import Call
from api.routes.common import Cursor, TypeInQuery, known_type
from domain.artifacts import LATEST
from projectors import runs as read

Limit = Annotated[int, QueryParameter(ge=1, le=100)]


class ProfileList(msgspec.Struct, frozen=True):
    """What there is of each profile, by name."""

    video_id: UUID
    artifact_type: str
    profiles: list[read.ProfileView]
    has_more: bool


OfType = Annotated[
    str | None,
    QueryParameter(description="Only runs that looked for this.", schema_extra={"enum": sorted(LATEST)}),
]


class Runs(Controller):
    """Runs."""

    path = "/v1"
    tags = ("Runs",)

    @get("/runs/{run_id:str}")
    async def one(self, request: Call, run_id: FromPath[UUID]) -> read.RunView:
        """One run with its provenance in full."""
        async with request.reading() as connection:
            return await read.get_run(connection, tenant_id=request.tenant, run_id=run_id)

    @get("/videos/{video_id:str}/runs")
    async def of_video(
        self,
        request: Call,
        video_id: FromPath[UUID],
        artifact_type: OfType = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> read.RunPage:
        """The completed runs on a video, newest first."""
        if artifact_type is not None:
            known_type("artifact_type", artifact_type)
        async with request.reading() as connection:
            return await read.runs_of_video(
                connection,
                tenant_id=request.tenant,
                video_id=video_id,
                artifact_type=artifact_type,
                limit=limit,
                cursor=cursor,
            )

    @get("/videos/{video_id:str}/profiles")
    async def profiles(
        self,
        request: Call,
        video_id: FromPath[UUID],
        artifact_type: TypeInQuery,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> ProfileList:
        """Which profiles have looked for a type, and how much they found."""
        known_type("artifact_type", artifact_type)
        async with request.reading() as connection:
            page = await read.profiles_of_video(
                connection,
                tenant_id=request.tenant,
                video_id=video_id,
                artifact_type=artifact_type,
                limit=limit,
                cursor=cursor,
            )
        return ProfileList(video_id, artifact_type, page.profiles, page.has_more)
