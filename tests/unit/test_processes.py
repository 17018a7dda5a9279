"""Programs that are kept running: restarted with growing pauses, stopped for sure, logged whole."""

import os
import select
import signal
import sys
import threading

import pytest

from domain.errors import ServiceUnavailable
from eioku import processes
from eioku.embedded import child_command
from eioku.processes import Program


class Heard:
    def __init__(self):
        self.lines, self.pauses = [], []
        self.news = threading.Condition()

    def line(self, program, text):
        with self.news:
            self.lines.append(text)
            self.news.notify_all()

    def restarted(self, program, code, pause_s):
        with self.news:
            self.pauses.append((code, pause_s))
            self.news.notify_all()

    def until(self, condition):
        with self.news:
            assert self.news.wait_for(condition, 30), (self.lines, self.pauses)


def python(code: str) -> list[str]:
    return child_command([sys.executable, "-c", code], signal.SIGTERM)


@pytest.fixture
def start(tmp_path):
    started = []

    def start_one(code, heard, **more):
        program = Program("one", lambda: python(code), logs=tmp_path / "logs", told=heard, **more)
        started.append(program)
        program.start()
        return program

    yield start_one
    for program in started:
        program.stop(5)


def test_what_ends_by_itself_is_started_again_after_longer_and_longer_pauses(start, monkeypatch):
    monkeypatch.setattr(processes, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(processes, "LONGEST_PAUSE_S", 0.04)
    heard = Heard()
    start("raise SystemExit(3)", heard)
    heard.until(lambda: len(heard.pauses) >= 4)
    assert heard.pauses[:4] == [(3, 0.01), (3, 0.02), (3, 0.04), (3, 0.04)]


def test_what_was_asked_to_stop_is_not_started_again(start):
    heard = Heard()
    program = start("import time; print('up', flush=True); time.sleep(60)", heard)
    heard.until(lambda: heard.lines == ["up"])
    program.stop(10)
    assert program.pid is None
    assert heard.pauses == []


def test_what_does_not_listen_is_ended_with_all_that_it_started(start):
    heard = Heard()
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import signal, time; signal.signal(15, signal.SIG_IGN);"
        " print(\"inner\", flush=True); time.sleep(60)'])\n"
        "print(inner.pid, flush=True)\ntime.sleep(60)\n"
    )
    program = start(code, heard)
    heard.until(lambda: len(heard.lines) == 2)
    inner = int(next(line for line in heard.lines if line != "inner"))
    handle = os.pidfd_open(inner)
    program.stop(0.2)
    assert program.pid is None
    assert heard.pauses == []
    ended, _, _ = select.select([handle], [], [], 10)
    os.close(handle)
    assert ended


def test_every_line_is_in_the_log_file_and_the_child_is_private(start, tmp_path):
    heard = Heard()
    program = start("import os; print('100 %s ünï'); print(oct(os.umask(0)), flush=True); input()", heard)
    heard.until(lambda: len(heard.lines) >= 2)
    program.stop(5)
    assert (tmp_path / "logs" / "one.log").read_text().splitlines()[:2] == ["100 %s ünï", "0o77"]


def test_a_program_that_does_not_come_up_is_told_with_its_last_words(start, monkeypatch):
    monkeypatch.setattr(processes, "FIRST_PAUSE_S", 0.01)
    program = start("print('no room on device', flush=True); raise SystemExit(1)", Heard())
    with pytest.raises(ServiceUnavailable, match="no room on device"):
        program.wait_ready(lambda: False, 30)


def test_what_cannot_be_prepared_is_told_as_it_is(start):
    def prepare():
        raise ServiceUnavailable("made by Postgres 14")

    program = start("", Heard(), prepare=prepare)
    with pytest.raises(ServiceUnavailable, match="made by Postgres 14"):
        program.wait_ready(lambda: False, 30)
