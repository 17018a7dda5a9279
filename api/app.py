"""The HTTP application."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.middleware import DefineMiddleware

from api.board import Board
from api.bodies import JsonBody
from api.decoding.pool import Decoders
from api.disks import Disks
from api.edge import Edge
from api.followers import Followers
from api.idempotency import TURN_S, Idempotency, Keys
from api.metrics import Metrics
from api.openapi import CONFIG
from api.pages import Page
from api.parameters import Parameters
from api.problems import EXCEPTION_HANDLERS
from api.receiving import Receiving
from api.request import Call
from api.routes import CONTROLLERS
from api.services import ApiServices
from api.uploads import remove_abandoned
from domain.errors import ServiceUnavailable
from infrastructure.nats.connection import connect
from infrastructure.postgres.connections import async_pool
from projectors.position import ServedPosition

log = structlog.get_logger()
KEY_CONNECTIONS = 4
READY_CONNECTIONS = 4
THREADS = 16
PROBES = 2
"""Threads of readiness: full threads of others are no failing of Postgres."""
CLIPS, PICTURES = 2, 2
"""Made at a time in this process, each for somebody who waits; a clip takes a core or two."""
NATS_AGAIN_S = 5.0


def create_app(services: ApiServices) -> Litestar:
    """The API over `services`; its connections open and close with the application's lifespan."""
    served = ServedPosition(services.database_url)
    metrics = Metrics()
    state = State({"services": services, "served": served, "metrics": metrics, "board": Board(), "bus": None})
    state.followers = Followers(services.followers)

    @contextlib.asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            # Writes and files of our own wait in threads; the default is too few for all of them together.
            threads = stack.enter_context(ThreadPoolExecutor(THREADS, thread_name_prefix="api"))
            asyncio.get_running_loop().set_default_executor(threads)
            await asyncio.to_thread(remove_abandoned, services.data_dir / "uploads")
            state.disks = stack.enter_context(contextlib.closing(Disks(services.folders)))
            state.decoders = await stack.enter_async_context(Decoders(CLIPS))
            state.picture_decoders = await stack.enter_async_context(Decoders(PICTURES))
            state.probes = stack.enter_context(ThreadPoolExecutor(PROBES, thread_name_prefix="probe"))
            state.pool = await stack.enter_async_context(
                async_pool(
                    services.database_url,
                    size=services.read_connections,
                    # Opened beforehand: one that is made under load makes those in line wait for tens of milliseconds.
                    ready=min(READY_CONNECTIONS, services.read_connections),
                    application_name="eioku api",
                    search_path="read",
                    statement_timeout_ms=int(services.read_timeout_s * 1000),
                )
            )
            keys = async_pool(
                services.database_url,
                size=KEY_CONNECTIONS,
                application_name="eioku api keys",
                lock_timeout_ms=int(TURN_S * 1000),
            )
            state.idempotency_keys = Keys(await stack.enter_async_context(keys))
            await stack.enter_async_context(served)
            await stack.enter_async_context(_bus(state, services.nats_url))
            await stack.enter_async_context(_running(state.followers.watch(state.pool)))
            yield

    app = Litestar(
        route_handlers=CONTROLLERS,
        request_class=Call,
        response_class=Page,
        dto=JsonBody,
        return_dto=None,
        state=state,
        lifespan=[lifespan],
        middleware=[
            DefineMiddleware(Edge, served=served, metrics=metrics, parameters=lambda: state.parameters),
            DefineMiddleware(Receiving, most_bytes=services.max_body_bytes, folder=services.data_dir / "bodies"),
            DefineMiddleware(Idempotency, keys=lambda: state.idempotency_keys),
        ],
        exception_handlers=EXCEPTION_HANDLERS,
        request_max_body_size=None,  # `Receiving` and uploads have bounds of their own
        openapi_config=CONFIG,
        cors_config=_cors(services.cors_origins) if services.cors_origins else None,
        logging_config=None,
    )
    state.parameters = Parameters(app.routes)
    return app


def _cors(origins: tuple[str, ...]) -> CORSConfig:
    return CORSConfig(
        allow_origins=list(origins),
        allow_methods=["GET", "HEAD", "POST", "PUT", "DELETE"],
        allow_headers=["content-type", "eioku-tenant", "idempotency-key", "range"],
        expose_headers=["Content-Range", "Eioku-Position", "Location", "Retry-After"],
        max_age=600,
    )


@contextlib.asynccontextmanager
async def _running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs `work` meanwhile."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def _bus(state: State, url: str | None) -> AsyncIterator[None]:
    """Keeps `state.bus` connected; the API serves without it, only live progress is missing then."""
    if url is None:
        yield
        return
    try:
        async with _running(_connect(state, url)):
            yield
    finally:
        if state.bus is not None:
            await state.bus.close()


async def _connect(state: State, url: str) -> None:
    while state.bus is None:
        try:
            state.bus = await connect(url, name="eioku api")
            await state.board.listen(state.bus)
        except ServiceUnavailable as error:
            log.warning("api.no_nats", error=str(error))
            await asyncio.sleep(NATS_AGAIN_S)
