"""Whose results count, for one video or for the whole library."""

import asyncio
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Controller, delete, get, put
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from api.request import Call
from api.routes.common import TypeInPath
from application.request_task import video_of
from domain.artifacts import payload_type
from domain.errors import RunNotFound
from domain.run import RunStarted
from domain.selection import ClearSelection, Mode, SetSelection, selection_id_of
from projectors.selection_policies import get_policy
from projectors.videos import require_video


class PolicyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A policy: `profile` goes with mode profile, `run_id` with mode pinned."""

    mode: Mode
    profile: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    run_id: UUID | None = None


class Policy(msgspec.Struct, frozen=True):
    """The policy in force here; `is_stored` tells whether somebody chose it."""

    artifact_type: str
    mode: str
    profile: str | None = None
    run_id: UUID | None = None
    is_stored: bool = True


class Selections(Controller):
    """Selection policies."""

    path = "/v1"
    tags = ("Selection",)

    @get("/videos/{video_id:str}/selections/{artifact_type:str}")
    async def of_video(self, request: Call, video_id: FromPath[UUID], artifact_type: TypeInPath) -> Policy:
        """The policy stored for one video."""
        payload_type(artifact_type)
        async with request.reading() as connection:
            await require_video(connection, tenant_id=request.tenant, video_id=video_id)
        return await self._read(request, video_id, artifact_type)

    @put("/videos/{video_id:str}/selections/{artifact_type:str}")
    async def set_for_video(
        self,
        request: Call,
        video_id: FromPath[UUID],
        artifact_type: TypeInPath,
        data: JSONBody[PolicyBody],
    ) -> Policy:
        """Choose whose results count for one video."""
        await asyncio.to_thread(video_of, request.services.log, request.meta(), video_id)
        return await self._set(request, video_id, artifact_type, data)

    @delete("/videos/{video_id:str}/selections/{artifact_type:str}")
    async def clear_for_video(
        self, request: Call, video_id: FromPath[UUID], artifact_type: TypeInPath
    ) -> None:
        """Let the library's policy count again."""
        await asyncio.to_thread(video_of, request.services.log, request.meta(), video_id)
        await self._clear(request, video_id, artifact_type)

    @get("/selections/{artifact_type:str}")
    async def of_library(self, request: Call, artifact_type: TypeInPath) -> Policy:
        """The policy stored for the whole library."""
        payload_type(artifact_type)
        return await self._read(request, None, artifact_type)

    @put("/selections/{artifact_type:str}")
    async def set_for_library(
        self, request: Call, artifact_type: TypeInPath, data: JSONBody[PolicyBody]
    ) -> Policy:
        """Choose whose results count in every video that has no policy of its own."""
        return await self._set(request, None, artifact_type, data)

    @delete("/selections/{artifact_type:str}")
    async def clear_for_library(self, request: Call, artifact_type: TypeInPath) -> None:
        """Let the default count again: the latest completed run."""
        await self._clear(request, None, artifact_type)

    @staticmethod
    async def _read(request: Call, video_id: UUID | None, artifact_type: str) -> Policy:
        async with request.reading() as connection:
            stored = await get_policy(
                connection, tenant_id=request.tenant, artifact_type=artifact_type, video_id=video_id
            )
        if stored is None:
            return Policy(artifact_type, "default", is_stored=False)
        return Policy(artifact_type, stored.mode, stored.profile, stored.run_id)

    @staticmethod
    async def _set(request: Call, video_id: UUID | None, artifact_type: str, body: PolicyBody) -> Policy:
        payload_type(artifact_type)
        if body.mode == "pinned" and body.run_id is not None:
            known = await asyncio.to_thread(request.services.log.load, body.run_id)
            started = known[0] if known else None
            if not isinstance(started, RunStarted) or started.tenant_id != request.tenant:
                raise RunNotFound(body.run_id)
        await request.carry_out(
            SetSelection(
                stream_id=selection_id_of(request.tenant, video_id, artifact_type),
                meta=request.meta(),
                video_id=video_id,
                artifact_type=artifact_type,
                mode=body.mode,
                profile=body.profile,
                run_id=body.run_id,
            )
        )
        return Policy(
            artifact_type,
            body.mode,
            body.profile if body.mode == "profile" else None,
            body.run_id if body.mode == "pinned" else None,
        )

    @staticmethod
    async def _clear(request: Call, video_id: UUID | None, artifact_type: str) -> None:
        payload_type(artifact_type)
        await request.carry_out(
            ClearSelection(
                stream_id=selection_id_of(request.tenant, video_id, artifact_type),
                meta=request.meta(),
                video_id=video_id,
                artifact_type=artifact_type,
            )
        )
