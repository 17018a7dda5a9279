"""A data folder of the version before is searched by the new rules after the upgrade, without anybody's doing."""

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from alembic import command

import migrations
from domain.video import VideoRegistered
from infrastructure.event_store.log import PostgresEventLog
from projectors import PROJECTIONS
from projectors.overview import list_projections
from projectors.renewal import renew
from tests.support.following import content, following, reached
from tests.support.timeline_model import BOX, Library

PATIENCE_S = 60
BEFORE = "0007_next_try"


class Spoken(Library):
    """A library with words that the version before could not find."""

    TEXTS = ("İSTANBUL'DA", "Größenwahn", "ประเทศไทย", "ＯＰＥＮ", "plain words")

    def _payload(self, kind):
        payload = super()._payload(kind)
        if "text" in payload:
            payload["text"] = self.random.choice(self.TEXTS)
        if "box" in payload and "label" in payload:
            payload = {"label": "Dog", "confidence": 0.9, "box": BOX, "frame_index": 1}
        return payload


@pytest.fixture
def log(database: str) -> Iterator[PostgresEventLog]:
    with PostgresEventLog(database) as log:
        yield log


def append(log: PostgresEventLog, library: Library) -> None:
    for item in library.items:
        log.append([item])
    library.items.clear()


def old_rows(database: str) -> None:
    """What the version before wrote, where it differs; and its numbers."""
    with migrations.engine(database).connect() as connection:
        config = migrations.configuration()
        config.attributes["connection"] = connection
        command.downgrade(config, BEFORE)
    with psycopg.connect(database, autocommit=True, options="-c search_path=read") as connection:
        for table in ("transcript_fts", "ocr_fts"):
            connection.execute(f"UPDATE {table} SET words = lower(text)")
        connection.execute("UPDATE videos SET filename_folded = lower(filename)")
        connection.execute("UPDATE projection_state SET version = 1")


def test_read_models_of_the_version_before_are_searched_at_once_and_renewed_by_themselves(
    database: str, log: PostgresEventLog
) -> None:
    library = Spoken(5)
    append(log, library)
    with following(database):
        reached(database, log.head())
    new = content(database)
    old_rows(database)

    migrations.upgrade(database)

    with psycopg.connect(database, options="-c search_path=read") as connection:
        (found,) = connection.execute(
            "SELECT count(*) FROM transcript_fts WHERE tsv @@ to_tsquery('plain')"
        ).fetchone() or (0,)
        assert found == connection.execute(
            "SELECT count(*) FROM transcript_fts WHERE text LIKE 'plain%'"
        ).fetchone()[0]  # type: ignore[index]
    assert content(database) != new
    stop = threading.Event()
    renewal = threading.Thread(target=renew, args=(database, stop))
    with following(database):
        renewal.start()
        renewal.join(PATIENCE_S)
    assert not renewal.is_alive()
    assert content(database) == new
    assert all(status.built_version == status.version for status in list_projections(database))


def test_a_renewal_ends_when_the_program_does_and_two_do_not_disturb_each_other(
    database: str, log: PostgresEventLog
) -> None:
    append(log, Spoken(6))
    with following(database):
        reached(database, log.head())
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE read.projection_state SET version = 0")
    stopped = threading.Event()
    stopped.set()
    renew(database, stopped)
    assert any(status.built_version == 0 for status in list_projections(database))

    stop = threading.Event()
    both = [threading.Thread(target=renew, args=(database, stop)) for _ in range(2)]
    for one in both:
        one.start()
    deadline = time.monotonic() + PATIENCE_S
    for one in both:
        one.join(max(0.1, deadline - time.monotonic()))
    assert not any(one.is_alive() for one in both)
    assert {status.built_version for status in list_projections(database)} == {
        projection.version for projection in PROJECTIONS
    }


def test_what_a_newer_version_built_is_left_alone(database: str, log: PostgresEventLog) -> None:
    library = Library(7)
    assert isinstance(library.items[0], VideoRegistered)
    append(log, library)
    with following(database):
        reached(database, log.head())
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE read.projection_state SET version = 99")
    renew(database, threading.Event())
    assert {status.built_version for status in list_projections(database)} == {99}
