"""Whatever is wrong with the arguments or the surroundings: one sentence, the right exit code, no traceback, no secret."""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import structlog

from eioku.cli import main

DEAD = "postgresql://u:hunter22@127.0.0.1:1/x"


@pytest.fixture
def eioku(monkeypatch, capsys):
    """Runs a command in this process, without any setting of its own: (output, exit code)."""

    def run(*arguments, **variables):
        for name in [name for name in os.environ if name.startswith("EIOKU_")]:
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["eioku", *(os.fsdecode(argument) for argument in arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return "".join(capsys.readouterr()), ended.value.code or 0

    yield run
    structlog.reset_defaults()  # a command logs to the standard error of its own time


def check(done, code, *says):
    text, found = done
    assert "Traceback" not in text
    assert "hunter22" not in text
    assert found == code, text
    for words in says:
        assert words in text


@pytest.mark.parametrize("command", [["migrate"], ["events", "tail"], ["projections", "list"]])
@pytest.mark.parametrize(
    ("url", "code", "says"),
    [
        (DEAD, 4, "Postgres does not answer"),
        ("postgresql://u:hunter22@[::1/x", 2, "EIOKU_DATABASE_URL"),
        ("postgresql://u:hunter22@127.0.0.1:port/x", 4, "port"),
        ("postgresql://u:hunter22@/x?nonsense=1", 2, "nonsense"),
        ("mysql://u:hunter22@h/x", 2, "postgresql://"),
    ],
)
def test_a_database_that_cannot_be_reached(eioku, command, url, code, says):
    check(eioku(*command, EIOKU_DATABASE_URL=url), code, says)


@pytest.mark.parametrize(
    "url", ["nats://u:hunter22@[", "nats://u:hunter22@h:99999", "nats://", "nats://ok:1,nats://u:hunter22@h:port"]
)
def test_a_nats_url_that_is_none(eioku, url, tmp_path):
    done = eioku("relay", EIOKU_NATS_URL=url, EIOKU_DATABASE_URL=DEAD, EIOKU_DATA=str(tmp_path))
    check(done, 2, "EIOKU_NATS_URL")


@pytest.mark.parametrize("url", ["http://[::", "http://", "http://h:99999", "http://u:hunter22@h:port", "ftp://h"])
def test_an_api_url_that_is_none(eioku, url, tmp_path):
    check(eioku("status", EIOKU_API_URL=url, EIOKU_DATA=str(tmp_path)), 2, "EIOKU_API_URL")


class Foreign(BaseHTTPRequestHandler):
    """Some other server."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        answers = {
            "/html": (200, {"Content-Type": "text/html"}, b"<h1>Hello</h1>"),
            "/json": (200, {"Content-Type": "application/json"}, b'{"tasks": 1}'),
            "/position": (200, {"Eioku-Position": "abc"}, b"{}"),
            "/deep": (200, {"Eioku-Position": "1"}, b"[" * 200_000),
            "/404": (404, {"Content-Type": "text/html"}, b"<h1>no</h1>"),
            "/502": (502, {"Content-Type": "application/json"}, b'"bad gateway"'),
            "/list": (500, {}, b'[{"code": 1}]'),
        }
        kind = "/" + self.path.split("/")[1]
        if kind == "/short":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"{")
            self.close_connection = True
            return
        if kind == "/around":
            self.send_response(302)
            self.send_header("Location", self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        status, headers, body = answers[kind]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def foreign():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Foreign)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    "kind", ["html", "json", "position", "deep", "404", "502", "list", "short", "around"]
)
def test_a_server_that_is_not_eioku(eioku, kind, foreign, tmp_path):
    check(eioku("status", EIOKU_API_URL=f"{foreign}/{kind}", EIOKU_DATA=str(tmp_path)), 4)


@pytest.mark.parametrize("arguments", [["search", b"\xff\xfe"], ["jump", "object", b"caf\xe9"], ["ingest", b"/\xff.mp4"]])
def test_arguments_that_are_not_utf_8(eioku, arguments, foreign, tmp_path):
    done = eioku(*arguments, EIOKU_API_URL=f"{foreign}/json", EIOKU_DATA=str(tmp_path))
    check(done, 1 if arguments[0] == "ingest" else 2, "UTF-8")


@pytest.mark.parametrize("number", ["99999999999999999999", "-1", "1e3", "ten"])
def test_positions_out_of_range(eioku, number, tmp_path):
    check(eioku("events", "tail", "--from", number, EIOKU_DATABASE_URL=DEAD, EIOKU_DATA=str(tmp_path)), 2, "--from")


@pytest.mark.parametrize("where", ["check", "EIOKU_CONFIG", "EIOKU_PIPELINE_FILE"])
@pytest.mark.parametrize("what", ["deep", "dotted", "zero", "pipe", "folder", "latin", "big", "missing", "huge number"])
def test_toml_files_that_are_none(eioku, where, what, tmp_path):
    file = tmp_path / "file.toml"
    match what:
        case "deep":
            file.write_text("a=" + "[\n" * 100_000)
        case "dotted":
            file.write_text(".".join("a" * 20_000) + "=1")
        case "zero":
            file.symlink_to("/dev/zero")
        case "pipe":
            os.mkfifo(file)
        case "folder":
            file.mkdir()
        case "latin":
            file.write_bytes(b"caf\xe9 = 1")
        case "big":
            file.write_bytes(b"#" * (2 << 20))
        case "huge number":
            file.write_text("a = 0x" + "9" * 3_900 + "\nb = " + "9" * 3_900)
    data = str(tmp_path / "data")
    if where == "check":
        done = eioku("pipeline", "check", str(file), EIOKU_DATA=data)
    else:
        done = eioku("pipeline", "show", EIOKU_DATA=data, **{where: str(file)})
    check(done, 2, "file.toml")


def test_the_program_itself_says_it_in_one_sentence(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EIOKU_")}
    command = [sys.executable, "-m", "eioku", "pipeline", "check", str(tmp_path / "é.toml")]
    done = subprocess.run(command, capture_output=True, env=environment | {"PYTHONIOENCODING": "ascii"}, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("eioku: EIOKU_PIPELINE_FILE: there is no ")
    assert len(done.stderr.splitlines()) == 1
