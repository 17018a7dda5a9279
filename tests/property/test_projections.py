"""Read models are functions of the log: any batching and any restart point give the same rows."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from application.ports import Recorded
from domain.artifacts.envelope import ArtifactBatch
from domain.run import RunCompleted, RunStarted
from domain.selection import PROFILE_RANK, SelectionCleared, SelectionSet
from domain.video import VideoDeleted, VideoRegistered
from projectors import PROJECTIONS
from projectors.projection import Projection
from tests.support.history import History, cuts
from tests.support.memory_log import MemoryLog

HISTORIES = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
seeds = st.integers(0, 2**32)


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(
        database, autocommit=True, options="-c search_path=read -c timezone=UTC"
    ) as connection:
        yield connection


def records_of(seed: int, moves: int = 80) -> Sequence[Recorded]:
    log = MemoryLog()
    History(log, seed).play(moves)
    return log.records


def project(
    connection: psycopg.Connection,
    projection: type[Projection],
    records: Sequence[Recorded],
    pieces: Iterator[slice],
) -> dict[str, list[Any]]:
    """The rows of a projection after taking `records` piece by piece; the database stays as it was."""
    with connection.transaction(force_rollback=True):
        for piece in pieces:
            if wanted := [record for record in records[piece] if projection.wants(record)]:
                projection().apply(connection, wanted)  # a new one each time, as after a restart
        return {
            table.name: sorted(
                connection.execute(f"SELECT to_jsonb(t)::text FROM {table.name} AS t").fetchall()  # type: ignore[arg-type]
            )
            for table in projection.tables
        }


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda p: p.name)
@HISTORIES
@given(seed=seeds, cutting=seeds)
def test_any_batching_and_any_restart_give_the_same_rows(
    connection: psycopg.Connection, projection: type[Projection], seed: int, cutting: int
) -> None:
    records = records_of(seed)

    at_once = project(connection, projection, records, iter([slice(None)]))
    in_pieces = project(connection, projection, records, cuts(len(records), random.Random(cutting)))
    one_by_one = project(connection, projection, records, (slice(i, i + 1) for i in range(len(records))))

    assert in_pieces == at_once
    assert one_by_one == at_once


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda p: p.name)
@HISTORIES
@given(seed=seeds)
def test_nothing_of_a_deleted_video_is_left(
    connection: psycopg.Connection, projection: type[Projection], seed: int
) -> None:
    records = records_of(seed)
    alive: set[str] = set()
    for record in records:
        match record.item:
            case VideoRegistered(originator_id=video_id):
                alive.add(str(video_id))
            case VideoDeleted(originator_id=video_id):
                alive.discard(str(video_id))

    with connection.transaction(force_rollback=True):
        projection().apply(connection, [record for record in records if projection.wants(record)])
        for table in projection.tables:
            if (
                "video_id" not in table.columns
                or table.name.endswith("_deleted")
                or table.name == "selection_policies"
            ):
                continue
            # Tasks stay until they have ended: they are to be called off.
            ended = "WHERE status NOT IN ('pending', 'running')" if table.name == "tasks" else ""
            rows = connection.execute(f"SELECT DISTINCT video_id::text FROM {table.name} {ended}").fetchall()
            assert {video_id for (video_id,) in rows} <= alive, table.name


@HISTORIES
@given(seed=seeds)
def test_run_flags_are_what_the_contract_says(connection: psycopg.Connection, seed: int) -> None:
    records = records_of(seed, moves=120)
    (run_types,) = (projection for projection in PROJECTIONS if projection.name == "run_types")
    with connection.transaction(force_rollback=True):
        run_types().apply(connection, [record for record in records if run_types.wants(record)])
        found = {
            (str(run_id), artifact_type): tuple(flags)
            for run_id, artifact_type, *flags in connection.execute(
                "SELECT run_id, artifact_type, language, is_latest, is_latest_of_profile, is_latest_of_language,"
                " is_best, is_selected FROM run_types"
            )
        }

    assert found == expected_flags(records)


def expected_flags(records: Sequence[Recorded]) -> dict[tuple[str, str], tuple[Any, ...]]:
    """The same by plain Python over the whole history."""
    started: dict[Any, RunStarted] = {}
    spoken: dict[Any, set[str | None]] = {}
    rows: list[dict[str, Any]] = []
    policies: dict[Any, SelectionSet] = {}
    alive: set[Any] = set()
    for record in records:
        match record.item:
            case VideoRegistered(originator_id=video_id):
                alive.add(video_id)
            case VideoDeleted(originator_id=video_id):
                alive.discard(video_id)
                rows = [row for row in rows if row["video"] != video_id]
                started = {k: v for k, v in started.items() if v.video_id != video_id}
            case RunStarted() as event if event.video_id in alive:
                started[event.originator_id] = event
            case ArtifactBatch() as batch if batch.head.run_id in started:
                said = {item["payload"].get("language") for item in msgspec.json.decode(batch.items)}
                spoken.setdefault((batch.head.run_id, batch.head.artifact_type), set()).update(said)
            case RunCompleted() as event if event.originator_id in started:
                begun = started.pop(event.originator_id)
                for artifact_type in event.counts:
                    heard = spoken.get((event.originator_id, artifact_type), set())
                    payload_language = next(iter(heard)) if len(heard) == 1 else None
                    takes_payload = artifact_type in ("transcript.segment", "ocr.text")
                    rows.append({
                        "run": event.originator_id, "type": artifact_type, "tenant": begun.tenant_id,
                        "video": begun.video_id, "profile": begun.profile,
                        "language": event.language or begun.language or (payload_language if takes_payload else None),
                        "at": (begun.created_at, record.position),
                    })  # fmt: skip
            case SelectionSet() as event:
                policies[event.tenant_id, event.video_id, event.artifact_type] = event
            case SelectionCleared() as event:
                policies.pop((event.tenant_id, event.video_id, event.artifact_type), None)
    return {(str(row["run"]), row["type"]): _flags_of(row, rows, policies) for row in rows}


def _flags_of(
    row: dict[str, Any], rows: list[dict[str, Any]], policies: dict[Any, SelectionSet]
) -> tuple[Any, ...]:
    peers = [other for other in rows if (other["video"], other["type"]) == (row["video"], row["type"])]

    def is_newest_with(**same: Any) -> bool:
        fitting = [peer for peer in peers if all(peer[key] == value for key, value in same.items())]
        return row in fitting and max(fitting, key=lambda peer: peer["at"]) is row

    latest = is_newest_with()
    of_profile = is_newest_with(profile=row["profile"])
    of_language = is_newest_with(language=row["language"])
    rank = min(PROFILE_RANK.get(peer["profile"], 3) for peer in peers)
    best = max((p for p in peers if PROFILE_RANK.get(p["profile"], 3) == rank), key=lambda p: p["at"]) is row
    own = policies.get((row["tenant"], row["video"], row["type"]))
    policy = own or policies.get((row["tenant"], None, row["type"]))
    selected = latest
    if policy is not None:
        selected = {
            "latest": latest,
            "default": latest,
            "latest_per_language": of_language,
            "profile": of_profile and row["profile"] == policy.profile,
            "pinned": row["run"] == policy.run_id,
            "best_quality": best,
            "all": True,
        }[policy.mode]
    return row["language"], latest, of_profile, of_language, best, selected
