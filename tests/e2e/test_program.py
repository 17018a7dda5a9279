"""The program as a whole: one tree, one Ctrl-C; files good and bad; what it prints."""

import json
import os
import shutil
import signal
import urllib.request
from pathlib import Path

import pytest

from eioku.demo_film import PARIS, make_film
from tests.e2e.conftest import eventually, stopped
from workers import PRODUCERS

pytestmark = pytest.mark.slow


LIGHT = ("--pipeline", "scene_detection")
"""What the light worker alone can end."""


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    return make_film(PARIS, tmp_path_factory.mktemp("film") / "paris.mp4").path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_the_whole_tree_ends_with_its_root(program, number):
    process = program.up("--workers", "light", "--api-processes", "2")
    names = " ".join(program.processes().values())
    for role in ("eioku api", "eioku relay", "eioku ingester", "eioku projector", "eioku worker", "nats-server", "postgres"):
        assert role in names
    code, said = stopped(process, number)
    assert code == (-signal.SIGKILL if number is signal.SIGKILL else 0), said
    assert eventually(lambda: not program.processes(), 45), program.processes()


def test_a_second_one_on_the_data_folder_is_refused_and_the_next_finds_everything(program, film):
    shutil.copy(film, program.media)
    process = program.up("--workers", "light")
    refused = program.run("up")
    assert refused.returncode == 4
    assert f"another eioku is running on {program.data}" in refused.stderr
    ingested = program.run("ingest", str(program.media), "--no-wait", "--json", *LIGHT)
    assert ingested.returncode == 0, ingested.stderr
    (file,) = json.loads(ingested.stdout)
    assert eventually(lambda: "Paris" in program.run("search", "Paris", "--json").stdout)
    before = json.loads(program.run("jump", "scene", "--limit", "50", "--json").stdout)
    assert len(before["results"]) == 6
    assert stopped(process, signal.SIGTERM)[0] == 0

    process = program.up("--workers", "none")
    assert json.loads(program.run("jump", "scene", "--limit", "50", "--json").stdout)["results"] == before["results"]
    with urllib.request.urlopen(f"{program.url}/v1/videos/{file['video_id']}") as answer:
        assert answer.status == 200
    assert stopped(process, signal.SIGINT)[0] == 0


def test_a_killed_role_is_started_again_and_goes_on(program, film):
    shutil.copy(film, program.media)
    process = program.up("--workers", "light")
    for role in ("eioku relay", "eioku ingester", "eioku projector", "eioku worker", "eioku api"):
        for pid, command in program.processes().items():
            if f"{role} " in command + " " and "child.py" not in command:
                os.kill(pid, signal.SIGKILL)
    done = eventually(lambda: (r := program.run("ingest", str(program.media), "--json", *LIGHT)).returncode == 0 and r, 90)
    assert done, "the API did not come back"
    (file,) = json.loads(done.stdout)
    states = {task["task_type"]: task["status"] for task in file["tasks"]}
    assert states["metadata_extraction"] == states["scene_detection"] == "completed"
    code, said = stopped(process, signal.SIGINT)
    assert code == 0
    assert "starting it again" in said


def test_one_bad_file_never_stops_a_folder(program, film):
    """Nothing runs: `ingest` starts everything for as long as it takes."""
    shutil.copy(film, program.media / "good film 'quoted' – ünï.mp4")
    nested = program.media / "deeper" / "still"
    nested.mkdir(parents=True)
    shutil.copy(film, nested / "COPY.MP4")
    (program.media / "empty.mp4").touch()
    (program.media / "words.mp4").write_text("this is no film")
    (program.media / "broken.mp4").write_bytes(film.read_bytes()[:2_000])
    (program.media / "notes.txt").write_text("no video by its name")
    program.environment["EIOKU_WORKERS"] = "light"
    missing = str(program.media / "missing.mp4")
    done = program.run("ingest", str(program.media), missing, "--json", *LIGHT, timeout_s=240)
    files = {Path(file["path"]).name: file for file in json.loads(done.stdout)}
    assert done.returncode == 1, done.stderr
    assert set(files) == {"good film 'quoted' – ünï.mp4", "COPY.MP4", "empty.mp4", "words.mp4", "broken.mp4", "missing.mp4"}
    assert "No such file" in files["missing.mp4"]["error"]
    for name in ("empty.mp4", "words.mp4", "broken.mp4"):
        (task,) = files[name]["tasks"]
        assert (task["status"], task["code"]) == ("failed", "MEDIA_UNREADABLE"), (name, task)
        assert task["error"]
    twins = [files["COPY.MP4"], files["good film 'quoted' – ünï.mp4"]]
    assert sorted(file["status"] for file in twins) == ["duplicate", "ready"]
    assert eventually(lambda: not program.processes(), 20)


def test_upkeep_works_whether_or_not_something_runs(program, film):
    shutil.copy(film, program.media)
    process = program.up("--workers", "light")
    assert program.run("ingest", str(program.media), *LIGHT).returncode == 0
    status = json.loads(program.run("status", "--json").stdout)
    assert status["videos"] == "1"
    assert status["tasks"]["completed"] == 2
    running = program.run("projections", "rebuild", "--all")
    assert running.returncode == 0, running.stdout + running.stderr
    assert stopped(process, signal.SIGINT)[0] == 0

    listed = json.loads(program.run("projections", "list", "--json").stdout)
    assert {one["name"] for one in listed} >= {"videos", "tasks", "scene_ranges"}
    assert all(one["lag"] == 0 and one["parked"] == 0 for one in listed)
    events = [json.loads(line) for line in program.run("events", "tail", "--from", "0", "--json").stdout.splitlines()]
    assert [event["topic"] for event in events if event["topic"].startswith("video.")][:1] == ["video.registered"]
    assert any(event["topic"] == "artifact.produced" and event["data"]["artifacts"] for event in events)
    assert "task.completed" in program.run("events", "tail").stdout
    assert program.run("projections", "parked").returncode == 0
    nobody = program.run("status")
    assert nobody.returncode == 4
    assert "start `eioku up`" in nobody.stderr
    assert program.processes() == {}


def test_the_doctor_looks_and_changes_nothing(program):
    done = program.run("doctor", "--json", "--no-load")
    told = json.loads(done.stdout)
    findings = told["findings"]
    assert {one["task_type"] for one in told["producers"]} == {kind.task_type for kind in PRODUCERS}
    assert {(one["loads"], one["reason"]) for one in told["producers"]} == {(None, "not tried")}
    assert {"python", "disk", "cv2", "postgres", "nats", "transcription balanced"} <= {f["topic"] for f in findings}
    assert all(finding["remedy"] for finding in findings if finding["level"] == "problem")
    assert not program.data.exists()
    program.environment["EIOKU_MEDIA_ROOT"] = "/typo"
    typo = program.run("doctor", "--no-load")
    assert typo.returncode == 1
    assert "EIOKU_MEDIA_ROOTS" in typo.stdout


def test_a_wrong_setting_stops_the_start_with_its_name(program):
    program.environment["EIOKU_DEVICE"] = "tpu"
    done = program.run("up")
    assert done.returncode == 2
    assert done.stderr.strip() == "eioku: EIOKU_DEVICE: Invalid enum value 'tpu'; it takes auto or cpu or cuda"


def test_a_taken_port_is_told_in_a_sentence(program):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = program.run("up", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 4
    assert "choose another with --port" in done.stderr
    assert "Traceback" not in done.stderr
    assert program.processes() == {}


