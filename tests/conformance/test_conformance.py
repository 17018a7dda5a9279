"""The conformance suite, and the cases that we added to it, against real servers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from eioku.settings import Settings
from eioku.supervisor import Tree
from tests.support.api_server import api_process

HERE = Path(__file__).resolve().parent
CASES = (HERE / "cases.jsonl", HERE / "more" / "cases.jsonl")

pytestmark = pytest.mark.slow


class Printed:
    """Told what the program's parts say; pytest shows it when the test fails."""

    def line(self, program, text):
        print(program, text)

    def restarted(self, program, code, pause_s):
        print(program, "ended with", code, "and starts again in", pause_s)


def results_of(base_url: str, folder: Path, *options: object) -> dict[str, str]:
    """Case id → passed or skipped; fails the test when a case does."""
    result = folder / "result.json"
    places = ["--base-url", base_url, "--media-root", folder / "media", "--json", result]
    done = subprocess.run(
        [sys.executable, HERE / "run.py", *places, "--cases", *CASES, *options],
        check=False,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {r["id"]: r["result"] for r in json.loads(result.read_text())}


def needs(kind: str) -> set[str]:
    """Ids of the cases marked so."""
    cases = [json.loads(line) for path in CASES for line in path.read_text().splitlines()]
    assert len({case["id"] for case in cases}) == len(cases)
    return {case["id"] for case in cases if case.get("needs") == kind}


def test_every_case_passes_without_workers(database, tmp_path):
    with api_process(database, tmp_path) as url:
        results = results_of(url, tmp_path)
    assert {case for case, result in results.items() if result == "skipped"} == needs("worker")
    assert sum(result == "passed" for result in results.values()) > 800


def test_cases_that_need_workers_pass_with_the_whole_program(database, tmp_path):
    settings = Settings(
        data=tmp_path / "data",
        database_url=database,
        port=0,
        workers="light,asr",
        media_roots=(str(tmp_path),),
        offline=True,
    )
    wanted = needs("worker")
    with Tree(settings, Printed()) as tree:
        results = results_of(tree.api_url, tmp_path, "--with-worker-states", "--filter", *sorted(wanted))
    assert {case: results[case] for case in wanted} == dict.fromkeys(wanted, "passed")
