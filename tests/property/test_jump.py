"""Jump, find and gallery in SQL say what a library in memory says, whatever the ties."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.errors import NoMatch, VideoNotFound
from projectors import jump
from projectors.facets import facets
from projectors.gallery import GalleryFilter, gallery
from projectors.jump import JumpFilter, jump_global, jump_in_video
from projectors.selection import SelectionFilter
from tests.support.timeline_model import LABELS, PROFILES, Hit, Library

LIBRARIES = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SELECTIONS = st.sampled_from(
    [SelectionFilter(), SelectionFilter(mode="latest"), SelectionFilter(mode="all")]
    + [SelectionFilter(mode="profile", profile=profile) for profile in PROFILES]
)
DIRECTIONS = st.sampled_from(("next", "prev"))
LOOKED_FOR = (
    [("scene", {})]
    + [
        ("object", {"label": label, "min_confidence": least})
        for label in (None, *LABELS)
        for least in (None, 0.9)
    ]
    + [("face", {"label": label}) for label in (None, *LABELS)]
    + [("place", {"label": "cat"})]
    + [
        (kind, {"query": q})
        for kind in ("transcript", "ocr")
        for q in ("alpha", "the", "beta Alpha", "100%", "%", "x")
    ]
    + [("transcript", {"query": "alpha", "min_confidence": 0.9})]
    + [("location", {}), ("location", {"query": "PARI"})]
)
Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def ask(database: str) -> Iterator[tuple[psycopg.Connection, psycopg.AsyncConnection, Run]]:
    """A connection to write with, one to ask with, and what runs a question."""
    options = "-c search_path=read"
    with asyncio.Runner() as runner, psycopg.connect(database, autocommit=True, options=options) as writing:
        connecting = psycopg.AsyncConnection.connect(database, autocommit=True, options=options)
        asking = runner.run(connecting)
        yield writing, asking, runner.run
        runner.run(asking.close())


@pytest.fixture(params=[1, 256], ids=["by the word index", "by reading on"])
def window(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Both ways to find texts, on libraries far smaller than the window."""
    monkeypatch.setattr(jump, "_WINDOW", request.param)
    monkeypatch.setattr(jump, "_WINDOW_A_HIT", 0)
    jump._statement.cache_clear()
    yield
    jump._statement.cache_clear()


def expected(library: Library, kind: str, selection: SelectionFilter, filters: dict[str, Any]) -> list[Hit]:
    hits = library.matching(kind, selection, **filters)
    if kind != "location":
        return hits
    return [hit for n, hit in enumerate(hits) if n == 0 or hits[n - 1].video_id != hit.video_id]


def filter_of(
    library: Library, kind: str, direction: str, selection: SelectionFilter, filters: dict[str, Any]
) -> JumpFilter:
    given_filters = dict(filters)
    if kind == "face":
        given_filters["face_cluster_id"] = given_filters.pop("label")
    return JumpFilter(
        tenant_id=library.tenant_id, kind=kind, direction=direction, selection=selection, **given_filters
    )


@LIBRARIES
@given(seed=st.integers(0, 2**32), direction=DIRECTIONS, selection=SELECTIONS, size=st.integers(1, 3))
@pytest.mark.usefixtures("window")
def test_a_walk_meets_every_hit_of_the_library_once_and_ends(
    ask: Any, *, seed: int, direction: str, selection: SelectionFilter, size: int
) -> None:
    writing, asking, run = ask
    library = Library(seed)
    library.store(writing)
    for kind, filters in LOOKED_FOR:
        walk(library, asking, run, kind, filters, direction=direction, selection=selection, size=size)


