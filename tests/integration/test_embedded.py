"""The embedded services: set for no loss, alone on their folder, gone with their parent."""

import asyncio
import json
import os
import pwd
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import nats
import psycopg
import pytest

from domain.errors import ServiceUnavailable
from eioku.embedded import Nats, Postgres
from eioku.settings import Settings
from eioku.supervisor import DataInUse, Tree, running_on
from infrastructure.nats.health import health


class Silent:
    def __init__(self):
        self.restarts, self.lines = [], []

    def line(self, program, text):
        if program == "eioku":
            self.lines.append(text)

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


@pytest.mark.parametrize("mode", [0o755, 0o777, 0o750, 0o711, 0o700])
def test_the_data_folder_is_closed_to_other_users(tmp_path, mode):
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(mode)
    with services(data) as tree:
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
        assert stat.S_IMODE((data / "run" / "lock").stat().st_mode) == 0o600
        assert [str(data) in line for line in tree._told.lines] == [True] * (mode != 0o700)
        psycopg.connect(tree.settings.database_url).close()


def test_a_new_data_folder_is_closed_from_the_start(tmp_path):
    data = tmp_path / "some" / "where"
    with services(data) as tree:
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
        assert tree._told.lines == []


def test_another_user_can_neither_see_the_data_nor_hold_the_lock():
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    nobody = pwd.getpwnam("nobody")

    def opens(path):
        command = ["/bin/sh", "-c", 'exec <"$1"', "sh", path]
        who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        return subprocess.run(command, check=False, capture_output=True, cwd="/", **who).returncode == 0

    with tempfile.TemporaryDirectory(prefix="eioku-open-") as folder:
        around = Path(folder)
        around.chmod(0o755)
        (around / "other").touch(0o644)
        data = around / "data"
        with services(data):
            assert opens(around / "other")
            assert not any(opens(data / of) for of in ("run/lock", "run/eioku.json", "secrets/nats", "logs"))


def test_nats_tells_nothing_without_a_password(tmp_path):
    with services(tmp_path) as tree:
        (ports,) = (tmp_path / "nats").glob("*.ports")
        told = json.loads(ports.read_text())
        assert set(told) == {"nats"}  # no page for everybody
        for user in ("", "eioku:guess@", "health:guess@"):
            assert health(told["nats"][0].replace("//", f"//{user}")) != ""
        assert health(tree.settings.nats_url) != ""  # nor to the user that workers are
        assert tree._services[1][1].__self__.health() == ""


def test_health_tells_of_a_stream_that_cannot_be_recovered(tmp_path):
    async def make(url):
        connection = await nats.connect(url)
        await connection.jetstream().add_stream(name="S", subjects=["s.>"])
        await connection.close()

    with services(tmp_path) as tree:
        asyncio.run(make(tree.settings.nats_url))
    for state in (tmp_path / "nats" / "store").rglob("meta.inf"):
        state.write_bytes(b"{broken")
    server = Nats(tmp_path)
    server.prepare()
    process = subprocess.Popen(server.command(), stderr=subprocess.DEVNULL)
    try:
        assert eventually(lambda: list((tmp_path / "nats").glob("*.ports")))
        secret = (tmp_path / "secrets" / "nats-health").read_text()

        def said():
            (ports,) = (tmp_path / "nats").glob("*.ports")
            return health(json.loads(ports.read_text() or "{}")["nats"][0].replace("//", f"//health:{secret}@"))

        assert eventually(lambda: "could not be recovered" in said())
        assert not server.is_ready()
    finally:
        process.terminate()
        process.wait(20)


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
