"""The real program, started as a user starts it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EIOKU = [sys.executable, "-P", "-m", "eioku"]


def processes_of(data: Path) -> dict[int, str]:
    """Processes that were started on this data folder: by their command line, folder or environment."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            about = command + (entry / "environ").read_bytes() + os.fsencode((entry / "cwd").readlink())
        except OSError:
            continue
        if os.fsencode(data) in about:
            found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace")
    return found


def eventually(what, timeout_s: float = 60):
    """Poll `what` until it is true; its last value."""
    deadline = time.monotonic() + timeout_s
    while not (found := what()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


class Program:
    """`eioku` on a data folder of its own, with no settings from outside."""

    def __init__(self, data: Path, media: Path, **settings: str) -> None:
        self.data, self.media = data, media
        outside = {name: value for name, value in os.environ.items() if not name.startswith("EIOKU_")}
        self.environment = outside | {"EIOKU_DATA": str(data), "EIOKU_PORT": "0", "EIOKU_OFFLINE": "true"} | settings

    def run(self, *arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """One command, to its end."""
        return subprocess.run(
            [*EIOKU, *arguments], env=self.environment, capture_output=True, text=True, timeout=timeout_s, cwd="/"
        )

    def up(self, *arguments: str) -> subprocess.Popen[str]:
        """`eioku up`, once it answers."""
        process = subprocess.Popen(
            [*EIOKU, "up", "--media", str(self.media), *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
        )
        is_up = eventually(lambda: (self.data / "run/eioku.json").exists() or process.poll() is not None, 120)
        assert is_up, "did not come up in two minutes"
        if process.poll() is not None:
            pytest.fail(process.communicate()[0])
        return process

    @property
    def url(self) -> str:
        """Of the running API."""
        return json.loads((self.data / "run/eioku.json").read_text())["api_url"]

    def processes(self) -> dict[int, str]:
        """What runs on the data folder."""
        return processes_of(self.data)


def stopped(process: subprocess.Popen[str], number: signal.Signals, timeout_s: float = 90) -> tuple[int, str]:
    """Send a signal; the exit code and what it had said."""
    process.send_signal(number)
    said, _ = process.communicate(timeout=timeout_s)
    return process.returncode, said


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """The program on an empty data folder; nothing of it is left running after the test."""
    media = tmp_path / "media"
    media.mkdir()
    found = Program(tmp_path / "data", media)
    yield found
    for pid in found.processes():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
