"""The tables: migrated from anywhere, by anyone first, and never rewritten."""

import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest

import migrations
from infrastructure.event_store.log import PostgresEventLog
from infrastructure.postgres.connections import connect
from tests.support.log_items import a_batch, an_event

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def empty_database(postgres_url: str) -> Iterator[str]:
    name = f"empty_{uuid.uuid4().hex[:12]}"
    with connect(postgres_url) as admin:
        admin.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        yield urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[call-overload]


@pytest.mark.parametrize("attempt", ["UPDATE es.{} SET {} = ''", "DELETE FROM es.{}", "TRUNCATE es.{}"])
@pytest.mark.parametrize(("table", "column"), [("segment", "kind"), ("events", "state"), ("batch", "body")])
def test_history_cannot_be_changed(database: str, table: str, column: str, attempt: str) -> None:
    with PostgresEventLog(database) as log, connect(database) as connection:
        written = [an_event(uuid4(), 1), a_batch(uuid4(), 1, 2)]
        log.append(written)
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="the log only grows"):
            connection.execute(attempt.format(table, column))  # type: ignore[call-overload]
        assert [record.item for record in log.read(0)] == written


def test_migrating_works_from_any_folder(empty_database: str, tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import migrations; migrations.upgrade(sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", program, str(ROOT), empty_database], cwd=tmp_path, check=True)
    with PostgresEventLog(empty_database) as log:
        assert log.append([an_event(uuid4(), 1)]) == 1


def test_migrating_from_many_sides_at_once_happens_once(empty_database: str) -> None:
    failed: list[BaseException] = []

    def migrate() -> None:
        try:
            migrations.upgrade(empty_database)
        except BaseException as error:  # noqa: BLE001 - judged below
            failed.append(error)

    threads = [threading.Thread(target=migrate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with PostgresEventLog(empty_database) as log:
        assert log.head() == 0


def test_there_is_one_chain_of_migrations() -> None:
    from alembic.script import ScriptDirectory

    script = ScriptDirectory.from_config(migrations.configuration())
    assert len(script.get_heads()) == 1
    assert [revision.revision for revision in script.walk_revisions()][-1] == "0001_log"
