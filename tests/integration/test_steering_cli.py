"""The commands that steer work, against a real API: what they print and what they do."""

import json
import uuid

import pytest
from click.testing import CliRunner

from application.handle import handle
from domain import video
from domain.errors import InvalidParameter
from domain.video import FileFacts
from eioku.cli import cli
from infrastructure.event_store.log import PostgresEventLog
from tests.support.pipeline import meta
from tests.support.tiny_avi import tiny_avi


@pytest.fixture
def invoke(api_url):
    def run(*arguments: str, **more):
        return CliRunner().invoke(cli, [*arguments, "--api-url", api_url], **more)

    return run


@pytest.fixture
def name(api, api_database, api_folder) -> str:
    """The filename of a video of a minute, in the tenant that the command line asks for."""
    api.headers["Eioku-Tenant"] = "default"
    name = f"{uuid.uuid4().hex}.avi"
    body = {"source": str(tiny_avi(api_folder / name)), "pipeline": []}
    video_id = uuid.UUID(api.post("/v1/videos", json=body).json()["video_id"])
    facts = FileFacts(duration_ms=60_000, container="avi", has_video=True, has_audio=False)
    with PostgresEventLog(api_database) as log:
        api.position = handle(log, video.RecordProbe(stream_id=video_id, meta=meta(), facts=facts))
    api.get("/v1/videos").raise_for_status()
    return name


def test_a_re_run_counts_asks_back_and_asks_once(invoke, name):
    rerun = ("rerun", "--task", "ocr", "--where", f"missing and filename~{name}")
    dry = invoke(*rerun, "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert "1 videos fit" in dry.output
    assert "1 tasks ocr (balanced), 1 min 00 s of media" in dry.output
    assert "not known: no such task was measured yet" in dry.output
    assert "nothing is deleted" in dry.output
    assert invoke(*rerun, input="n\n").exit_code == 1
    assert "1 tasks asked for" in invoke(*rerun, "--yes").output
    again = json.loads(invoke(*rerun, "--json").stdout)
    assert (again["tasks"], again["asked"], again["scope"]["already_asked"]) == (0, [], 1)
    with pytest.raises(InvalidParameter, match="EIOKU_RERUN_CONFIG: 'x' is no JSON"):
        invoke(*rerun, "--config", "x", catch_exceptions=False)


def test_queues_are_listed_paused_and_resumed(invoke, name):
    held = invoke("queue", "pause", "place_detection", "--class", "bulk", "--reason", "night only")
    try:
        assert held.exit_code == 0, held.output
        (line,) = [line for line in held.output.splitlines() if line.startswith("place_detection")]
        assert "bulk: night only" in line
        told = json.loads(invoke("queue", "list", "--json").stdout)
        paused = [(q["task_type"], c["priority"]) for q in told["queues"] for c in q["classes"] if c["paused"]]
        assert paused == [("place_detection", "bulk")]
    finally:
        freed = invoke("queue", "resume", "all")
    assert freed.exit_code == 0
    assert "night only" not in freed.output
