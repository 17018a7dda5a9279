"""Work done again on many videos: it adds runs, it never takes any away."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, post
from litestar.params import JSONBody
from msgspec import Meta as Limits

from api.live import now
from api.request import Call
from api.routes.common import TaskType
from application.request_task import Asked, request_task
from domain.artifacts.fields import Language
from domain.errors import TaskActive, VideoNotFound
from domain.pipeline import config_hash, full_config
from domain.task import Priority
from projectors.queues import eta_s, rate_of
from projectors.reruns import Scope, Wish, scope_of, videos_to_ask
from projectors.where import parse

AT_ONCE = 200
"""Tasks that one request asks for at most: some 10 ms each."""
SETTLE_S = 5.0


class RerunBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be done again, and on which videos."""

    task_type: TaskType
    where: Annotated[str, Limits(max_length=2_000)] = ""
    """Such as `profile<balanced or missing`; empty = every video. docs/operations.md has the language."""
    profile: Annotated[str, Limits(max_length=200)] | None = None
    language: Language | None = None
    config: dict[str, Any] | None = None
    priority: Priority = "bulk"
    force: bool = False
    """Compute also what is known already."""
    dry_run: bool = True
    """Only say what it would be."""
    limit: Annotated[int, Limits(ge=1, le=AT_ONCE)] = AT_ONCE
    """Tasks to ask for in this request."""
    after: UUID | None = None
    """`next` of the request before this one."""


class RerunAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What it is, and what was asked for."""

    dry_run: bool
    task_type: str
    profile: str
    config_hash: str
    scope: Scope
    tasks: int
    """To be asked for, before this request."""
    rate: float | None
    """Media seconds a second, as earlier tasks of this type and profile took them; None = nothing was measured."""
    eta_s: float | None
    """Seconds that one worker needs; None when the rate is unknown."""
    asked: list[UUID]
    """The tasks that this request made; empty when dry."""
    next: UUID | None
    """Send it as `after` to go on; None = all was asked for."""


class Reruns(Controller):
    """Re-runs."""

    path = "/v1/rerun"
    tags = ("Tasks",)

    @post("/", status_code=200)
    async def rerun(self, request: Call, data: JSONBody[RerunBody]) -> RerunAnswer:
        """Ask for a task on every video that fits, 200 at a time; `dry_run`, the default, only counts.

        Nothing is deleted: new runs come beside the old ones. Repeated within a minute nothing is asked for twice.
        """
        profile, config = full_config(data.task_type, data.profile, data.config)
        hashed = config_hash(data.task_type, config, data.language)
        wish = Wish(
            tenant_id=request.tenant,
            task_type=data.task_type,
            profile=profile,
            config_hash=hashed,
            where=parse(data.where),
            at=now(),
        )
        # What was asked for a moment ago must be known, or it would be asked for again.
        await request.settle(await asyncio.to_thread(request.services.log.head), SETTLE_S)
        async with request.reading() as connection:
            scope = await scope_of(connection, wish)
            rate = await rate_of(
                connection, tenant_id=request.tenant, task_type=data.task_type, profile=profile
            )
            videos = (
                []
                if data.dry_run
                else await videos_to_ask(connection, wish, limit=data.limit + 1, after=data.after)
            )
        chosen = videos[: data.limit]
        asked = await asyncio.to_thread(_ask, request, data, chosen)
        if asked:
            request.wrote(asked[-1].position)
        return RerunAnswer(
            dry_run=data.dry_run,
            task_type=data.task_type,
            profile=profile,
            config_hash=hashed,
            scope=scope,
            tasks=scope.videos - scope.already_asked,
            rate=None if rate is None else round(rate, 2),
            eta_s=eta_s(scope.media_ms, rate),
            asked=[one.task_id for one in asked],
            next=chosen[-1] if len(videos) > data.limit else None,
        )


def _ask(request: Call, data: RerunBody, videos: Sequence[UUID]) -> list[Asked]:
    asked, meta = [], request.meta()
    for video_id in videos:
        try:
            one = request_task(
                request.services.log,
                meta,
                video_id,
                data.task_type,
                profile=data.profile,
                language=data.language,
                config=data.config,
                priority=data.priority,
                force=data.force,
            )
        except (TaskActive, VideoNotFound):
            continue  # asked for, or deleted, meanwhile
        asked.append(one)
    return asked
