"""The transcript of a video, in order, for subtitles and reading."""

from uuid import UUID

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import class_row

from domain.errors import NoMatch
from projectors import hits
from projectors.jump import must_exist
from projectors.kinds import KINDS
from projectors.selection import STORED, SelectionFilter, clause


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of speech."""

    start_ms: int
    end_ms: int
    text: str
    language: str | None
    speaker: str | None


async def segments(
    connection: AsyncConnection,
    tenant_id: str,
    video_id: UUID,
    *,
    language: str | None = None,
    selection: SelectionFilter = STORED,
) -> list[Segment]:
    """The segments by start, of one language tag if given; empty when nothing is spoken.

    Raises:
        VideoNotFound: no such video.
        NoMatch: no selected run has listened to it.
    """
    selected, parameters = clause(selection)
    parameters |= {"tenant_id": tenant_id, "video_id": video_id, "language": language}
    async with connection.cursor(row_factory=class_row(Segment)) as found:
        await found.execute(
            f"""SELECT o.start_ms, o.end_ms, o.text, o.language, o.speaker FROM transcript_fts o
                WHERE o.tenant_id = %(tenant_id)s AND o.captured_at = (SELECT captured_at FROM transcript_fts_videos
                        WHERE tenant_id = %(tenant_id)s AND video_id = %(video_id)s)
                    AND o.video_id = %(video_id)s
                    AND (%(language)s::text IS NULL OR lower(o.language) = lower(%(language)s::text))
                    AND {hits.counted(KINDS["transcript"], selected)}
                ORDER BY o.start_ms, o.artifact_id""",
            parameters,
        )
        rows = await found.fetchall()
    if not rows:
        await must_exist(connection, tenant_id, video_id)
        listened = await connection.execute(
            "SELECT 1 FROM run_types r WHERE r.tenant_id = %(tenant_id)s AND r.video_id = %(video_id)s"
            f" AND r.artifact_type = '{KINDS['transcript'].artifact_type}' AND {selected} LIMIT 1",
            parameters,
        )
        if await listened.fetchone() is None:
            raise NoMatch("for a transcript: no completed run has listened to this video yet")
    return rows
