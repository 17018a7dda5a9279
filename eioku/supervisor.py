"""`eioku up`: every role and the embedded services in one process tree."""

import fcntl
import os
import signal
import socket
import stat
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, MappingProxyType, TracebackType
from typing import IO, Self, cast

import msgspec

from domain.errors import ServiceUnavailable, StorageFailed
from domain.pipeline import Family
from eioku.embedded import Nats, Postgres, child_command, closed_mode
from eioku.liveness import Watch
from eioku.pipeline_file import load_plans
from eioku.processes import Program, Told
from eioku.settings import Settings, worker_counts, worker_families
from infrastructure.devices import VISIBLE, visible_gpus

GPU_FAMILIES = ("asr", "torch")
"""They get a worker on each GPU: libraries that run there as they are installed."""
_CHECK_EVERY_S = 5.0
_STOP_ROLES_S = 25.0
_STOP_HUNG_S = 8.0
"""After this long a role that does not move any more is not waited for."""
_ANSWER_S = 10.0
_STOP_SERVICES_S = 60.0
START_S = 90.0
"""How long a command waits for a tree that is just starting: a cold machine imports slowly."""
_LOOK_S = 0.2


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """Where a running tree is found; kept in the data folder, readable by its owner alone (it holds passwords)."""

    pid: int
    api_url: str | None
    database_url: str
    nats_url: str | None


class DataInUse(ServiceUnavailable):
    """Another Eioku runs on this data folder."""

    def __init__(self, data: Path) -> None:
        running = running_on(data)
        where = f", its API is at {running.api_url}" if running is not None and running.api_url else ""
        super().__init__(f"another eioku is running on {data}{where}")


