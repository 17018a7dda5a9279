"""The embedded services: set for no loss, alone on their folder, gone with their parent."""

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest

from domain.errors import ServiceUnavailable
from eioku.embedded import Postgres
from eioku.settings import Settings
from eioku.supervisor import DataInUse, Tree, running_on


class Silent:
    def __init__(self):
        self.restarts = []

    def line(self, program, text):
        pass

    def restarted(self, program, code, pause_s):
        self.restarts.append(program)


def services(data: Path) -> Tree:
    return Tree(Settings(data=data), Silent(), with_roles=False)


def eventually(what, timeout_s=20):
    """Poll `what` until it is true; its last value."""
    deadline = time.monotonic() + timeout_s
    while not (found := what()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def processes_under(data: Path) -> list[int]:
    """Processes whose command line or working folder names the data folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes()
                cwd = str((entry / "cwd").readlink())
            except OSError:
                continue
            if os.fsencode(data) in words or cwd.startswith(str(data)):
                found.append(int(entry.name))
    return found


def test_postgres_is_started_so_that_nothing_acknowledged_is_lost(tmp_path):
    with services(tmp_path) as tree, psycopg.connect(tree.settings.database_url) as connection:
        settings = dict(
            connection.execute(
                "SELECT name, setting FROM pg_settings WHERE name IN"
                " ('fsync', 'synchronous_commit', 'full_page_writes', 'jit', 'listen_addresses', 'data_checksums')"
            ).fetchall()
        )
    assert settings == {
        "fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "jit": "off", "listen_addresses": "",
        "data_checksums": "on",
    }  # fmt: skip


def test_words_are_told_apart_from_punctuation_in_every_script(tmp_path):
    with services(tmp_path) as tree, psycopg.connect(tree.settings.database_url) as connection:
        row = connection.execute("SELECT to_tsvector('simple', 'ab—cd ÜBER')::text, lower('ÄÖ')").fetchone()
    assert row == ("'ab':1 'cd':2 'über':3", "äö")


def test_a_wrong_password_is_refused_and_secrets_are_ours_alone(tmp_path):
    with services(tmp_path) as tree:
        secret = (tmp_path / "secrets" / "postgres").read_text()
        assert secret in tree.settings.database_url
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(tree.settings.database_url.replace(secret, "guess"))
        for path in (tmp_path / "secrets" / "postgres", tmp_path / "secrets" / "nats", tmp_path / "run" / "eioku.json"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "always" in (tmp_path / "nats" / "nats.conf").read_text()


def test_a_second_one_on_the_same_folder_is_refused(tmp_path):
    with services(tmp_path):
        assert running_on(tmp_path).pid == os.getpid()
        with pytest.raises(DataInUse, match="another eioku is running"):
            services(tmp_path).__enter__()
    assert running_on(tmp_path) is None
    assert running_on(tmp_path / "never") is None


def test_one_that_is_just_starting_is_waited_for(tmp_path):
    found = []
    waiting = threading.Thread(target=lambda: found.append(running_on(tmp_path, patience_s=30)))
    with services(tmp_path):
        where = tmp_path / "run" / "eioku.json"
        told = where.read_bytes()
        where.unlink()  # as while it starts
        assert running_on(tmp_path) is None
        waiting.start()
        where.write_bytes(told)
        waiting.join(30)
    assert [running.pid for running in found] == [os.getpid()]


def test_a_killed_service_comes_back_under_the_same_address_with_its_data(tmp_path):
    with services(tmp_path) as tree:
        with psycopg.connect(tree.settings.database_url, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")
        nats_url, before = tree.settings.nats_url, [program.pid for program in tree.programs]
        for pid in before:
            os.kill(pid, signal.SIGKILL)

        def kept():
            try:
                with psycopg.connect(tree.settings.database_url) as connection:
                    return connection.execute("SELECT n FROM kept").fetchone()
            except psycopg.OperationalError:
                return None

        assert eventually(kept) == (7,)
        assert eventually(lambda: all(program.pid not in (None, *before) for program in tree.programs))
        assert eventually(tree._services[1][1])
        assert tree.settings.nats_url == nats_url
        assert sorted(tree._told.restarts) == ["nats", "postgres"]


def test_a_nats_store_that_cannot_be_recovered_is_moved_aside(tmp_path, monkeypatch):
    with services(tmp_path) as tree:
        program, is_healthy = tree._services[1]
        nats = is_healthy.__self__
        monkeypatch.setattr(nats, "health", lambda: '{"status":"error","error":"stream could not be recovered"}')
        assert is_healthy() is False
        assert [path.name.split(".")[0] for path in (tmp_path / "nats").glob("store.broken-*")] == ["store"]
        monkeypatch.undo()
        program.restart()
        assert eventually(lambda: program.restarts == 1 and nats.is_ready())


@pytest.mark.parametrize("closed", [False, True], ids=["open folder", "folder closed to others"])
def test_nothing_survives_a_killed_parent_and_the_next_start_finds_everything(tmp_path, closed):
    data = tmp_path / "closed" / "data"
    data.parent.mkdir(mode=0o700 if closed else 0o755)
    script = (
        "import os, signal, psycopg; from pathlib import Path\n"
        "from eioku.settings import Settings; from eioku.supervisor import Tree\n"
        "class Silent:\n def line(self, *_): pass\n def restarted(self, *_): pass\n"
        f"tree = Tree(Settings(data=Path({str(data)!r})), Silent(), with_roles=False).__enter__()\n"
        "c = psycopg.connect(tree.settings.database_url, autocommit=True)\n"
        "c.execute('CREATE TABLE kept (n int)'); c.execute('INSERT INTO kept VALUES (7)')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert running_on(data) is None
    assert eventually(lambda: processes_under(data) == [])
    with services(data) as tree, psycopg.connect(tree.settings.database_url) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (7,)


def test_a_pid_file_that_names_somebody_else_does_not_stop_the_start(tmp_path):
    with services(tmp_path):
        pass
    pid_file = tmp_path / "postgres" / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{tmp_path / 'postgres'}\n1700000000\n5432\n\n\n0 0\nready\n")
    with services(tmp_path) as tree:
        psycopg.connect(tree.settings.database_url).close()


def test_a_data_folder_with_a_very_long_name_still_has_a_socket(tmp_path):
    data = tmp_path / ("x" * 120)
    with services(data) as tree:
        psycopg.connect(tree.settings.database_url).close()
    assert not Postgres(data).socket_folder.is_relative_to(data)


def test_data_of_another_postgres_version_is_refused_with_what_to_do(tmp_path):
    with services(tmp_path):
        pass
    (tmp_path / "postgres" / "PG_VERSION").write_text("14\n")
    with pytest.raises(ServiceUnavailable, match="made by Postgres 14"):
        services(tmp_path).__enter__()
    assert eventually(lambda: processes_under(tmp_path) == [])
