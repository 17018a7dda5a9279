"""Programs that are kept running: started, watched, logged, restarted with growing pauses, stopped in order."""

import contextlib
import json
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO, Protocol

from domain.errors import ServiceUnavailable
from eioku.liveness import VARIABLE, Pulse
from infrastructure.redaction import redacted

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
SETTLED_S = 60.0
"""A program that ran this long starts again without a pause to speak of."""
_LOG_BYTES = 10 << 20
_OLD_LOGS = 3
_LINE_BYTES = 256 << 10
"""A longer line is cut into several."""


class Told(Protocol):
    """Who hears what happens to a program."""

    def line(self, program: str, text: str) -> None:
        """The program wrote a line."""

    def restarted(self, program: str, code: int, pause_s: float) -> None:
        """The program ended by itself with `code` and is started again after `pause_s`."""


class Program:
    """One program that is kept running until `stop`.

    Its output goes to a rotated file and, line by line, to whoever is told. A thread of its own starts it and waits
    for it: the kernel counts that thread as the parent, at whose end the program is ended too (see `child.py`).
    """

    def __init__(
        self,
        name: str,
        command: Callable[[], Sequence[str]],
        *,
        logs: Path,
        told: Told,
        environment: Mapping[str, str] | None = None,
        prepare: Callable[[], None] | None = None,
        pass_fds: Sequence[int] = (),
        stop_signal: signal.Signals = signal.SIGTERM,
        kill_signal: signal.Signals = signal.SIGKILL,
        logs_json: bool = False,
        has_heart: bool = False,
    ) -> None:
        """`logs_json`: it writes JSON lines; what its libraries write beside them becomes such lines too.

        `has_heart`: it tells that it moves (see `liveness.py`).
        """
        self.name, self._logs_json, self._has_heart = name, logs_json, has_heart
        self.pulse: Pulse | None = None
        """Of the process that runs."""
        self._command, self._prepare, self._told = command, prepare, told
        self._environment = None if environment is None else {**os.environ, **environment}
        self._pass_fds, self._stop_signal, self._kill_signal = tuple(pass_fds), stop_signal, kill_signal
        logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._log = RotatingFileHandler(
            logs / f"{name}.log", maxBytes=_LOG_BYTES, backupCount=_OLD_LOGS, encoding="utf-8", delay=True
        )
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper = threading.Thread(target=self._keep, name=f"keeper-{name}", daemon=True)
        self._failure: BaseException | None = None
        self.restarts = 0
        self.last_lines: list[str] = []
        """What it wrote last; shown when it does not come up."""

    @property
    def pid(self) -> int | None:
        """Its process id, None while it does not run."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def start(self) -> None:
        """Start it, and again whenever it ends."""
        self._keeper.start()

    def wait_ready(self, is_ready: Callable[[], bool], timeout_s: float) -> None:
        """Wait until `is_ready` says so.

        Raises:
            ServiceUnavailable: it did not in time, or it ended three times meanwhile.
        """
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            if self._failure is not None:
                raise self._failure
            if self.restarts >= 3 or time.monotonic() > deadline:  # noqa: PLR2004
                last = "\n".join(self.last_lines[-15:])
                raise ServiceUnavailable(f"{self.name} does not come up; it said last:\n{last}")
            self._stopping.wait(0.02)

    def has_moved(self) -> bool:
        """Whether it has said so since this was asked last."""
        pulse = self.pulse
        return pulse is not None and pulse.has_moved()

    def wait_end(self, until: float) -> None:
        """Wait for its end after `ask_to_stop`, at most `until` on the monotonic clock."""
        self._keeper.join(max(0.0, until - time.monotonic()))

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self._signal(signal.SIGKILL)

    def restart(self) -> None:
        """End it hard; its keeper starts it again."""
        self._signal(self._kill_signal)

    def ask_to_stop(self) -> None:
        """Ask it to end, and do not start it again."""
        self._stopping.set()
        self._signal(self._stop_signal)

    def stop(self, timeout_s: float) -> None:
        """Wait for its end after `ask_to_stop`; after `timeout_s` end it and what it started the hard way."""
        self.ask_to_stop()
        self._keeper.join(timeout_s)
        for number in (self._kill_signal, signal.SIGKILL):
            if self._keeper.is_alive():
                self._signal(number)
                self._keeper.join(5)
        self._log.close()

    def _signal(self, number: signal.Signals) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(number)

    def _keep(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                code = self._run_once()
            except (OSError, ServiceUnavailable) as error:
                self._failure = error
                self._write(str(error))
                code = -1
            if self._stopping.is_set():
                return
            if time.monotonic() - began > SETTLED_S:
                pause_s = FIRST_PAUSE_S
            self.restarts += 1
            self._told.restarted(self.name, code, pause_s)
            self._stopping.wait(pause_s)
            pause_s = min(LONGEST_PAUSE_S, pause_s * 2)

    def _run_once(self) -> int:
        if self._prepare is not None:
            self._prepare()
        if not self._has_heart:
            return self._run(self._environment, self._pass_fds)
        pulse = self.pulse = Pulse()
        try:
            environment = {**(self._environment or os.environ), VARIABLE: str(pulse.writing)}
            return self._run(environment, (*self._pass_fds, pulse.writing), pulse.close_writing)
        finally:
            self.pulse = None
            pulse.close()

    def _run(
        self,
        environment: Mapping[str, str] | None,
        pass_fds: Sequence[int],
        on_start: Callable[[], None] = lambda: None,
    ) -> int:
        process = subprocess.Popen(
            list(self._command()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=pass_fds,
            start_new_session=True,  # Ctrl-C on the terminal is for us: we stop the others in order
            cwd="/",
        )
        on_start()
        self._process = process
        if self._stopping.is_set():  # asked to stop between the two lines above
            process.send_signal(self._stop_signal)
        assert process.stdout is not None
        reader = threading.Thread(target=self._read, args=(process.stdout,), name=f"log-{self.name}", daemon=True)
        reader.start()
        code = process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it started and left behind
        reader.join(1)  # what outlives it may hold the pipe open
        return code

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            while line := stream.readline(_LINE_BYTES):
                text = line.decode(errors="replace").rstrip("\n")
                if self._logs_json and not text.startswith("{"):
                    if not text.strip():
                        continue
                    now = datetime.now(UTC).isoformat()
                    record = {"event": "output", "text": redacted(text), "level": "info", "timestamp": now}
                    text = json.dumps(record, ensure_ascii=False)
                self._write(text)

    def _write(self, line: str) -> None:
        self.last_lines = [*self.last_lines[-49:], line]
        self._log.emit(logging.LogRecord(self.name, logging.INFO, "", 0, line, None, None))
        self._told.line(self.name, line)
