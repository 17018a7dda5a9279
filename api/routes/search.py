"""Searching: texts of one video, the gallery over the library, and what there is to search for."""

from typing import Annotated, Literal
from uuid import UUID

from litestar import Controller, get
from litestar.params import FromPath, FromQuery, QueryParameter

from api.request import Call
from api.routes.common import NOT_BLANK, Cursor, Millis, Profile, Selection, clamped, filled
from api.routes.timeline import Confidence, Direction, Label, Query, finite
from domain.artifacts.embedding import unpacked
from domain.errors import ConflictingFilters, InvalidParameter, ServiceUnavailable
from infrastructure.nats import meaning
from projectors.facets import Facets, facets
from projectors.find import FindFilter, Found, find
from projectors.gallery import Gallery, GalleryFilter, gallery
from projectors.meaning import Meaning, MeaningFilter, MeaningKind, Moment, Point, near, point_of
from projectors.selection import selection_filter
from projectors.text import plain

Source = Literal["all", "transcript", "ocr"]
ListedKind = Literal["object", "face", "transcript", "ocr", "scene", "place"]
CountedKind = Literal["object", "face", "place", "location"]


class Search(Controller):
    """Search."""

    path = "/v1"
    tags = ("Search",)

    @get("/videos/{video_id:str}/find")
    async def in_video(
        self,
        request: Call,
        video_id: FromPath[UUID],
        q: Annotated[
            str,
            QueryParameter(
                description="Words that must all be there, stemmed.", max_length=1_000, schema_extra=NOT_BLANK
            ),
        ],
        direction: FromQuery[Direction],
        from_ms: Millis = None,
        source: FromQuery[Source] = "all",
        run_id: FromQuery[UUID | None] = None,
        selection: Selection = None,
        profile: Profile = None,
        limit: Annotated[int, QueryParameter(ge=1, le=100)] = 10,
        cursor: Cursor = None,
    ) -> Found:
        """What was said or shown in a video, strictly after or before a moment."""
        if not q.strip():
            raise InvalidParameter("q", "may not be blank")
        asked = FindFilter(
            tenant_id=request.tenant,
            q=q,
            direction=direction,
            from_ms=clamped(from_ms),
            source=source,
            limit=limit,
            cursor=cursor,
            selection=selection_filter(run_id=run_id, selection=selection, profile=profile),
        )
        async with request.reading() as connection:
            return await find(connection, video_id, asked)

    @get("/artifacts/search")
    async def gallery(
        self,
        request: Call,
        kind: FromQuery[ListedKind],
        label: Label = None,
        words: Query = None,
        filename: Annotated[
            str | None,
            QueryParameter(
                description="Part of the file's name, any case.", max_length=255, schema_extra=NOT_BLANK
            ),
        ] = None,
        min_confidence: Confidence = None,
        run_id: FromQuery[UUID | None] = None,
        selection: Selection = None,
        profile: Profile = None,
        limit: Annotated[int, QueryParameter(ge=1, le=100)] = 20,
        offset: Annotated[int, QueryParameter(ge=0, le=2**31 - 1)] = 0,
        cursor: Cursor = None,
        group_by_video: Annotated[
            bool, QueryParameter(description="Only the earliest match of each video, with their number.")
        ] = False,
    ) -> Gallery:
        """What was found across the library, in timeline order, with the total."""
        asked = GalleryFilter(
            tenant_id=request.tenant,
            kind=kind,
            label=filled("label", label),
            query=filled("query", words),
            filename=filled("filename", filename),
            min_confidence=finite("min_confidence", min_confidence),
            limit=limit,
            offset=offset,
            cursor=cursor,
            group_by_video=group_by_video,
            selection=selection_filter(run_id=run_id, selection=selection, profile=profile),
        )
        async with request.reading() as connection:
            return await gallery(connection, asked)

    @get("/search/semantic")
    async def by_meaning(
        self,
        request: Call,
        q: Annotated[
            str | None, QueryParameter(description="What is meant, in words.", max_length=1_000)
        ] = None,
        kind: FromQuery[MeaningKind] = "all",
        like: Annotated[
            UUID | None,
            QueryParameter(
                description="An artifact instead of words: its own vector; of kind frame the frame nearest to its start."
            ),
        ] = None,
        like_video_id: Annotated[
            UUID | None,
            QueryParameter(description="With like_ms: a moment instead of words; kind frame only."),
        ] = None,
        like_ms: Millis = None,
        min_score: Annotated[
            float | None, QueryParameter(ge=-1, le=1, description="What is less near is left out.")
        ] = None,
        run_id: FromQuery[UUID | None] = None,
        selection: Selection = None,
        profile: Profile = None,
        limit: Annotated[int, QueryParameter(ge=1, le=100)] = 20,
    ) -> Meaning:
        """What was said or written across the library, or of kind frame what was seen, that means something like the
        query or like something in the library, nearest first. Needs a worker with a model (for words) and a Postgres
        with pgvector: 503 says which is missing.
        """
        wanted = selection_filter(run_id=run_id, selection=selection, profile=profile)
        least = finite("min_score", min_score)
        given = _like(q, like, like_video_id, clamped(like_ms), kind)
        # Asked before a connection is taken: it may take seconds.
        point = await _meant(request, given, kind) if isinstance(given, str) else None
        async with request.reading() as connection:
            if not isinstance(given, str):
                point = await point_of(
                    connection, given, tenant_id=request.tenant, kind=kind, selection=wanted
                )
            assert point is not None
            asked = MeaningFilter(
                tenant_id=request.tenant,
                point=point,
                kind=kind,
                min_score=least,
                limit=limit,
                selection=wanted,
            )
            return await near(connection, asked)

    @get("/facets")
    async def facets(
        self,
        request: Call,
        kind: FromQuery[CountedKind],
        prefix: Annotated[str | None, QueryParameter(max_length=200)] = None,
        run_id: FromQuery[UUID | None] = None,
        selection: Selection = None,
        profile: Profile = None,
        limit: Annotated[int, QueryParameter(ge=1, le=100)] = 100,
        cursor: Cursor = None,
    ) -> Facets:
        """What there is to search for, the most frequent first."""
        wanted = selection_filter(run_id=run_id, selection=selection, profile=profile)
        async with request.reading() as connection:
            return await facets(
                connection,
                request.tenant,
                kind,
                prefix=prefix,
                limit=limit,
                cursor=cursor,
                selection=wanted,
            )