class Tree:
    """The services that `settings` leaves to us, and around them the roles; a context manager."""

    def __init__(self, settings: Settings, told: Told, *, with_roles: bool = True, with_nats: bool = True) -> None:
        self._given, self._told = settings, told
        self._with_roles, self._with_nats = with_roles, with_nats
        self.settings = settings
        """With the URLs of the embedded services, once started."""
        self.programs: list[Program] = []
        self._services: list[tuple[Program, Callable[[], bool]]] = []
        self._roles: list[tuple[Program, Watch]] = []
        self._listener: socket.socket | None = None
        self._lock: IO[str] | None = None
        self._stopping = threading.Event()
        self._watch = threading.Thread(target=self._check, name="health", daemon=True)

    @property
    def api_url(self) -> str:
        """Address of the API for a client on this machine."""
        assert self._listener is not None
        port = self._listener.getsockname()[1]
        # By the name that was given: it is one that the API answers to, the address behind it need not be.
        given = self.settings.host
        host = "127.0.0.1" if given in ("0.0.0.0", "::", "") else given  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def __enter__(self) -> Self:
        """Start everything and wait until it answers.

        Raises:
            DataInUse: another tree has the data folder.
            ServiceUnavailable: something does not come up; nothing is left running.
        """
        if self._with_roles:
            load_plans(self._given)  # a wrong file is refused here, not in the log of a role
        self._lock = _take_lock(self._given.data, self._told)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything, roles before services."""
        self.stop()

    def stop(self) -> None:
        """Stop the roles, then NATS, then Postgres."""
        self._stopping.set()
        self._stop_roles([program for program, _ in self._roles])
        for program, _ in reversed(self._services):
            program.stop(_STOP_SERVICES_S)
        if self._listener is not None:
            self._listener.close()
        if self._lock is not None:
            _running_file(self._given.data).unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    @staticmethod
    def _stop_roles(roles: Sequence[Program]) -> None:
        """Those that move get their time to end what they do; a hung one does not hear the signal."""
        for program in roles:
            program.ask_to_stop()
        began = time.monotonic()
        for program in roles:
            program.wait_end(began + _STOP_HUNG_S / 2)
            program.has_moved()  # what it said until now does not count
        for program in roles:
            program.wait_end(began + _STOP_HUNG_S)
        for program in roles:
            if program.pid is not None and not program.has_moved():
                program.kill()
        for program in roles:
            program.stop(max(0.1, began + _STOP_ROLES_S - time.monotonic()))

    def _start(self) -> None:
        if self._given.database_url is None:
            postgres = Postgres(self._given.data)
            self._start_service(postgres)
            self.settings = msgspec.structs.replace(self.settings, database_url=postgres.url)
        if self._with_nats and self._given.nats_url is None:
            nats = Nats(self._given.data)
            self._start_service(nats)
            self.settings = msgspec.structs.replace(self.settings, nats_url=nats.url)
        self._watch.start()
        assert self.settings.database_url is not None
        import migrations

        migrations.upgrade(self.settings.database_url)
        if self._with_roles:
            self._start_roles()
        self._tell_where()

    def _start_service(self, service: Postgres | Nats) -> None:
        program = Program(
            service.name,
            service.command,
            logs=self._given.data / "logs",
            told=self._told,
            prepare=service.prepare,
            stop_signal=service.stop_signal,
            kill_signal=service.kill_signal,
        )
        self.programs.append(program)
        self._services.append((program, service.is_healthy))
        program.start()
        program.wait_ready(service.is_ready, 60)

    def _start_roles(self) -> None:
        settings = self.settings
        try:
            self._listener = socket.create_server((settings.host, settings.port), backlog=512)
        except OSError as error:
            raise ServiceUnavailable(
                f"{settings.host}:{settings.port} cannot be listened on: {error.strerror}; choose another with --port"
            ) from error
        self._listener.set_inheritable(True)
        fd = self._listener.fileno()
        for number in range(settings.api_processes):
            name = "api" if settings.api_processes == 1 else f"api-{number + 1}"
            self._start_role(name, ["api", "--fd", str(fd)], pass_fds=(fd,), answers=self._api_answers)
        for role in ("relay", "ingester", "projector"):
            self._start_role(role, [role])
        from workers import PRODUCERS
        from workers.capability import task_types_of

        for family, task_types in worker_families(settings.workers).items():
            if task_types is None and not task_types_of(cast("Family", family), PRODUCERS):
                continue  # nothing in this family yet; the light worker answers for its tasks
            tasks = [] if task_types is None else ["--tasks", ",".join(task_types)]
            count = worker_counts(settings.workers).get(family, 1)
            for suffix, environment in slots(family, settings.device, count):
                name = f"worker-{family}{suffix}"
                self._start_role(name, ["worker", "--family", family, *tasks], environment=environment)
        first = next(program for program in self.programs if program.name.startswith("api"))
        first.wait_ready(lambda: _answers(f"{self.api_url}/health/live"), 60)

    def _start_role(
        self,
        name: str,
        arguments: list[str],
        *,
        pass_fds: tuple[int, ...] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
        answers: Callable[[], bool] = lambda: True,
    ) -> None:
        python = [sys.executable, "-P", "-m", "eioku", *arguments]
        program = Program(
            name,
            lambda: child_command(python, signal.SIGTERM),
            logs=self._given.data / "logs",
            told=self._told,
            environment={**self.settings.environment(), "EIOKU_LOG_FORMAT": "json", **environment},
            pass_fds=pass_fds,
            logs_json=True,
            has_heart=True,
        )
        self.programs.append(program)
        self._roles.append((program, Watch(answers)))
        program.start()

    def _api_answers(self) -> bool:
        # Several share the socket: nobody knows which of them would answer.
        return self.settings.api_processes > 1 or _moves(f"{self.api_url}/health/live", _ANSWER_S)

    def _tell_where(self) -> None:
        assert self.settings.database_url is not None
        running = Running(
            pid=os.getpid(),
            api_url=self.api_url if self._with_roles else None,
            database_url=self.settings.database_url,
            nats_url=self.settings.nats_url,
        )
        path = _running_file(self._given.data)
        path.touch(0o600)
        path.write_bytes(msgspec.json.encode(running))

    def _check(self) -> None:
        while not self._stopping.wait(_CHECK_EVERY_S):
            for program, is_healthy in self._services:
                if program.pid is not None and not is_healthy():
                    program.restart()
            for program, watch in self._roles.copy():
                if watch.finds_hung(program.pulse) and not self._stopping.is_set():
                    self._told.line(program.name, "does not move any more: it is ended and started again")
                    program.restart()


def slots(family: str, device: str, count: int = 1) -> list[tuple[str, dict[str, str]]]:
    """(suffix of the name, variables) of each worker to start for a family: `count`, on each GPU that it may use."""
    gpus = visible_gpus() if family in GPU_FAMILIES and device != "cpu" else ()
    places: list[tuple[str, dict[str, str]]] = [("", {})]
    if len(gpus) > 1:
        places = [(f"-gpu{number}", {VISIBLE: one.token}) for number, one in enumerate(gpus)]
    return [
        (suffix if number == 1 else f"{suffix}-{number}", variables)
        for suffix, variables in places
        for number in range(1, count + 1)
    ]


def running_on(data: Path, *, patience_s: float = 0.0) -> Running | None:
    """The tree that runs on a data folder, None when there is none; what a killed one left behind does not count.

    One that is just starting is waited for, `patience_s` at most.
    """
    until = time.monotonic() + patience_s
    while _is_locked(data):
        try:
            return msgspec.json.decode(_running_file(data).read_bytes(), type=Running)
        except (FileNotFoundError, msgspec.DecodeError):
            if time.monotonic() >= until:
                return None
            time.sleep(_LOOK_S)
    return None


def _is_locked(data: Path) -> bool:
    try:
        with (data / "run" / "lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except BlockingIOError:
        return True
    except OSError as error:
        raise _unusable(data, error) from error
    return False


def _unusable(data: Path, error: OSError) -> StorageFailed:
    return StorageFailed(f"the data folder {data} cannot be used: {error.strerror}. Name another with --data")


@contextmanager
def reachable(settings: Settings, told: Told, *, with_nats: bool = False) -> Iterator[Settings]:
    """The settings with a database URL (and a NATS URL) that work: given, of the tree that runs, or started for this."""
    if settings.database_url is not None and (settings.nats_url is not None or not with_nats):
        yield settings
        return
    running = running_on(settings.data, patience_s=START_S)
    if running is not None:
        yield msgspec.structs.replace(settings, database_url=running.database_url, nats_url=running.nats_url)
        return
    with Tree(settings, told, with_roles=False, with_nats=with_nats) as tree:
        yield tree.settings


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; a second SIGINT interrupts as usual."""
    stop = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _close_to_others(data: Path, told: Told) -> None:
    """Let no other user of this machine into the data folder: there are films, faces and passwords in it."""
    mode, wanted = stat.S_IMODE(data.stat().st_mode), closed_mode()
    if not mode & ~wanted:
        return
    try:
        data.chmod(mode & wanted)
    except PermissionError:
        told.line("eioku", f"{data} is open to other users of this machine; its owner should close it: chmod 700 {data}")
    else:
        told.line("eioku", f"{data} was open to other users of this machine, it is closed now")


def _take_lock(data: Path, told: Told) -> IO[str]:
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        _close_to_others(data, told)
        (data / "run").mkdir(exist_ok=True)
        lock = (data / "run" / "lock").open("w")
        os.fchmod(lock.fileno(), 0o600)  # whoever can open it can hold it
    except OSError as error:
        raise _unusable(data, error) from error
    deadline = time.monotonic() + 0.5  # `running_on` holds it for a moment
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                lock.close()
                raise DataInUse(data) from error
            time.sleep(0.02)
        else:
            return lock


def _running_file(data: Path) -> Path:
    return data / "run" / "eioku.json"


def _answers(url: str, timeout_s: float = 2.0) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as response:
            return bool(response.status == 200)  # noqa: PLR2004
    except OSError:
        return False


def _moves(url: str, timeout_s: float) -> bool:
    """Whether somebody behind `url` still reacts: also by closing the connection, as a full house does."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s):
            return True
    except (urllib.error.HTTPError, ConnectionError):
        return True
    except urllib.error.URLError as error:
        return isinstance(error.reason, ConnectionResetError | BrokenPipeError)
    except OSError:
        return False