def walk(
    library: Library,
    asking: Any,
    run: Run,
    kind: str,
    filters: dict[str, Any],
    *,
    direction: str,
    selection: SelectionFilter,
    size: int,
) -> None:
    hits = expected(library, kind, selection, filters)
    asked = filter_of(library, kind, direction, selection, filters)
    met, has_more = [], True
    while has_more:
        page = run(jump_global(asking, asked, limit=size))
        met += [(hit.video_id, hit.artifact_id, hit.jump_to.start_ms) for hit in page.results]
        has_more = page.has_more
        assert len(page.results) == size or not has_more
        if page.results:
            asked = replace(asked, cursor=page.results[-1].cursor)
    assert run(jump_global(asking, asked, limit=size)).results == [] or not met
    assert met == [
        (h.video_id, h.artifact_id, h.start_ms) for h in (hits if direction == "next" else hits[::-1])
    ]


@LIBRARIES
@given(
    seed=st.integers(0, 2**32),
    direction=DIRECTIONS,
    selection=SELECTIONS,
    looked_for=st.sampled_from(LOOKED_FOR),
    from_ms=st.sampled_from((None, 0, 3, 5, 1000, 2**31, 2**40)),
    size=st.integers(1, 3),
)
def test_from_any_place_the_library_and_the_video_answer_like_the_model(
    ask: Any,
    window: None,
    *,
    seed: int,
    direction: str,
    selection: SelectionFilter,
    looked_for: Any,
    from_ms: int | None,
    size: int,
) -> None:
    writing, asking, run = ask
    library = Library(seed)
    library.store(writing)
    kind, filters = looked_for
    hits = expected(library, kind, selection, filters)
    asked = filter_of(library, kind, direction, selection, filters)
    if from_ms is not None:
        asked = replace(asked, from_ms=from_ms)
    for video_id, date in library.dates.items():
        place = (date is None, 0.0 if date is None else date.timestamp(), str(video_id))
        if direction == "next":
            at = (*place, -1 if from_ms is None else from_ms)
            behind = [hit for hit in hits if library.key(hit)[:4] > at]
        else:
            at = (*place, 2**50 if from_ms is None else from_ms)
            behind = [hit for hit in hits[::-1] if library.key(hit)[:4] < at]
        page = run(jump_global(asking, asked, from_video_id=video_id, limit=size))
        assert [hit.artifact_id for hit in page.results] == [hit.artifact_id for hit in behind[:size]]
        assert page.has_more == (len(behind) > size)
        if kind == "location":
            continue
        inside = [hit for hit in behind if hit.video_id == video_id]
        if inside:
            found = run(jump_in_video(asking, video_id, asked))
            assert (found.artifact_ids, found.jump_to.start_ms) == (
                [inside[0].artifact_id],
                inside[0].start_ms,
            )
        else:
            with pytest.raises(NoMatch):
                run(jump_in_video(asking, video_id, asked))


@LIBRARIES
@given(seed=st.integers(0, 2**32), direction=DIRECTIONS, is_deleted=st.booleans())
def test_a_cursor_outlives_a_new_date_and_the_deletion_of_its_video(
    ask: Any, *, seed: int, direction: str, is_deleted: bool
) -> None:
    writing, asking, run = ask
    library = Library(seed)
    library.store(writing)
    every = SelectionFilter(mode="all")
    hits = library.matching("object", every)
    undated = [hit for hit in hits if library.dates[hit.video_id] is None]
    assume(undated)
    asked = JumpFilter(tenant_id=library.tenant_id, kind="object", direction=direction, selection=every)
    left = None
    while left is None or left.artifact_id != undated[0].artifact_id:
        (left,) = run(jump_global(asking, asked)).results
        asked = replace(asked, cursor=left.cursor)
    at = library.key(undated[0])
    if is_deleted:
        library.delete(undated[0].video_id)
    else:
        library.redate(
            undated[0].video_id, library.random.choice([d for d in library.dates.values() if d] or [None])
        )
        at = library.key(undated[0])
    library.store(writing)
    now = library.matching("object", every)
    rest = [hit for hit in now if library.key(hit) > at]
    if direction == "prev":
        rest = [hit for hit in now if library.key(hit) < at][::-1]
    assert [hit.artifact_id for hit in run(jump_global(asking, asked, limit=50)).results] == [
        hit.artifact_id for hit in rest
    ][:50]


