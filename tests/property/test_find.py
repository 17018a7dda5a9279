"""Find in SQL says what a video in memory says: spoken and seen texts merged, ties in one order for both directions."""

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.errors import VideoNotFound
from projectors.find import FindFilter, find
from projectors.selection import SelectionFilter
from tests.support.timeline_model import PROFILES, Hit, Library

LIBRARIES = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SELECTIONS = st.sampled_from(
    [SelectionFilter(), SelectionFilter(mode="all"), SelectionFilter(mode="profile", profile=PROFILES[0])]
)
QUERIES = ("alpha", "the", "beta Alpha", "100%", "%", "x")


@pytest.fixture
def ask(database: str) -> Iterator[tuple[psycopg.Connection, psycopg.AsyncConnection, Any]]:
    """A connection to write with, one to ask with, and what runs a question."""
    options = "-c search_path=read"
    with asyncio.Runner() as runner, psycopg.connect(database, autocommit=True, options=options) as writing:
        asking = runner.run(psycopg.AsyncConnection.connect(database, autocommit=True, options=options))
        yield writing, asking, runner.run
        runner.run(asking.close())


def expected(library: Library, video_id: Any, asked: FindFilter) -> list[Hit]:
    """Transcript before ocr on equal start, then by artifact id; only the times and the ids turn round backwards."""
    sources = ("transcript", "ocr") if asked.source == "all" else (asked.source,)
    hits = [hit for source in sources for hit in library.matching(source, asked.selection, query=asked.q)]
    hits = [hit for hit in hits if hit.video_id == video_id]
    hits.sort(key=lambda hit: str(hit.artifact_id), reverse=asked.direction == "prev")
    hits.sort(key=lambda hit: ("transcript", "ocr").index(hit.kind))
    hits.sort(key=lambda hit: hit.start_ms, reverse=asked.direction == "prev")
    if asked.from_ms is None:
        return hits
    if asked.direction == "next":
        return [hit for hit in hits if hit.start_ms > asked.from_ms]
    return [hit for hit in hits if hit.start_ms < asked.from_ms]


@LIBRARIES
@given(
    seed=st.integers(0, 2**32),
    selection=SELECTIONS,
    source=st.sampled_from(("all", "all", "transcript", "ocr")),
    from_ms=st.sampled_from((None, None, 0, 3, 5, 2**40)),
    limit=st.integers(1, 3),
)
def test_a_walk_through_a_video_meets_every_match_once_in_order_and_ends(
    ask: Any, *, seed: int, selection: SelectionFilter, source: str, from_ms: int | None, limit: int
) -> None:
    writing, asking, run = ask
    library = Library(seed, hits_a_run=8)
    library.store(writing)
    for video_id, q, direction in itertools.product(library.dates, QUERIES, ("next", "prev")):
        asked = FindFilter(
            tenant_id=library.tenant_id, q=q, direction=direction, from_ms=from_ms, source=source, limit=limit,
            selection=selection,
        )  # fmt: skip
        wanted = expected(library, video_id, asked)
        met, has_more = [], True
        while has_more:
            page = run(find(asking, video_id, asked))
            met += [(match.source, match.jump_to.start_ms, match.artifact_id) for match in page.matches]
            has_more = page.has_more
            assert len(page.matches) == limit or not has_more
            if has_more:
                asked = replace(asked, cursor=page.matches[-1].cursor)
        assert met == [(hit.kind, hit.start_ms, hit.artifact_id) for hit in wanted]


def test_an_unknown_video_is_told_from_a_silent_one(ask: Any) -> None:
    writing, asking, run = ask
    library = Library(1)
    library.store(writing)
    asked = FindFilter(tenant_id=library.tenant_id, q="zzz", direction="next")
    assert run(find(asking, next(iter(library.dates)), asked)).matches == []
    with pytest.raises(VideoNotFound):
        run(find(asking, library._uuid(), asked))
