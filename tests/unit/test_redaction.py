"""Secrets in texts, and how processes log."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrastructure.redaction import redacted, remember

PASSWORD = st.text(st.characters(codec="ascii", min_codepoint=33, exclude_characters="/?#\"'<>@*:,;&="), min_size=1)


@given(PASSWORD, st.sampled_from(["postgresql", "nats", "tls", "https", "s3"]), st.sampled_from(["h", "[::1]", "["]))
def test_no_password_of_a_url_is_left(password, scheme, host):
    text = redacted(f"cannot connect to {scheme}://admin:~~{password}~~@{host}:1/x, try again")
    assert f"~~{password}~~" not in text
    assert text.startswith(f"cannot connect to {scheme}://admin:***@{host}:1/x")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nats://s3cr3ttoken@host:4222", "nats://***@host:4222"),
        ("nats://a:b@h1,nats://c:d@h2", "nats://a:***@h1,nats://c:***@h2"),
        ("postgresql://u:p@ss@h/db", "postgresql://u:***@h/db"),
        ("postgresql:///eioku?host=/run&password=hush", "postgresql:///eioku?host=/run&password=***"),
        ("host=h password=hush dbname=x", "host=h password=*** dbname=x"),
        ("https://host/film@2x.mp4", "https://host/film@2x.mp4"),
        ("mail me@example.com", "mail me@example.com"),
        ("", ""),
    ],
)
def test_what_is_hidden_and_what_is_not(text, shown):
    assert redacted(text) == shown


def test_a_password_that_is_known_is_hidden_without_its_url():
    remember("postgresql://u:cl%C3%A9-du-jour@h/x")
    assert redacted("invalid port 'clé-du-jour@h' or cl%C3%A9-du-jour") == "invalid port '***@h' or ***"


def test_the_worst_text_takes_no_time():
    for worst in ("://" * 300_000, "a://" + "x:" * 400_000, "password=" * 100_000, "://u:" + "@" * 900_000):
        redacted(worst)  # quadratic work would not end


SCRIPT = """
import asyncio, logging, sys, threading, warnings
from infrastructure.logs import LogStyle, configure, log_loop_errors
configure(LogStyle("tester", is_json={is_json}))
import structlog
log = structlog.get_logger()
def work(secret="LOCAL-VARIABLE"):
    raise ValueError("first\\nsecond line postgresql://u:hunter22@h/x")
log.info("plain", url="nats://u:hunter22@h", nested={{"urls": ["nats://u:hunter22@h"]}}, lines="a\\nb")
try:
    work()
except ValueError:
    log.exception("caught")
    logging.getLogger("lib").exception("library %s", "postgresql://u:hunter22@h/x")
warnings.warn("a warning")
thread = threading.Thread(target=work, name="t1"); thread.start(); thread.join()
class Bad:
    def __del__(self): work()
bad = Bad(); del bad
async def main():
    log_loop_errors(asyncio.get_running_loop())
    asyncio.get_running_loop().call_soon(work)
    await asyncio.sleep(0.01)
asyncio.run(main())
log.info("long", text="x" * 1_000_000)
work()
"""


def run(*, is_json):
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(is_json=is_json)], capture_output=True, text=True)
    assert done.stdout == ""
    return done


def test_each_event_is_one_json_line_whatever_happens():
    done = run(is_json=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"].split("\n")[0] for line in lines if line.get("logger") != "py.warnings"] == [
        "plain", "caught", "library postgresql://u:***@h/x", "<string>:15: UserWarning: a warning", "thread.crashed",
        "error.ignored", "loop.error", "long", "program.crashed",
    ]  # fmt: skip
    assert all(line["role"] == "tester" and line["level"] and line["timestamp"] for line in lines)
    assert lines[0]["nested"] == {"urls": ["nats://u:***@h"]}
    assert sum("ValueError" in line.get("exception", "") for line in lines) == 6
    assert len(done.stderr) < 60_000
    assert done.returncode == 1


@pytest.mark.parametrize("is_json", [True, False])
def test_no_line_has_a_secret_or_a_local_variable(is_json):
    text = run(is_json=is_json).stderr
    assert "hunter22" not in text
    # The source line of the function is in no traceback frame, so its value could only come from the frame itself.
    assert "LOCAL-VARIABLE" not in text
