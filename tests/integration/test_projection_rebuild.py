"""A read model is built again beside the live one, compared, and put in its place while reads and writes go on."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import psycopg
import pytest

from application.ports import Recorded
from domain.errors import Conflict, InvalidParameter
from infrastructure.event_store.log import PostgresEventLog
from projectors import PROJECTIONS
from projectors.artifacts import Artifacts
from projectors.overview import list_parked, list_projections
from projectors.projection import Projection
from projectors.rebuild import Progress, rebuild
from projectors.runner import run_projections
from projectors.videos import Videos
from tests.support.following import content, following, reached
from tests.support.history import History


@pytest.fixture
def log(database: str) -> Iterator[PostgresEventLog]:
    with PostgresEventLog(database) as log:
        yield log


def projected(
    database: str, log: PostgresEventLog, projections: Sequence[type[Projection]] = PROJECTIONS
) -> None:
    with following(database, projections):
        reached(database, log.head(), projections)


def run_sql(database: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database, autocommit=True) as connection:
        found = connection.execute(statement)  # type: ignore[arg-type]
        return found.fetchall() if found.description else []


def structure(database: str) -> list[tuple[Any, ...]]:
    """Columns, indexes and constraints of all live tables."""
    return run_sql(
        database,
        """SELECT table_name, column_name, data_type || is_nullable || coalesce(generation_expression, '')
            || coalesce(collation_name, '') FROM information_schema.columns WHERE table_schema = 'read'
        UNION ALL SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'read'
        UNION ALL SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
            WHERE connamespace = 'read'::regnamespace
        ORDER BY 1, 2, 3""",
    )


def leftovers(database: str) -> list[tuple[Any, ...]]:
    return run_sql(
        database,
        "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'read\\_%'"
        " UNION ALL SELECT application_name FROM es.tracking WHERE application_name LIKE '%@next'"
        " UNION ALL SELECT projection FROM read.parked WHERE projection LIKE '%@next'",
    )


def test_every_read_model_rebuilt_equals_the_live_one_and_takes_its_place(
    database: str, log: PostgresEventLog
) -> None:
    History(log, seed=20).play(200)
    projected(database, log)
    before, made = content(database), structure(database)
    oids = dict(
        run_sql(database, "SELECT relname, oid FROM pg_class WHERE relnamespace = 'read'::regnamespace")
    )

    for projection in PROJECTIONS:
        report = rebuild(database, projection.name)
        assert report.differences == ()
        assert report.is_swapped
        assert report.position == log.head()
        assert set(report.live) == {table.name for table in projection.tables}

    after = dict(
        run_sql(database, "SELECT relname, oid FROM pg_class WHERE relnamespace = 'read'::regnamespace")
    )
    assert content(database) == before
    assert structure(database) == made
    assert leftovers(database) == []
    for projection in PROJECTIONS:
        for table in projection.tables:
            assert after[table.name] != oids[table.name]
    assert all(status.built_at for status in list_projections(database))


def test_the_live_tables_stay_when_the_rebuilt_ones_differ(database: str, log: PostgresEventLog) -> None:
    History(log, seed=21).register(0)
    projected(database, log, [Videos])
    run_sql(database, "UPDATE read.videos SET collection = 'tampered'")

    report = rebuild(database, "videos")

    assert (report.differences, report.is_swapped) == (("videos",), False)
    assert report.live["videos"].rows == report.rebuilt["videos"].rows == 1
    assert run_sql(database, "SELECT collection FROM read.videos") == [("tampered",)]
    assert leftovers(database) == []

    report = rebuild(database, "videos", force=True)

    assert report.is_swapped
    assert run_sql(database, "SELECT collection FROM read.videos") != [("tampered",)]


def test_a_new_version_may_differ(
    database: str, log: PostgresEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Louder(Videos):
        name, version = "videos", Videos.version + 1

        def apply(self, connection: psycopg.Connection, records: Sequence[Recorded]) -> None:
            super().apply(connection, records)
            connection.execute("UPDATE videos SET filename = upper(filename)")

    History(log, seed=22).register(0)
    projected(database, log, [Videos])
    monkeypatch.setattr("projectors.rebuild.PROJECTIONS", (Louder,))

    report = rebuild(database, "videos")

    (status,) = list_projections(database, projections=[Louder])
    assert (report.is_swapped, report.differences) == (True, ("videos",))
    assert (status.version, status.built_version) == (Louder.version, Louder.version)
    assert run_sql(database, "SELECT filename FROM read.videos") == [("FILM 0 ÄRGER.MP4",)]


def test_rebuilding_while_others_append_and_read_disturbs_nobody(
    database: str, log: PostgresEventLog
) -> None:
    history = History(log, seed=23, videos=4, runs=40, batch=50)
    history.play(200)
    stop, errors, reads, appended = threading.Event(), [], [0, 0, 0], [0]
    followers = threading.Thread(target=run_projections, args=(database, stop))
    statements = (
        "SELECT count(*), min(payload::text) FROM artifacts WHERE run_id = ANY(%s::uuid[])",
        "SELECT to_jsonb(v), r.* FROM videos AS v LEFT JOIN run_types AS r USING (video_id) WHERE v.filename_folded <> ALL(%s::text[])",
        """SELECT a.*, e.* FROM run_types AS r JOIN artifacts AS a USING (run_id) JOIN artifacts_runs AS e USING (run_id)
        WHERE r.run_id::text <> ALL(%s::text[]) ORDER BY a.start_ms LIMIT 20""",
    )

    def guarded(work: Callable[[], None]) -> None:
        try:
            while not stop.is_set():
                work()
        except Exception as error:  # noqa: BLE001 - the test shows it
            errors.append(error)

    def reader(number: int) -> None:
        with psycopg.connect(
            database, autocommit=True, prepare_threshold=0, options="-c search_path=read"
        ) as connection:

            def read() -> None:
                connection.execute(statements[number], ([],)).fetchall()
                reads[number] += 1

            guarded(read)

    def append() -> None:
        history.step()
        appended[0] += 1

    threads = [
        followers,
        *(threading.Thread(target=reader, args=(number,)) for number in range(3)),
        threading.Thread(target=guarded, args=(append,)),
    ]
    for thread in threads:
        thread.start()
    try:
        reached(database, 1)
        reports = [
            rebuild(database, name) for name in ("artifacts", "videos", "run_types", "tasks", "artifacts")
        ]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    projected(database, log)

    assert errors == []
    assert [(report.differences, report.is_swapped) for report in reports] == [((), True)] * 5
    assert min(reads) > 10
    assert appended[0] > 10
    again = rebuild(database, "artifacts")
    assert again.differences == ()
    assert again.position == log.head()
    assert max(report.swap_ms for report in reports) < 1_000


def test_a_swap_waits_for_a_reader_that_will_not_go_without_stopping_others(
    database: str, log: PostgresEventLog
) -> None:
    History(log, seed=24).register(0)
    projected(database, log, [Videos])
    tried = threading.Event()

    def note(progress: Progress) -> None:
        if progress.phase == "swap":
            tried.set()

    with psycopg.connect(database) as slow, psycopg.connect(database, autocommit=True) as quick:
        slow.execute("SELECT filename FROM read.videos").fetchall()  # its transaction stays open
        reports: list[Any] = []
        building = threading.Thread(target=lambda: reports.append(rebuild(database, "videos", note)))
        building.start()
        assert tried.wait(20)
        quick.execute("SET statement_timeout = '2s'")
        assert quick.execute("SELECT count(*) FROM read.videos").fetchone() == (1,)
        slow.rollback()
        building.join(20)

    assert reports[0].is_swapped
    assert leftovers(database) == []


def test_one_rebuild_of_a_read_model_at_a_time(database: str, log: PostgresEventLog) -> None:
    History(log, seed=25).register(0)
    projected(database, log, [Videos])
    refused: list[Exception] = []

    def again(progress: Progress) -> None:
        with pytest.raises(Conflict) as caught:
            rebuild(database, "videos")
        refused.append(caught.value)

    assert rebuild(database, "videos", again).is_swapped
    assert refused


def test_an_unknown_read_model_is_refused(database: str) -> None:
    with pytest.raises(InvalidParameter, match="nonsense"):
        rebuild(database, "nonsense")


def test_a_rebuild_tells_how_far_it_is(
    database: str, log: PostgresEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    History(log, seed=26, batch=30).play(150)
    projected(database, log)
    monkeypatch.setattr("projectors.feed.STEP", 100)
    told: list[Progress] = []

    rebuild(database, "artifacts", told.append)

    loading = [progress.position for progress in told if progress.phase == "load"]
    assert len(loading) > 3
    assert loading == sorted(loading)
    assert loading[-1] == told[-1].goal == log.head()
    assert {"load", "compare", "swap"} <= {progress.phase for progress in told}


class Picky(Artifacts):
    """Cannot stand one run."""

    name = "artifacts"
    hates: ClassVar[str] = ""

    def apply(self, connection: psycopg.Connection, records: Sequence[Recorded]) -> None:
        super().apply(connection, records)
        connection.execute("SELECT 1 / count(*) FROM (VALUES (1)) AS v (one) WHERE NOT EXISTS"
                           " (SELECT FROM artifacts_runs WHERE run_id::text = %s)", (self.hates,))  # fmt: skip


def test_what_a_rebuild_cannot_digest_replaces_what_was_parked(
    database: str, log: PostgresEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = History(log, seed=27)
    history.register(0)
    for number in range(2):
        history.start_run(number, on=0)
        history.produce(number, count=5)
    ids = run_sql(database, "SELECT DISTINCT stream_id FROM es.segment WHERE is_batch")
    assert len(ids) == 2
    monkeypatch.setattr(Picky, "hates", str(history_run(log, 1)))
    projected(database, log, [Picky])
    assert [parked.position for parked in list_parked(database, "artifacts")] == [13]

    report = rebuild(database, "artifacts")  # by the projection that stands everything

    assert (report.parked, report.differences) == (0, ("artifacts", "artifacts_runs"))
    assert not report.is_swapped
    assert rebuild(database, "artifacts", force=True).is_swapped
    assert list_parked(database, "artifacts") == []
    assert len(content(database, [Artifacts])["artifacts"]) == 10

    monkeypatch.setattr("projectors.rebuild.PROJECTIONS", (Picky,))
    report = rebuild(database, "artifacts", force=True)
    assert report.parked == 1
    assert [parked.position for parked in list_parked(database, "artifacts")] == [13]
    assert len(content(database, [Artifacts])["artifacts"]) == 5


def history_run(log: PostgresEventLog, number: int) -> Any:
    started = [r.item for r in log.read(0) if getattr(r.item, "TOPIC", "") == "run.started"]
    return started[number].originator_id
