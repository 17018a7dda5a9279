"""Roles that hang are found and replaced, slow ones are left alone, and nothing that hangs holds up the end."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from eioku import supervisor
from eioku.embedded import child_command
from eioku.liveness import FIRST_BEAT, MISSES, Watch
from eioku.processes import Program
from eioku.settings import load

BEATS = """
import asyncio, re, sys, threading, time
from eioku.liveness import Heart
heart = Heart()
"""
HANGS = {
    "a pattern on a main thread": BEATS + "heart.beat(); re.match('(a|a)*b', 'a' * 60)",
    "an event loop": BEATS
    + """
async def main():
    beating = asyncio.create_task(heart.keep_beating())
    await asyncio.sleep(0.1)
    while True: pass
asyncio.run(main())""",
    "a pattern on another thread": BEATS
    + """
threading.Thread(target=re.match, args=('(a|a)*b', 'a' * 60)).start()
asyncio.run(heart.keep_beating())""",
    "it was stopped": BEATS + "import os, signal; heart.beat(); os.kill(os.getpid(), signal.SIGSTOP)",
}


class Told:
    def __init__(self):
        self.ended = threading.Event()

    def line(self, program, text):
        pass

    def restarted(self, program, code, pause_s):
        self.ended.set()


@pytest.fixture
def start(tmp_path):
    started = []

    def start_one(code, told):
        command = child_command([sys.executable, "-c", code], signal.SIGTERM)
        program = Program("one", lambda: command, logs=tmp_path / "logs", told=told, has_heart=True)
        started.append(program)
        program.start()
        return program

    yield start_one
    for program in started:
        program.stop(0.1)


@pytest.mark.parametrize("hang", HANGS)
def test_a_hung_process_is_found_and_replaced(start, hang):
    told, watch = Told(), Watch()
    program = start(HANGS[hang], told)
    looks = 0
    while not watch.finds_hung(program.pulse):
        looks += 1
        time.sleep(0.5)  # a tenth of what the tree takes
        assert looks < FIRST_BEAT + MISSES
    assert looks >= MISSES - 1
    first = program.pid
    program.restart()
    assert told.ended.wait(30)
    end = time.monotonic() + 30
    while program.pid in (None, first):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_slow_process_is_left_alone(start):
    program = start(BEATS + "\nwhile True:\n    heart.beat(); time.sleep(2)", Told())
    watch = Watch()
    assert not any(watch.finds_hung(program.pulse) or time.sleep(0.5) for _ in range(3 * MISSES))


def test_one_that_moves_but_does_not_answer_is_hung_too():
    class Moves:
        has_begun = True

        def has_moved(self):
            return True

    moves, answers = Moves(), iter([False] * (MISSES - 1) + [True] + [False] * MISSES)
    watch = Watch(lambda: next(answers))
    found = [watch.finds_hung(moves) for _ in range(2 * MISSES)]
    assert found == [False] * (2 * MISSES - 1) + [True], "one answer begins the count anew"


def test_the_tree_replaces_each_hung_role_and_ends_with_one(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "_CHECK_EVERY_S", 0.8)
    settings = load({}, data=tmp_path / "data", port=0, workers="light", media_roots=[str(tmp_path)])
    told = Told()
    with supervisor.Tree(settings, told) as tree:
        roles = {program.name: program for program, _ in tree._roles}
        assert {"api", "relay", "ingester", "projector", "worker-light"} <= roles.keys()
        end = time.monotonic() + 60
        while not all(program.pulse and program.pulse.has_begun for program in roles.values()):
            assert time.monotonic() < end
            time.sleep(0.1)
        before = {name: program.pid for name, program in roles.items()}
        for pid in before.values():
            os.kill(pid, signal.SIGSTOP)
        end = time.monotonic() + 120
        for name, program in roles.items():
            while program.pid in (None, before[name]) or not program.pulse or not program.pulse.has_begun:
                assert time.monotonic() < end, f"{name} was not replaced"
                time.sleep(0.1)
        while not supervisor._answers(f"{tree.api_url}/health/live"):
            assert time.monotonic() < end
            time.sleep(0.1)
        os.kill(roles["relay"].pid, signal.SIGSTOP)
        hung = Path(f"/proc/{roles['relay'].pid}")
        began = time.monotonic()
        tree._stop_roles(list(roles.values()))
        took_s = time.monotonic() - began
        assert not hung.exists()
    # Not 25 s, as for one that still does something.
    assert took_s < supervisor._STOP_ROLES_S, took_s
