"""One `eioku ingest` of one film, and everything that people search for is there."""

import json
import signal

import pytest

from eioku.demo_film import INNSBRUCK, make_film
from tests.e2e.conftest import stopped

pytestmark = [pytest.mark.slow, pytest.mark.ml_torch]
SAMPLED_MS = 1_000


def test_one_ingest_fills_every_kind_that_people_search_for(program, shared_media):
    models = shared_media / "models"
    program.environment |= {
        "EIOKU_DETECTOR_WEIGHTS": str(models / "yolov8n_fiq.tflite"),
        "EIOKU_FACE_DETECTOR": str(models / "face_detection_yunet_2026may.onnx"),
    }
    truth = make_film(INNSBRUCK, program.media / "innsbruck.mp4").truth
    process = program.up()
    done = program.run("ingest", str(program.media), "--json", timeout_s=280)
    assert done.returncode == 0, done.stderr
    (file,) = json.loads(done.stdout)
    # Nobody packages weights for places, or a model that knows both pictures and words.
    without = {task["task_type"] for task in file["tasks"] if task["status"] != "completed"}
    assert without <= {"place_detection", "frame_embedding"}, file["tasks"]

    def jump(*what: str) -> tuple[int, int]:
        """Span of the first hit in the library, which is the film."""
        found = program.run("jump", *what, "--json")
        assert found.returncode == 0, (what, found.stdout, found.stderr)
        (hit,) = json.loads(found.stdout)["results"]
        assert hit["video_id"] == file["video_id"]
        return hit["jump_to"]["start_ms"], hit["jump_to"]["end_ms"]

    word = next(word for word in truth.words if word.word == "museum")
    start, end = jump("transcript", "museum")
    assert start - 400 <= word.start_ms <= word.end_ms <= end + 400
    card = next(card for card in truth.cards if card.text == "PLATFORM 9")
    assert jump("ocr", "platform") == pytest.approx((card.start_ms, card.end_ms), abs=300)
    bus = next(thing.at_ms for thing in truth.objects if thing.label == "bus")
    assert jump("object", "bus")[0] == pytest.approx(bus, abs=SAMPLED_MS)
    zidane = truth.cards[0].end_ms
    assert jump("face")[0] == pytest.approx(zidane, abs=SAMPLED_MS)
    assert jump("scene") == pytest.approx((0, truth.cuts_ms[0]), abs=40)
    assert jump("location", "Innsbruck")[0] == 0
    assert stopped(process, signal.SIGINT)[0] == 0
