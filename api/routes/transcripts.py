"""The transcript as a file."""

from collections.abc import Callable, Iterable, Iterator
from uuid import UUID

from litestar import Controller, Response, get
from litestar.params import FromPath, FromQuery

from api import subtitles
from api.files import disposition
from api.request import Call
from api.routes.common import Profile, Selection
from domain.artifacts.fields import Language
from projectors.selection import selection_filter
from projectors.transcript import segments
from projectors.videos import get_video

SUBRIP = "application/x-subrip; charset=utf-8"
"""Litestar names the charset of text/* only."""
Writer = Callable[[Iterable[subtitles.Segment]], Iterator[str]]


class Transcripts(Controller):
    """Transcripts."""

    path = "/v1/videos/{video_id:str}"
    tags = ("Transcripts",)

    @get("/transcript.vtt", media_type="text/vtt")
    async def vtt(
        self,
        request: Call,
        video_id: FromPath[UUID],
        language: FromQuery[Language | None] = None,
        run_id: FromQuery[UUID | None] = None,
        selection: Selection = None,
        profile: Profile = None,
    ) -> Response[str]:
        """The selected transcript as WebVTT."""
        return await _file(
            request, video_id, language, run_id, selection, profile, subtitles.vtt, "vtt", "text/vtt"
        )

    @get("/transcript.srt", media_type=SUBRIP)
    async def srt(
        self,
        request: Call,
        video_id: FromPath[UUID],
        language: FromQuery[Language | None] = None,
        run_id: FromQuery[UUID | None] = None,
        selection: Selection = None,
        profile: Profile = None,
    ) -> Response[str]:
        """The selected transcript as SubRip."""
        return await _file(
            request,
            video_id,
            language,
            run_id,
            selection,
            profile,
            subtitles.srt,
            "srt",
            SUBRIP,
        )

    @get("/transcript.txt", media_type="text/plain")
    async def txt(
        self,
        request: Call,
        video_id: FromPath[UUID],
        language: FromQuery[Language | None] = None,
        run_id: FromQuery[UUID | None] = None,
        selection: Selection = None,
        profile: Profile = None,
    ) -> Response[str]:
        """The selected transcript as plain text, a line for each segment."""
        return await _file(
            request, video_id, language, run_id, selection, profile, subtitles.txt, "txt", "text/plain"
        )


async def _file(
    request: Call,
    video_id: UUID,
    language: str | None,
    run_id: UUID | None,
    selection: str | None,
    profile: str | None,
    write: Writer,
    ending: str,
    media_type: str,
) -> Response[str]:
    wanted = selection_filter(run_id=run_id, selection=selection, profile=profile)
    async with request.reading() as connection:
        video = await get_video(connection, tenant_id=request.tenant, video_id=video_id)
        said = await segments(connection, request.tenant, video_id, language=language, selection=wanted)
    name = f"{video.filename.rpartition('.')[0] or video.filename}.{ending}"
    return Response(
        "".join(write(said)),
        media_type=media_type,
        headers={"Content-Disposition": disposition(name, inline=True)},
    )
