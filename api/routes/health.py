"""Whether this process lives, whether it can serve, and its figures."""

import asyncio
from functools import cache

import msgspec
import psycopg
import psycopg_pool
from alembic.script import ScriptDirectory
from litestar import Controller, Response, get
from prometheus_client.metrics_core import Metric

from api.metrics import gauge
from api.problems import Flaw, Problem, problem
from api.request import Call
from domain.errors import ServiceUnavailable
from migrations import configuration
from projectors.stats import stats

PROBE_S = 2.0
WARNING_LAG = 100_000
"""Events a read model may be behind before this process says that it is not ready."""


class Check(msgspec.Struct, frozen=True):
    """One thing that readiness depends on."""

    name: str
    is_ok: bool
    detail: str


class Readiness(msgspec.Struct, frozen=True):
    """All checks passed."""

    status: str
    deployment: str
    checks: list[Check]


class Alive(msgspec.Struct, frozen=True):
    """The process answers."""

    status: str = "alive"


class Health(Controller):
    """Health."""

    tags = ("Health",)

    @get("/health/live")
    async def live(self) -> Alive:
        """Whether the process answers at all."""
        return Alive()

    @get("/health/ready")
    async def ready(self, request: Call) -> Response[Readiness] | Response[Problem]:
        """Whether requests can be served; 503 names what is missing."""
        checks = [*await _database(request), await _nats(request)]
        bad = [check for check in checks if not check.is_ok]
        if not bad:
            return Response(Readiness("ready", request.services.deployment, checks))
        detail = "; ".join(f"{check.name}: {check.detail}" for check in bad)
        return problem(
            503,
            "Not ready",
            detail,
            ServiceUnavailable.code,
            flaws=[Flaw(check.detail, parameter=check.name) for check in bad],
            headers={"Retry-After": "1"},
        )

    @get("/metrics", media_type="text/plain; version=0.0.4", include_in_schema=False)
    async def metrics(self, request: Call) -> bytes:
        """Figures for Prometheus, of this process and of what the database tells."""
        page: bytes = request.app.state.metrics.page(await _figures(request))
        return page


async def _database(request: Call) -> list[Check]:
    try:
        async with asyncio.timeout(PROBE_S), request.app.state.pool.connection(timeout=PROBE_S) as connection:
            rows = await connection.execute("SELECT version_num FROM public.alembic_version")
            found = [row[0] for row in await rows.fetchall()]
            head = await _head(request)
            rows = await connection.execute(
                "SELECT projection || ' ' || count(*) FROM read.parked GROUP BY projection"
                " UNION ALL SELECT name || ': ' || error FROM read.projection_state WHERE error IS NOT NULL"
            )
            trouble = [row[0] for row in await rows.fetchall()]
    except psycopg.errors.UndefinedTable as error:
        return [Check("migrations", False, f"run `eioku migrate`: {error.diag.message_primary}")]
    except (psycopg.Error, psycopg_pool.PoolTimeout, TimeoutError) as error:
        return [Check("postgres", False, f"no answer: {type(error).__name__}")]
    lag = max(0, head - request.app.state.served.now())
    wanted = await asyncio.get_running_loop().run_in_executor(request.app.state.probes, _newest_migration)
    return [
        Check("postgres", True, "answers"),
        Check(
            "migrations",
            found == [wanted],
            "at head" if found == [wanted] else f"at {found}, not {wanted}; run `eioku migrate`",
        ),
        Check("projections", lag <= WARNING_LAG, f"{lag} events behind"),
        Check("followers", not (stuck := request.app.state.followers.stuck()), "; ".join(stuck) or "get on"),
        # Parked events and halted projections are shown, but the rest can still be served.
        Check("parked", True, "; ".join(trouble) or "nothing"),
    ]


async def _head(request: Call) -> int:
    return await asyncio.get_running_loop().run_in_executor(request.app.state.probes, request.services.log.head)


@cache
def _newest_migration() -> str:
    return ScriptDirectory.from_config(configuration()).get_current_head() or ""


async def _nats(request: Call) -> Check:
    if request.services.nats_url is None:
        return Check("nats", True, "not used here")
    bus = request.app.state.bus
    if bus is None or not bus.nc.is_connected:
        return Check("nats", False, "not connected")
    return Check("nats", True, "connected")


async def _figures(request: Call) -> list[Metric]:
    try:
        async with request.app.state.pool.connection(timeout=PROBE_S) as connection:
            counted = await stats(connection)
            head = await _head(request)
            rows = await connection.execute("SELECT application_name, notification_id FROM es.tracking")
            followers = {name: head - position for name, position in await rows.fetchall()}
    except (psycopg.Error, psycopg_pool.PoolTimeout):
        return [gauge("eioku_database_up", "Whether Postgres answers.", None, {"": 0})]
    by_state: dict[str, float] = {}
    waiting: dict[str, float] = {}
    for task_type, states in counted.tasks.items():
        for state, number in states.items():
            by_state[state] = by_state.get(state, 0) + number
        waiting[task_type] = states.get("pending", 0)
    return [
        gauge("eioku_database_up", "Whether Postgres answers.", None, {"": 1}),
        gauge("eioku_log_head", "Newest position of the event log.", None, {"": head}),
        gauge(
            "eioku_follower_lag_events",
            "Events that each follower of the log is behind.",
            "follower",
            followers,
        ),
        gauge(
            "eioku_served_position",
            "Position that all read models have reached.",
            None,
            {"": request.app.state.served.now()},
        ),
        gauge("eioku_videos", "Videos in all libraries.", None, {"": counted.videos}),
        gauge("eioku_runs_completed", "Completed runs.", None, {"": counted.runs}),
        gauge("eioku_artifacts", "Artifacts in completed runs.", "artifact_type", counted.artifacts),
        gauge("eioku_tasks", "Tasks by state.", "state", by_state),
        gauge("eioku_queue_depth", "Pending tasks.", "task_type", waiting),
        gauge(
            "eioku_parked_events", "Events that a projection could not digest.", "projection", counted.parked
        ),
    ]
