"""Stills of a video: thumbnails, its poster, and sprite sheets for the bar of a player (ADR-0020)."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated
from uuid import UUID

import msgspec
import psycopg
from litestar import Controller, Response, get
from litestar.params import FromPath, FromQuery, PathParameter

from api.decoding.jobs import Poster, Size, Still
from api.files import cached
from api.local import here
from api.request import Call
from api.routes.common import MOST_MS, Profile, Selection
from api.subtitles import stamp
from domain.artifacts.envelope import Artifact
from domain.artifacts.thumbnail import SpriteSheet, ThumbnailV1
from domain.errors import MediaError, NoMatch, ServiceUnavailable, StorageFailed, ThumbnailNotFound
from infrastructure.media.pictures import POSTER_WIDTH, THUMBNAIL_WIDTH, Pictures, read
from projectors.artifacts import list_artifacts
from projectors.selection import STORED, SelectionFilter, selection_filter
from projectors.videos import VideoView, get_video

PICTURE_S = 60.0
"""To make one. A poster decodes at nine places."""
WEBP = "image/webp"
MOST_SHEETS = 1_000
"""Of all runs that are selected."""


class PicturesOfVideos(Controller):
    """Media."""

    path = "/v1"
    tags = ("Media",)

    @get("/thumbnails/{video_id:str}/{timestamp_ms:str}", media_type=WEBP)
    async def thumbnail(
        self,
        request: Call,
        video_id: FromPath[UUID],
        timestamp_ms: Annotated[int, PathParameter(ge=0, le=MOST_MS)],
    ) -> Response[bytes]:
        """What is on screen at that moment, at most 320 pixels wide, as WebP; made when it is first asked for."""
        async with request.reading() as connection:
            video = await get_video(connection, tenant_id=request.tenant, video_id=video_id)
        pictures, size = _pictures(request, video), _screen(video)
        # Only within what a probe has found: whatever else is asked for is not there.
        if pictures is None or size is None or video.facts is None or timestamp_ms >= video.facts.duration_ms:
            raise ThumbnailNotFound(timestamp_ms)
        job = partial(Still, at_ms=timestamp_ms, screen=size, width=THUMBNAIL_WIDTH)
        try:
            body = await _made(request, video, pictures.thumbnail(timestamp_ms), job)
        except MediaError as error:
            raise ThumbnailNotFound(timestamp_ms) from error
        return cached(request.headers, body, WEBP)

    @get("/videos/{video_id:str}/poster", media_type=WEBP)
    async def poster(self, request: Call, video_id: FromPath[UUID]) -> Response[bytes]:
        """The picture that stands for the video: sharp, well lit, at most 640 pixels wide, as WebP.

        Until the task `thumbnails` has chosen one among the scenes, one of eight moments. 404 without pictures.
        """
        async with request.reading() as connection:
            video = await get_video(connection, tenant_id=request.tenant, video_id=video_id)
            chosen = await _newest(connection, request, video_id, "poster", STORED)
        pictures, size = _pictures(request, video), _screen(video)
        if pictures is None or size is None or video.facts is None:
            raise NoMatch("for a poster: the video has no pictures, or nobody has looked at it yet")
        at_ms = chosen[0][0].span_start_ms if chosen else None
        job: Callable[..., Still | Poster] = (
            partial(Poster, pictures=pictures, duration_ms=video.facts.duration_ms, screen=size)
            if at_ms is None
            else partial(Still, at_ms=at_ms, screen=size, width=POSTER_WIDTH)
        )
        try:
            body = await _made(request, video, pictures.poster(at_ms), job)
        except MediaError as error:
            raise NoMatch("for a poster: the file cannot be read") from error
        return cached(request.headers, body, WEBP)

    @get("/videos/{video_id:str}/sprites.vtt", media_type="text/vtt")
    async def sprites(
        self,
        request: Call,
        video_id: FromPath[UUID],
        run_id: FromQuery[UUID | None] = None,
        selection: Selection = None,
        profile: Profile = None,
    ) -> Response[bytes]:
        """A WebVTT track of thumbnails, as players read it: for each stretch a part of a sprite sheet (`#xywh=`).

        404 until the task `thumbnails` has made some.
        """
        wanted = selection_filter(run_id=run_id, selection=selection, profile=profile)
        _, found = await _sheets(request, video_id, wanted)
        text = "WEBVTT\n" + "".join(_cues(artifact, sheet) for artifact, sheet in found)
        return cached(request.headers, text.encode(), "text/vtt")

    @get("/videos/{video_id:str}/sprites/{index:str}", media_type=WEBP)
    async def sheet(
        self,
        request: Call,
        video_id: FromPath[UUID],
        index: Annotated[int, PathParameter(ge=0, le=MOST_MS)],
        run_id: FromQuery[UUID | None] = None,
        selection: Selection = None,
        profile: Profile = None,
    ) -> Response[bytes]:
        """One sprite sheet, as WebP; `sprites.vtt` names it, and says what is where."""
        wanted = selection_filter(run_id=run_id, selection=selection, profile=profile)
        video, found = await _sheets(request, video_id, wanted)
        sheet = next(((a, sheet) for a, sheet in found if sheet.index == index), None)
        if sheet is None:
            raise NoMatch(f"for sprite sheet {index}: there are {len(found)}")
        # Of the content that the run has seen, whatever the file has become since.
        pictures = Pictures(request.services.pictures, sheet[0].input_hash or video.blake3 or "unknown")
        body = await asyncio.to_thread(read, pictures.sheet(sheet[1]))
        if body is None:
            raise NoMatch(f"for sprite sheet {index}: its file is gone; run the task thumbnails again")
        return cached(request.headers, body, WEBP)


def _pictures(request: Call, video: VideoView) -> Pictures | None:
    return None if video.blake3 is None else Pictures(request.services.pictures, video.blake3)


def _screen(video: VideoView) -> Size | None:
    """What the video measures, if it has pictures."""
    facts = video.facts
    return (
        None if facts is None or facts.width is None or facts.height is None else (facts.width, facts.height)
    )


async def _made(request: Call, video: VideoView, picture: Path, job: Callable[..., Still | Poster]) -> bytes:
    """The picture, made by a `job` if it is not there.

    Raises:
        MediaError: the video cannot be read.
        ServiceUnavailable: the picture cannot be stored.
    """
    body = await asyncio.to_thread(read, picture)
    if body is None:
        try:
            async with here(request, video.source) as path:
                await request.disks.check(path)
                # Made to its end also when the client goes away: the next one finds it.
                await request.picture_decoders.do(
                    job(path=path, folders=request.disks.folders, out=picture), timeout_s=PICTURE_S
                )
        except StorageFailed as error:
            raise ServiceUnavailable(str(error)) from error
        body = await asyncio.to_thread(picture.read_bytes)
    return body


async def _newest(
    connection: psycopg.AsyncConnection, request: Call, video_id: UUID, kind: str, selection: SelectionFilter
) -> list[tuple[Artifact, ThumbnailV1]]:
    """Pictures of a kind, of the newest of the selected runs that have any, in order of time."""
    page = await list_artifacts(
        connection,
        tenant_id=request.tenant,
        video_id=video_id,
        selection=selection,
        artifact_type=ThumbnailV1.NAME,
        payload={"kind": kind},
        limit=MOST_SHEETS,
    )
    found = [view.artifact for view in page.artifacts]
    newest = max(((artifact.created_at, artifact.run_id) for artifact in found), default=None)
    return [
        (artifact, msgspec.json.decode(artifact.payload, type=ThumbnailV1))
        for artifact in found
        if (artifact.created_at, artifact.run_id) == newest
    ]


async def _sheets(
    request: Call, video_id: UUID, selection: SelectionFilter
) -> tuple[VideoView, list[tuple[Artifact, SpriteSheet]]]:
    """The video and its sheets; raises NoMatch when there are none."""
    async with request.reading() as connection:
        video = await get_video(connection, tenant_id=request.tenant, video_id=video_id)
        found = await _newest(connection, request, video_id, "sprite", selection)
    if not found:
        raise NoMatch("for sprite sheets: the task thumbnails has made none")
    return video, [(artifact, picture.sheet) for artifact, picture in found if picture.sheet is not None]


def _cues(artifact: Artifact, sheet: SpriteSheet) -> str:
    """The URL is relative, and names the run: a track that is cached goes on with the sheets it was written for."""
    cues = []
    for tile in range(sheet.count):
        start_ms = artifact.span_start_ms + tile * sheet.every_ms
        end_ms = min(start_ms + sheet.every_ms, artifact.span_end_ms)
        row, column = divmod(tile, sheet.columns)
        place = (
            f"{column * sheet.tile_width},{row * sheet.tile_height},{sheet.tile_width},{sheet.tile_height}"
        )
        url = f"sprites/{sheet.index}?run_id={artifact.run_id}#xywh={place}"
        cues.append(f"\n{stamp(start_ms)} --> {stamp(end_ms)}\n{url}\n")
    return "".join(cues)
