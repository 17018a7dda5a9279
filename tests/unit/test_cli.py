"""The command line: exit codes, what goes where, sentences instead of tracebacks."""

import io
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner
from rich.console import Console as Rich

from domain.errors import (
    EiokuError,
    InvalidParameter,
    NoMatch,
    PathNotAllowed,
    ServiceUnavailable,
    WorkerDied,
)
from eioku import ingest, show
from eioku.cli import cli
from eioku.client import ApiRefused, Client
from eioku.console import Console, clock
from eioku.failures import exit_code
from eioku.ingest import File, find
from eioku.show import preview


class Api(BaseHTTPRequestHandler):
    """Answers every request with what the test put under its path, and notes it."""

    answers: dict = {}  # noqa: RUF012
    seen: list = []  # noqa: RUF012

    def handle_any(self):
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.seen.append((self.command, url.path, parse_qs(url.query), dict(self.headers), body))
        status, answer = self.answers.get(url.path, (404, {"code": "NOT_FOUND", "detail": "no such page"}))
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Eioku-Position", "41")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = handle_any

    def log_message(self, *_):
        pass


@pytest.fixture
def api():
    Api.answers, Api.seen = {}, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_help_names_every_command_and_imports_little():
    script = (
        "import atexit, sys; from eioku.cli import main; sys.argv[1:] = ['--help']\n"
        "atexit.register(lambda: print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)); main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert all(f"\n  {name} " in done.stdout for name in cli.commands)
    slow = {"asyncio", "litestar", "nats", "numpy", "psycopg", "rich", "sqlalchemy", "structlog", "torch"}
    assert not slow & set(done.stderr.split())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidParameter("EIOKU_PORT", "no"), 2),
        (PathNotAllowed("/x"), 2),
        (NoMatch(), 3),
        (ServiceUnavailable("gone"), 4),
        (WorkerDied("x"), 1),
        (ApiRefused(409, {"detail": "busy"}), 1),
    ],
)
def test_the_shell_is_told_what_kind_of_thing_went_wrong(error, code):
    assert exit_code(error) == code


def test_a_write_is_read_back_at_its_position(api):
    Api.answers["/v1/videos/1"] = (202, {"video_id": "1"})
    client = Client(api)
    client.put("/v1/videos/1", {"source": "/a"})
    client.get("/v1/videos/1", limit=None)
    (_, _, _, sent, body), (_, _, query, _, _) = Api.seen
    assert json.loads(body) == {"source": "/a"}
    assert sent["Eioku-Tenant"] == "default"
    assert query == {"min_position": ["41"], "wait_ms": ["10000"]}


def test_a_problem_is_its_sentence_and_its_code(api):
    Api.answers["/v1/videos/1"] = (422, {"code": "PATH_NOT_ALLOWED", "detail": "source: not under a root"})
    with pytest.raises(ApiRefused, match=r"^source: not under a root \(PATH_NOT_ALLOWED\)$"):
        Client(api).post("/v1/videos/1", {})


def test_nobody_there_is_said_with_the_address():
    with pytest.raises(ServiceUnavailable, match=r"nobody answers at http://127\.0\.0\.1:1"):
        Client("http://127.0.0.1:1").get("/v1/videos")


def test_a_list_is_followed_page_by_page(api):
    Api.answers["/v1/videos"] = (200, {"videos": [{"cursor": "c1"}, {"cursor": "c2"}], "has_more": True})
    pages = Client(api).pages("/v1/videos", "videos", limit=2)
    found = [next(pages)["cursor"] for _ in range(3)]
    assert found == ["c1", "c2", "c1"]
    assert Api.seen[1][2] == {"limit": ["2"], "cursor": ["c2"]}


def test_jump_prints_a_table_or_clean_json_and_tells_when_nothing_is_there(api):
    hit = {
        "video_id": "7", "video_filename": "a [b].mp4", "file_created_at": None,
        "jump_to": {"start_ms": 61_500, "end_ms": 62_000}, "preview": {"label": "dog", "confidence": 0.5},
    }  # fmt: skip
    Api.answers["/v1/jump/global"] = (200, {"results": [hit], "has_more": False})
    runner = CliRunner()
    table = runner.invoke(cli, ["jump", "object", "dog", "--prev", "--api-url", api])
    assert table.exit_code == 0
    assert "a [b].mp4" in table.stdout
    assert "1:01.500" in table.stdout
    assert Api.seen[-1][2] == {"kind": ["object"], "label": ["dog"], "direction": ["prev"], "limit": ["1"]}
    clean = runner.invoke(cli, ["jump", "transcript", "two", "words", "--json", "--api-url", api])
    assert json.loads(clean.stdout)["results"] == [hit]
    assert Api.seen[-1][2]["query"] == ["two words"]
    Api.answers["/v1/jump/global"] = (200, {"results": [], "has_more": False})
    nothing = runner.invoke(cli, ["search", "x", "--api-url", api])
    assert (nothing.exit_code, nothing.stdout, nothing.stderr) == (3, "", "Nothing found.\n")