@LIBRARIES
@given(
    seed=st.integers(0, 2**32),
    selection=SELECTIONS,
    looked_for=st.sampled_from(LOOKED_FOR),
    limit=st.integers(1, 4),
    offset=st.integers(0, 5),
    is_grouped=st.booleans(),
)
def test_the_gallery_pages_through_what_the_model_lists(
    ask: Any,
    *,
    seed: int,
    selection: SelectionFilter,
    looked_for: Any,
    limit: int,
    offset: int,
    is_grouped: bool,
) -> None:
    writing, asking, run = ask
    kind, filters = looked_for
    assume(kind != "location")
    library = Library(seed)
    library.store(writing)
    hits = library.matching(kind, selection, **filters)
    firsts = [hit for n, hit in enumerate(hits) if n == 0 or hits[n - 1].video_id != hit.video_id]
    listed = firsts if is_grouped else hits
    counts = [sum(h.video_id == first.video_id for h in hits) if is_grouped else 1 for first in listed]
    asked = GalleryFilter(
        tenant_id=library.tenant_id, kind=kind, selection=selection, limit=limit, offset=offset,
        group_by_video=is_grouped, **filters,
    )  # fmt: skip
    page = run(gallery(asking, asked))
    wanted = list(zip([hit.artifact_id for hit in listed], counts, strict=True))
    assert page.total == len(listed)
    assert [(hit.artifact_id, hit.artifact_count) for hit in page.results] == wanted[offset : offset + limit]
    assert page.has_more == (len(listed) > offset + limit)
    at = offset + limit
    while page.has_more:
        asked = replace(asked, offset=0, cursor=page.results[-1].cursor)
        page = run(gallery(asking, asked))
        assert [(hit.artifact_id, hit.artifact_count) for hit in page.results] == wanted[at : at + limit]
        assert page.total == len(listed)
        at += limit


@LIBRARIES
@given(seed=st.integers(0, 2**32), selection=SELECTIONS, is_deleted=st.booleans())
def test_counts_follow_selection_deletion_and_new_dates(
    ask: Any, *, seed: int, selection: SelectionFilter, is_deleted: bool
) -> None:
    writing, asking, run = ask
    library = Library(seed)
    library.store(writing)
    undated = [video_id for video_id, date in library.dates.items() if date is None]
    assume(is_deleted or undated)
    if is_deleted:
        library.delete(library.random.choice(list(library.dates)))
    else:
        library.redate(undated[0], library.random.choice(list(library.dates.values())))
    library.store(writing)
    for kind, filters in LOOKED_FOR:
        if kind != "location":
            hits = library.matching(kind, selection, **filters)
            asked = GalleryFilter(
                tenant_id=library.tenant_id,
                kind=kind,
                selection=selection,
                group_by_video=True,
                limit=100,
                **filters,
            )
            page = run(gallery(asking, asked))
            assert [(h.video_id, h.artifact_count) for h in page.results] == list(
                Counter(h.video_id for h in hits).items()
            )
    of_label = {label: library.matching("object", selection, label=label) for label in LABELS}
    shown = run(facets(asking, library.tenant_id, "object", selection=selection)).facets
    assert {f.value: (f.count, f.video_count) for f in shown} == {
        label: (len(hits), len({h.video_id for h in hits})) for label, hits in of_label.items() if hits
    }


def test_an_unknown_video_is_told_from_an_empty_one(ask: Any) -> None:
    writing, asking, run = ask
    library = Library(1)
    library.store(writing)
    asked = JumpFilter(tenant_id=library.tenant_id, kind="place", direction="next", label="nothing")
    stranger = library._uuid()
    for question in (
        jump_in_video(asking, stranger, asked),
        jump_global(asking, asked, from_video_id=stranger),
    ):
        with pytest.raises(VideoNotFound):
            run(question)
    known = next(iter(library.dates))
    assert run(jump_global(asking, asked, from_video_id=known)).results == []
