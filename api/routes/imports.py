"""Bringing in what another tool found."""

import asyncio
from functools import partial
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, post
from litestar.params import FromPath, JSONBody, QueryParameter

from api.bodies import JsonBody, decode
from api.receiving import BODY, LONG, SHORT_BYTES
from api.request import Call
from api.routes.common import utc
from api.subtitles import parse
from application.imports import Import, ImportedArtifact, import_artifacts
from domain.artifacts.fields import Language
from domain.artifacts.transcript_segment import TranscriptSegmentV1
from domain.errors import IdTaken, InvalidParameter

SUBTITLES = {"text/vtt": "webvtt", "application/x-subrip": "subrip"}
_Parts = msgspec.defstruct(
    "_Parts",
    [(name, msgspec.Raw, msgspec.Raw(b"")) for name in Import.__struct_fields__ if name != "artifacts"],
)
SETTLE_S = 1.0
"""How long an import with ids of the client's waits for the read models before these are compared."""


class ImportAnswer(msgspec.Struct, frozen=True):
    """The run that an import became."""

    run_id: UUID
    task_id: UUID
    count: int


class SubtitleFile(msgspec.Struct, frozen=True):
    """A body that becomes a transcript."""

    kind: str
    """One of `SUBTITLES`."""
    content: bytes

    def transcript(self, language: str | None) -> Import:
        """The cues as an import; raises as `api.subtitles.parse`."""
        artifacts = [
            ImportedArtifact(
                artifact_type=TranscriptSegmentV1.NAME,
                schema_version=TranscriptSegmentV1.VERSION,
                span_start_ms=cue.start_ms,
                span_end_ms=cue.end_ms,
                payload=msgspec.Raw(
                    msgspec.json.encode(
                        TranscriptSegmentV1(text=cue.text, language=language, speaker=cue.speaker)
                    )
                ),
            )
            for cue in parse(self.content, is_vtt=self.kind == "text/vtt")
        ]
        return Import(
            producer=SUBTITLES[self.kind],
            producer_version="1",
            artifacts=artifacts,
            artifact_types=(TranscriptSegmentV1.NAME,),
        )


class ImportBody(JsonBody):
    """JSON, or a subtitle file, which is read later: that can take seconds and must not stop the event loop."""

    def decode_bytes(self, value: bytes) -> Any:
        """The body as an Import or a SubtitleFile."""
        kind = self.content_type()
        if kind in SUBTITLES:
            return SubtitleFile(kind, value)
        _require_short(value)
        return super().decode_bytes(value)


def _require_short(body: bytes) -> None:
    """Raises InvalidParameter when anything but the artifacts is long: 30 MB of `{}` would become 800 MB of objects
    before they can be checked.
    """
    if len(body) > SHORT_BYTES:
        parts = decode(body, _Parts)
        for name in parts.__struct_fields__:
            if len(bytes(getattr(parts, name))) > SHORT_BYTES:
                raise InvalidParameter(name, f"has more than {SHORT_BYTES} bytes")


class Imports(Controller):
    """Imports."""

    path = "/v1/videos/{video_id:str}/imports"
    tags = ("Imports",)

    @post(dto=ImportBody, opt={BODY: LONG})
    async def bring_in(
        self,
        request: Call,
        video_id: FromPath[UUID],
        data: JSONBody[Import],
        language: Annotated[
            Language | None, QueryParameter(description="Of a subtitle body, which does not say it itself.")
        ] = None,
    ) -> ImportAnswer:
        """Bring in artifacts that another tool made.

        They are checked whole before anything is stored and become an ordinary completed run. The same `run_id` with
        the same content changes nothing. A `text/vtt` or `application/x-subrip` body becomes a transcript.
        """
        wish = await asyncio.to_thread(data.transcript, language) if isinstance(data, SubtitleFile) else data
        if language is not None:
            wish = msgspec.structs.replace(wish, language=language)
        wish = msgspec.structs.replace(wish, created_at=utc("created_at", wish.created_at))
        run_id = request.new_id("run")
        await self._refuse_taken(request, wish, wish.run_id or run_id)
        work = partial(import_artifacts, request.services.log, request.meta(), video_id, wish, run_id=run_id)
        imported = await asyncio.to_thread(work)
        request.wrote(imported.position)
        return ImportAnswer(run_id=imported.run_id, task_id=imported.task_id, count=imported.count)

    @staticmethod
    async def _refuse_taken(request: Call, wish: Import, run_id: UUID) -> None:
        """An artifact's id belongs to one run of the tenant."""
        chosen = [a.artifact_id for a in wish.artifacts if a.artifact_id is not None]
        if not chosen:
            return
        head = await asyncio.to_thread(request.services.log.head)
        await request.settle(head, SETTLE_S)
        async with request.reading() as connection:
            cursor = await connection.execute(
                "SELECT artifact_id FROM artifacts"
                " WHERE tenant_id = %s AND artifact_id = ANY(%s) AND run_id <> %s LIMIT 1",
                (request.tenant, chosen, run_id),
            )
            taken = await cursor.fetchone()
        if taken:
            raise IdTaken(taken[0])