def test_every_flag_is_a_variable_too(api):
    Api.answers["/v1/jump/global"] = (200, {"results": [], "has_more": False})
    environment = {"EIOKU_API_URL": api, "EIOKU_JUMP_LIMIT": "7", "EIOKU_JSON": "1"}
    done = CliRunner().invoke(cli, ["jump", "scene"], env=environment)
    assert json.loads(done.stdout) == {"results": [], "has_more": False}
    assert Api.seen[-1][2]["limit"] == ["7"]


def test_only_what_an_operator_must_see_comes_to_the_console(capsys):
    console = Console()
    console.line("relay", '{"event": "relay.resumed", "level": "info"}')
    console.line("relay", '{"event": "relay.interrupted", "level": "warning", "error": "[gone]", "role": "relay"}')
    console.line("postgres", "LOG:  ready")
    console.line("relay", "{no json")
    said = capsys.readouterr()
    assert said.err == "relay: relay.interrupted error=[gone]\n"
    assert said.out == ""


def test_folders_are_looked_through_and_named_files_are_taken_as_they_are(tmp_path):
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("b/z.MP4", "b/c/a.mov", "b/notes.txt", "b/.hidden.mp4", "lonely.xyz"):
        (tmp_path / name).touch()
    found = [path for path, wrong in find([tmp_path / "b", tmp_path / "lonely.xyz"], Console()) if wrong is None]
    assert found == [str(tmp_path / name) for name in ("b/c/a.mov", "b/z.MP4", "lonely.xyz")]


def test_a_model_that_is_missing_is_no_fault_of_the_file():
    assert not File(path="a", tasks=[{"status": "unavailable"}, {"status": "completed"}]).is_bad
    assert File(path="a", tasks=[{"status": "failed"}]).is_bad
    assert File(path="a", error="refused").is_bad


@pytest.mark.parametrize(
    ("ms", "shown"), [(0, "0:00.000"), (61_500, "1:01.500"), (3_600_000 + 2_003, "1:00:02.003"), (None, "")]
)
def test_times_are_shown_as_players_do(ms, shown):
    assert clock(ms) == shown


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        ({"text": " a word ", "snippet": "…"}, "a word"),
        ({"label": "dog", "confidence": 0.876}, "dog 0.88"),
        ({"latitude": 1, "city": "Paris", "state": None, "country": "France"}, "Paris, France"),
        ({"scene_index": 3}, "scene_index 3"),
    ],
)
def test_a_preview_is_a_few_words(found, shown):
    assert preview(found) == shown


def test_what_stops_many_videos_alike_is_one_row():
    model = {"task_type": "ocr", "status": "unavailable", "error": "no model", "remedy": "fetch one"}
    broken = {"task_type": "ocr", "status": "failed", "error": "no media", "remedy": None}
    tasks = [{**model, "video_id": "a"}, {**broken, "video_id": "b"}, {**model, "video_id": "c"}]
    assert show._by_reason(tasks) == [
        ("ocr", "a and 1 more", "unavailable", "no model", "fetch one"),
        ("ocr", "b", "failed", "no media", None),
    ]


def test_a_data_folder_that_cannot_be_made_is_said_in_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    command = [sys.executable, "-m", "eioku", "faces", "recluster", "--data", str(tmp_path / "file" / "data")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "eioku: the data folder" in done.stderr
    assert "--data" in done.stderr
    assert "Traceback" not in done.stderr


def test_ingest_says_how_far_it_is_where_no_bars_can_be_drawn(api, monkeypatch):
    monkeypatch.setattr(ingest, "_SAY_EVERY_S", 0)
    monkeypatch.setattr(ingest, "_ASK_EVERY_S", 0)
    running = {"task_id": "t", "task_type": "ocr", "status": "running", "progress": {"done_ms": 300, "total_ms": 1000}}
    Api.answers["/v1/tasks"] = (200, {"tasks": [running]})
    console = Console()
    console.rich = Rich(file=io.StringIO(), width=200)
    files = [File(path="/a.mp4", video_id="1", filename="a.mp4"), File(path="/b.mp4", error="refused")]
    with ingest.bars(console) as progress, pytest.raises(EiokuError, match="still not done"):
        ingest.follow(Client(api), files, progress, timeout_s=0)
    assert "0 of 1 videos done; running: ocr of a.mp4 30 %" in console.rich.file.getvalue()
