"""Artifacts: what was found, and where it comes from."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Controller, get
from litestar.params import FromPath, FromQuery, QueryParameter

from api.parameters import ANY_FIELD
from api.request import Call
from api.routes.common import Cursor, Millis, Profile, Selection, clamped, known_type
from application.ports import EventLog
from domain.artifacts import LATEST
from domain.artifacts.envelope import Artifact
from domain.errors import InvalidParameter
from domain.event import DomainEvent
from domain.run import ModelIdentity
from projectors import artifacts as read
from projectors.runs import RunView, get_run
from projectors.selection import selection_filter
from projectors.tasks import TaskView, get_task
from projectors.videos import get_video

FIELD = "payload."


class ArtifactShown(Artifact, frozen=True, kw_only=True):
    """An artifact with its full envelope."""

    cursor: str | None = None
    """To go on behind it in this list."""


class ArtifactList(msgspec.Struct, frozen=True):
    """Some artifacts, by start, then id."""

    artifacts: list[ArtifactShown]
    has_more: bool


class EventShown(msgspec.Struct, frozen=True):
    """One fact of the log."""

    topic: str
    stream_id: UUID
    version: int
    recorded_at: datetime
    actor: str
    correlation_id: UUID


class Provenance(msgspec.Struct, frozen=True):
    """Where an artifact comes from, back to the file's bytes."""

    artifact: ArtifactShown
    artifact_position: int
    """Place of its event in the log."""
    run: RunView
    task: TaskView
    model: ModelIdentity | None
    file_blake3: str | None
    source: str
    events: list[EventShown]
    """Of the video, the task and the run, each in order."""


class Artifacts(Controller):
    """Artifacts."""

    path = "/v1"
    tags = ("Artifacts",)

    @get("/videos/{video_id:str}/artifacts", opt={ANY_FIELD: FIELD})
    async def of_video(
        self,
        request: Call,
        video_id: FromPath[UUID],
        artifact_type: Annotated[
            str | None,
            QueryParameter(name="type", description="Artifact type.", schema_extra={"enum": sorted(LATEST)}),
        ] = None,
        from_ms: Millis = None,
        to_ms: Millis = None,
        run_id: FromQuery[UUID | None] = None,
        selection: Selection = None,
        profile: Profile = None,
        limit: Annotated[int, QueryParameter(ge=1, le=100)] = 100,
        cursor: Cursor = None,
    ) -> ArtifactList:
        """What selected runs found in a video, by start, then id; a range takes what overlaps it.

        Any `payload.<field>=value` keeps those whose payload has that value there.
        """
        if artifact_type is not None:
            known_type("type", artifact_type)
        fields = {
            name.removeprefix(FIELD): value
            for name, value in request.query_params.items()
            if name.startswith(FIELD)
        }
        if len(fields) > 10 or any(not name or len(name) > 200 for name in fields):
            raise InvalidParameter(FIELD + "*", "at most 10 fields, each named")
        wanted = selection_filter(run_id=run_id, selection=selection, profile=profile)
        async with request.reading() as connection:
            page = await read.list_artifacts(
                connection,
                tenant_id=request.tenant,
                video_id=video_id,
                selection=wanted,
                artifact_type=artifact_type,
                from_ms=clamped(from_ms),
                to_ms=clamped(to_ms),
                payload=fields,
                limit=limit,
                cursor=cursor,
            )
        return ArtifactList([_shown(view) for view in page.artifacts], page.has_more)

    @get("/artifacts/{artifact_id:str}")
    async def one(self, request: Call, artifact_id: FromPath[UUID]) -> ArtifactShown:
        """One artifact."""
        async with request.reading() as connection:
            view = await read.get_artifact(connection, tenant_id=request.tenant, artifact_id=artifact_id)
        return _shown(view)

    @get("/artifacts/{artifact_id:str}/provenance")
    async def provenance(self, request: Call, artifact_id: FromPath[UUID]) -> Provenance:
        """Where an artifact comes from: its run, task, model, file, and the events that tell of them."""
        tenant_id = request.tenant
        async with request.reading() as connection:
            view = await read.get_artifact(connection, tenant_id=tenant_id, artifact_id=artifact_id)
            run = await get_run(connection, tenant_id=tenant_id, run_id=view.artifact.run_id)
            task, _ = await get_task(connection, tenant_id=tenant_id, task_id=run.task_id)
            video = await get_video(connection, tenant_id=tenant_id, video_id=run.video_id)
        streams = (run.video_id, run.task_id, run.run_id)
        events = await asyncio.to_thread(_events, request.services.log, streams)
        return Provenance(
            artifact=_shown(view),
            artifact_position=view.position,
            run=run,
            task=task,
            model=run.model,
            file_blake3=video.blake3,
            source=video.source,
            events=events,
        )


def _shown(view: read.ArtifactView) -> ArtifactShown:
    envelope = {name: getattr(view.artifact, name) for name in Artifact.__struct_fields__}
    return ArtifactShown(**envelope, cursor=view.cursor or None)


def _events(log: EventLog, streams: Sequence[UUID]) -> list[EventShown]:
    return [_event(event) for stream in streams for event in log.load(stream)]


def _event(event: DomainEvent) -> EventShown:
    return EventShown(
        topic=event.TOPIC,
        stream_id=event.originator_id,
        version=event.originator_version,
        recorded_at=event.recorded_at,
        actor=event.actor,
        correlation_id=event.correlation_id,
    )
