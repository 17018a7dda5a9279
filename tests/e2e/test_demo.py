"""`make demo`, as it is: films, everything started, indexed, asked, every answer right."""

import signal

import pytest

from tests.e2e.conftest import Program, eventually, stopped

pytestmark = pytest.mark.slow


def test_without_detector_weights_labels_are_the_films_own_and_said_so(tmp_path):
    program = Program(tmp_path / "data", tmp_path)
    done = program.run("demo", "--data", str(tmp_path / "demo"), timeout_s=600)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 0, said
    assert "All 9 answers right" in said
    assert "WRONG" not in said
    assert said.count("object_detection unavailable") == 2
    assert "film ground truth" in said
    assert "EIOKU_DETECTOR_WEIGHTS" in said
    assert "/docs" in said
    assert program_is_gone(tmp_path / "demo")

    # Again on the same folder: what was done is found, nothing is done twice.
    again = program.run("demo", "--data", str(tmp_path / "demo"), timeout_s=600)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "All 9 answers right" in again.stderr


@pytest.mark.ml_torch
def test_with_detector_weights_labels_are_detected(tmp_path, shared_media):
    weights = shared_media / "models" / "yolov8n_fiq.tflite"
    program = Program(tmp_path / "data", tmp_path, EIOKU_DETECTOR_WEIGHTS=str(weights))
    done = program.run("demo", "--data", str(tmp_path / "demo"), timeout_s=600)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 0, said
    assert "All 9 answers right" in said
    assert said.count("object_detection completed") == 2
    assert "ground truth" not in said


def test_ones_own_file_is_indexed_and_left_running_if_wished(tmp_path, street):
    import subprocess

    from tests.e2e.conftest import EIOKU

    program = Program(tmp_path / "data", tmp_path)
    film = street
    process = subprocess.Popen(
        [*EIOKU, "demo", "--video", str(film), "--keep", "--data", str(tmp_path / "demo")],
        env=program.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/",
    )  # fmt: skip
    said = ""
    for line in process.stdout:
        said += line
        if "Ctrl-C" in line:
            break
    assert "API: http://127.0.0.1:" in said
    code, rest = stopped(process, signal.SIGINT)
    assert code == 0, said + rest
    assert program_is_gone(tmp_path / "demo")


def program_is_gone(data):
    """Whether nothing runs on the folder any more."""
    from tests.e2e.conftest import processes_of

    return eventually(lambda: not processes_of(data), 10) and data.is_dir()
