"""Videos: making them known, listing, looking at and removing them."""

import asyncio
from datetime import datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, Response, delete, get, post, put
from litestar.params import FromPath, FromQuery, QueryParameter

from api.bodies import decode
from api.idempotency import Answer
from api.problems import UnsupportedMediaType
from api.receiving import BODY, UPLOAD
from api.request import Call
from api.routes.common import NOT_BLANK, Cursor, Date, Name, filled, utc
from api.sources import Source, resolve
from api.uploads import WAITING, Upload, alone, receive, remove
from application.lagging import news_at
from application.residents import register
from domain.errors import EiokuError, InvalidParameter, NoMatch
from domain.ids import chosen
from domain.pipeline import task_type
from domain.video import DeleteVideo, RegisterVideo, video_id_of
from projectors import videos as read
from projectors.tasks import TaskView, tasks_of_video
from projectors.video_locations import Location, location_of_video

Pipeline = Annotated[tuple[str, ...], msgspec.Meta(max_length=100)]


class VideoBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A video to make known. The file itself is looked at later, by a worker."""

    source: Annotated[str, msgspec.Meta(max_length=4_096)]
    """Absolute path under an allowed root, or a file:, s3:, gs:, az: or https: URL under an allowed prefix."""
    filename: Name | None = None
    """What to call it; the source's own name if absent."""
    file_created_at: Date | None = None
    """When it was filmed; overrides what the file says."""
    collection: Name | None = None
    pipeline: Pipeline | None = None
    """Task types to run; absent = the default ones, empty = none."""


class _FormFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    filename: Name | None = None
    file_created_at: Date | None = None
    collection: Name | None = None
    pipeline: Pipeline | None = None


class Accepted(msgspec.Struct, frozen=True):
    """The video is known; its work has begun or will."""

    video_id: UUID
    source: str
    filename: str


class VideoDetail(read.VideoView, frozen=True, kw_only=True):
    """A video and its tasks, oldest first."""

    tasks: list[TaskView]
    """The newest 500; `/v1/tasks?video_id=` has all."""
    task_types: tuple[str, ...]
    """What is done with it: its own pipeline, else what the pipeline file says."""


Captured = Annotated[datetime | None, QueryParameter(description="RFC 3339 with an offset.")]


class Videos(Controller):
    """Videos."""

    path = "/v1/videos"
    tags = ("Videos",)

    @post(status_code=202, opt={BODY: UPLOAD})
    async def register(self, request: Call) -> Response[Accepted]:
        """Make a video known, by its source or as an upload. A source that is known already is the same video."""
        return await _take_in(request, None)

    @put("/{video_id:str}", status_code=202, opt={BODY: UPLOAD})
    async def register_as(self, request: Call, video_id: FromPath[UUID]) -> Response[Accepted]:
        """The same under an id of one's own choice; again changes nothing.

        A UUID of version 5 is refused, but for the one that a scan would give this source.
        """
        return await _take_in(request, video_id)

    @get()
    async def list_videos(
        self,
        request: Call,
        status: FromQuery[read.VideoStatus | None] = None,
        filename: Annotated[
            str | None, QueryParameter(description="Part of the name, any case.", schema_extra=NOT_BLANK)
        ] = None,
        collection: Annotated[str | None, QueryParameter(schema_extra=NOT_BLANK)] = None,
        captured_from: Captured = None,
        captured_to: Captured = None,
        limit: Annotated[int, QueryParameter(ge=1, le=100)] = 50,
        cursor: Cursor = None,
    ) -> read.VideoPage:
        """The library in timeline order."""
        async with request.reading() as connection:
            return await read.list_videos(
                connection,
                tenant_id=request.tenant,
                status=status,
                filename=filled("filename", filename),
                collection=filled("collection", collection),
                captured_from=utc("captured_from", captured_from),
                captured_to=utc("captured_to", captured_to),
                limit=limit,
                cursor=cursor,
            )

    @get("/{video_id:str}")
    async def one(self, request: Call, video_id: FromPath[UUID]) -> VideoDetail:
        """One video, with the state of each of its tasks."""
        async with request.reading() as connection:
            video = await read.get_video(connection, tenant_id=request.tenant, video_id=video_id)
            tasks = await tasks_of_video(connection, tenant_id=request.tenant, video_id=video_id)
        plan = request.services.plans.of(video.filename, video.collection, video.pipeline)
        seen = [request.board.seen(request.tenant, task) for task in tasks]
        return VideoDetail(**msgspec.structs.asdict(video), tasks=seen, task_types=plan.run)

    @delete("/{video_id:str}")
    async def remove(self, request: Call, video_id: FromPath[UUID]) -> None:
        """Remove a video from the library: hidden at once, its artifacts leave every read model. The file stays."""
        await request.carry_out(DeleteVideo(stream_id=video_id, meta=request.meta()))

    @get("/{video_id:str}/location")
    async def location(self, request: Call, video_id: FromPath[UUID]) -> Location:
        """Where it was filmed; 404 when nobody knows."""
        async with request.reading() as connection:
            found = await location_of_video(connection, tenant_id=request.tenant, video_id=video_id)
            if found is None:
                await read.require_video(connection, tenant_id=request.tenant, video_id=video_id)
                raise NoMatch
        return found


