"""What was found in a video, for those who work on it: texts, or only when there was something."""

from typing import Any
from uuid import UUID

import psycopg

from application.messages import SourceSpan, SourceText, SpansPage, SpansWanted, TextsPage, TextsWanted

PAGE = 100
CHARS = 1_000
"""Of each text; a page stays well under what NATS takes in one message."""
SPANS = 5_000
"""A page of them has about 200 KB."""
_FOUND = """
FROM run_types r JOIN artifacts a ON a.run_id = r.run_id AND a.artifact_type = r.artifact_type
WHERE r.tenant_id = %(tenant_id)s AND r.video_id = %(video_id)s AND r.artifact_type = ANY(%(types)s) AND r.is_selected"""


async def inputs_of(
    connection: psycopg.AsyncConnection[Any], wanted: TextsWanted | SpansWanted
) -> TextsPage | SpansPage:
    """The next of what is wanted, of the runs that count."""
    match wanted:
        case TextsWanted():
            return await _texts(connection, wanted)
        case SpansWanted():
            return await _spans(connection, wanted)


async def _texts(connection: psycopg.AsyncConnection[Any], wanted: TextsWanted) -> TextsPage:
    after_ms, after_id = wanted.after or (-1, UUID(int=0))
    rows = await connection.execute(
        f"""SELECT a.artifact_id, a.artifact_type, a.start_ms, a.end_ms, left(a.payload->>'text', %(chars)s) {_FOUND}
            AND (a.start_ms, a.artifact_id) > (%(after_ms)s, %(after_id)s)
        ORDER BY a.start_ms, a.artifact_id LIMIT %(page)s""",
        {**_of(wanted), "after_ms": after_ms, "after_id": after_id, "chars": CHARS, "page": PAGE + 1},
    )
    texts = [SourceText(*row) for row in await rows.fetchall()]
    return TextsPage(texts=tuple(texts[:PAGE]), is_last=len(texts) <= PAGE)


async def _spans(connection: psycopg.AsyncConnection[Any], wanted: SpansWanted) -> SpansPage:
    after = wanted.after or SourceSpan(-1, -1, "")
    rows = await connection.execute(
        f"""SELECT DISTINCT a.start_ms, a.end_ms, a.artifact_type {_FOUND}
            AND (a.start_ms, a.end_ms, a.artifact_type) > (%(start_ms)s, %(end_ms)s, %(type)s)
        ORDER BY a.start_ms, a.end_ms, a.artifact_type LIMIT %(page)s""",
        {
            **_of(wanted),
            "start_ms": after.start_ms,
            "end_ms": after.end_ms,
            "type": after.artifact_type,
            "page": SPANS + 1,
        },
    )
    spans = [SourceSpan(*row) for row in await rows.fetchall()]
    return SpansPage(spans=tuple(spans[:SPANS]), is_last=len(spans) <= SPANS)


def _of(wanted: TextsWanted | SpansWanted) -> dict[str, Any]:
    return {
        "tenant_id": wanted.tenant_id,
        "video_id": wanted.video_id,
        "types": list(wanted.artifact_types),
    }