def _like(
    q: str | None, like: UUID | None, video_id: UUID | None, at_ms: int | None, kind: MeaningKind
) -> str | UUID | Moment:
    """What is searched from: words, an artifact, or a moment of a video; exactly one."""
    if (video_id is None) != (at_ms is None):
        raise InvalidParameter("like_ms", "goes together with like_video_id")
    moment = None if video_id is None or at_ms is None else Moment(video_id=video_id, at_ms=at_ms)
    if moment is not None and kind != "frame":
        raise InvalidParameter("like_ms", "a moment has no text: ask with kind=frame")
    given = [one for one in (q, like, moment) if one is not None]
    if len(given) > 1:
        raise ConflictingFilters("q, like and like_video_id exclude each other")
    if not given or isinstance(given[0], str):
        query = plain("q", q or "")
        if not query:
            raise InvalidParameter("q", "may not be blank")
        return query
    return given[0]


async def _meant(request: Call, query: str, kind: MeaningKind) -> Point:
    """What a worker says that the query means."""
    if request.app.state.bus is None:
        raise ServiceUnavailable("not connected to NATS, where the workers are that know what a query means")
    meant = await meaning.ask(request.app.state.bus, query, "frame" if kind == "frame" else "text")
    return Point(model=meant.model, model_digest=meant.model_digest, vector=unpacked(meant.vector))
