"""The pictures and sound themselves: streaming and clips."""

import asyncio
import os
from io import FileIO
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated
from uuid import UUID

from litestar import Controller, get, route
from litestar.enums import HttpMethod
from litestar.params import FromPath, QueryParameter
from litestar.response import Stream

from api.decoding.jobs import Clip, Length
from api.files import disposition, read_file, serve
from api.local import here
from api.request import Call
from domain.errors import InvalidParameter
from projectors.videos import get_video

Buffer = Annotated[int, QueryParameter(ge=0, le=10_000, description="Milliseconds added on either side.")]
Place = Annotated[int, QueryParameter(ge=0, description="Milliseconds of the media's own clock.")]
CLIP_S = 600.0
"""To cut one: the longest clip, of 4K, on two slow cores."""
LENGTH_S = 60.0
"""To learn how long a file is that does not say it: it is read to its end."""


class Media(Controller):
    """Media."""

    path = "/v1"
    tags = ("Media",)

    @route("/videos/{video_id:str}/stream", http_method=[HttpMethod.GET, HttpMethod.HEAD])
    async def stream(self, request: Call, video_id: FromPath[UUID]) -> Stream:
        """The file as it is; honours `Range`."""
        async with request.reading() as connection:
            video = await get_video(connection, tenant_id=request.tenant, video_id=video_id)
        async with here(request, video.source) as path:
            return await serve(
                request.disks,
                path,
                video.filename,
                range_header=request.headers.get("range"),
                if_range=request.headers.get("if-range"),
                is_head=request.method == "HEAD",
            )

    @get("/videos/{video_id:str}/clip")
    async def clip(
        self,
        request: Call,
        video_id: FromPath[UUID],
        start_ms: Place,
        end_ms: Place,
        buffer_ms: Buffer = 2_000,
    ) -> Stream:
        """A stretch of the video as mp4, cut exactly and clamped to the file's duration."""
        if end_ms <= start_ms:
            raise InvalidParameter("end_ms", "must be after start_ms")
        begin, end = max(0, start_ms - buffer_ms), end_ms + buffer_ms
        async with request.reading() as connection:
            video = await get_video(connection, tenant_id=request.tenant, video_id=video_id)
        most_ms = request.services.max_clip_ms
        if video.facts is not None:
            end = _clip_end(begin, end, video.facts.duration_ms, most_ms)
        async with here(request, video.source) as path:
            await request.disks.check(path)
            if video.facts is None:  # nobody has looked at the file yet
                end = _clip_end(begin, end, await _duration_ms(request, path), most_ms)
            made = await _cut(request, path, begin, end)
        name = f"{Path(video.filename).stem or 'clip'}_{_clock(begin)}-{_clock(end)}.mp4"
        size = os.fstat(made).st_size
        return Stream(
            read_file(request.disks, request.services.data_dir, FileIO(made), 0, size),
            media_type="video/mp4",
            headers={
                "Content-Disposition": disposition(name, inline=False),
                "Content-Length": str(size),
                "Cache-Control": "private, max-age=3600",
            },
        )


def _clip_end(begin: int, end: int, duration_ms: int, most_ms: int) -> int:
    """`end`, clamped to the duration of the file, 0 when it does not say.

    Raises:
        InvalidParameter: nothing is left, or too much.
    """
    if duration_ms:
        if begin >= duration_ms:
            raise InvalidParameter("start_ms", f"is behind the end of the video ({duration_ms} ms)")
        end = min(end, duration_ms)
    if end - begin > most_ms:
        raise InvalidParameter("end_ms", f"a clip lasts at most {most_ms} ms")
    return end


async def _duration_ms(request: Call, source: Path) -> int:
    job = Length(path=source, folders=request.disks.folders)
    async with request.while_listened():
        return (await request.decoders.do(job, timeout_s=LENGTH_S)).duration_ms


async def _cut(request: Call, source: Path, start_ms: int, end_ms: int) -> int:
    """A descriptor of the finished clip, whose file has no name any more. Stops when the client goes away."""
    folder = request.services.data_dir / "clips"
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=folder, suffix=".mp4") as out:
        job = Clip(
            path=source, folders=request.disks.folders, out=Path(out.name), start_ms=start_ms, end_ms=end_ms
        )
        async with request.while_listened():
            await request.decoders.do(job, timeout_s=CLIP_S)
        return os.open(out.name, os.O_RDONLY)


def _clock(ms: int) -> str:
    minutes, seconds = divmod(ms // 1000, 60)
    return f"{minutes}m{seconds}s"