async def _take_in(request: Call, wanted: UUID | None) -> Response[Any]:
    """`wanted` is an id of the client's choice."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        video_id = request.new_id("video") if wanted is None else chosen("video_id", wanted)
        return await _upload(request, video_id)
    if kind not in ("", "application/json"):
        raise UnsupportedMediaType(f"send application/json or multipart/form-data, not {kind}")
    body = decode(await request.body(), VideoBody)
    source = await request.disks.do(
        Path(body.source), partial(resolve, body.source, request.services.media_roots)
    )
    if wanted is not None:
        chosen("video_id", wanted, derived=video_id_of(request.tenant, source.location))
    given = _FormFields(
        body.filename or source.filename, body.file_created_at, body.collection, body.pipeline
    )
    return await _register(request, wanted, source, given)


async def _register(
    request: Call, video_id: UUID | None, source: Source, given: _FormFields
) -> Response[Accepted]:
    for name in given.pipeline or ():
        try:
            task_type(name)
        except InvalidParameter as error:
            raise InvalidParameter("pipeline", error.reason) from error
    usual = video_id_of(request.tenant, source.location)
    wish = RegisterVideo(
        stream_id=video_id or usual,
        meta=request.meta(),
        source=source.location,
        filename=given.filename or Path(source.location).name,
        file_created_at=utc("file_created_at", given.file_created_at),
        collection=given.collection,
        pipeline=given.pipeline,
        size_bytes=source.size_bytes,
        mtime_ms=source.mtime_ms,
        inode=source.inode,
    )
    async with request.reading() as connection:
        known_to, hints = await read.videos_at(connection, tenant_id=request.tenant, source=source.location)

    def registered() -> tuple[UUID, str, int]:
        log = request.services.log
        later = [one for _, one in news_at(log, known_to, (source.location,))]
        return register(log, wish, [*hints, *later], is_id_chosen=wish.stream_id != usual)

    found, filename, position = await asyncio.to_thread(registered)
    request.wrote(position)
    return Response(
        Accepted(video_id=found, source=source.location, filename=filename),
        status_code=202,
        headers={"Location": f"/v1/videos/{found}"},
    )


async def _upload(request: Call, video_id: UUID) -> Response[Any]:
    services = request.services
    folder = services.data_dir / "uploads"
    upload = await receive(
        request.stream(), request.headers, folder / WAITING, max_bytes=services.max_upload_bytes
    )
    try:
        given = _fields(upload)
        if request.key is None:
            return await _keep(request, video_id, upload, given)
        # The boundary of a form is another one each time, so what counts is what it says.
        about = (request.method, request.url.path, upload.fields, upload.filename, upload.sha256)

        async def produce() -> Answer:
            made = await _keep(request, video_id, upload, given)
            position = str(request.scope["state"]["position"]).encode()
            headers = [
                (b"content-type", b"application/json"),
                (b"location", f"/v1/videos/{video_id}".encode()),
            ]
            return Answer(202, [*headers, (b"eioku-position", position)], msgspec.json.encode(made.content))

        answer, _ = await request.app.state.idempotency_keys.once(
            request.tenant,
            request.key,
            sha256(msgspec.json.encode(about, order="deterministic")).digest(),
            produce,
        )
        headers = {name.decode(): value.decode() for name, value in answer.headers}
        return Response(answer.body, status_code=answer.status, headers=headers)
    finally:
        await asyncio.to_thread(upload.drop)


def _fields(upload: Upload) -> _FormFields:
    """The form's fields; `pipeline` is a comma-separated list."""
    plain: dict[str, Any] = {name: text for name, text in upload.fields.items() if text}
    if "pipeline" in upload.fields:
        plain["pipeline"] = [part.strip() for part in upload.fields["pipeline"].split(",") if part.strip()]
    plain.setdefault("filename", upload.filename)
    return decode(msgspec.json.encode(plain), _FormFields)


async def _keep(request: Call, video_id: UUID, upload: Upload, given: _FormFields) -> Response[Accepted]:
    folder = request.services.data_dir / "uploads" / request.tenant / str(video_id)
    async with alone(folder):
        place, is_new = await asyncio.to_thread(upload.keep, folder)
        try:
            source = await asyncio.to_thread(resolve, str(place), (folder,))
            return await _register(request, video_id, source, given)
        except EiokuError as error:
            # What may be tried again may also have been stored.
            if is_new and not error.retryable:
                await asyncio.to_thread(remove, place)
            raise
