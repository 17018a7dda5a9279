"""What a worker's message must be before anybody acts on it."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from application.message_checks import MOST_NAME, MOST_TEXT, check, cleaned, cleaned_text
from application.messages import Announced, Fault, Postponed, Unavailable
from domain.errors import InvalidMessage
from domain.run import ModelIdentity
from domain.video import FileFacts
from tests.support.given import AT
from tests.support.results import Attempt

NOW = AT + timedelta(hours=1)
ATTEMPT = Attempt(uuid4())
FACTS = FileFacts(duration_ms=1, container="mp4", has_video=True, has_audio=False, frame_rate=25.0)
ANNOUNCED = Announced(
    tenant_id="default", run_id=uuid4(), correlation_id=uuid4(), at=AT, worker="w", family="light", task_types=("ocr",), digest="d"
)
RIGHT: list[Any] = [
    *ATTEMPT.whole([2]),
    ATTEMPT.failed("INTERNAL", "two\nlines\tand a tab"),
    ATTEMPT.completed(blake3="f" * 64, size_bytes=2**40, facts=FACTS, metrics={"seconds": 0.5}),
    Unavailable(**ATTEMPT.head, missing="m", remedy="r"),
    ANNOUNCED,
]


@pytest.mark.parametrize("message", RIGHT, ids=lambda each: type(each).__name__)
def test_what_workers_say_passes(message):
    check(message, NOW)


STARTED, COMPLETED, FAILED = ATTEMPT.started(), ATTEMPT.completed(), ATTEMPT.failed()
DEEP: Any = "x"
for _ in range(40):
    DEEP = [DEEP]
WRONG = [
    (STARTED, {"worker": "w\0"}, "worker"),
    (STARTED, {"worker": "w\n"}, "worker"),
    (STARTED, {"worker": "w" * (MOST_NAME + 1)}, "worker"),
    (STARTED, {"device": "cuda\x1b[31m"}, "device"),
    (STARTED, {"producer": "\x7f"}, "producer"),
    (STARTED, {"tenant_id": "a\0b"}, "tenant_id"),
    (STARTED, {"artifact_types": ("scene", "no such")}, "no such"),
    (STARTED, {"artifact_types": ("scene",) * 20_000}, "artifact_types"),
    (STARTED, {"model": ModelIdentity(name="m\0")}, "model.name"),
    (STARTED, {"config": {"a": ["b\0"]}}, "config"),
    (STARTED, {"config": {"a\0": 1}}, "config"),
    (STARTED, {"config": {"a": DEEP}}, "config"),
    (STARTED, {"delivery": 0}, "delivery"),
    (STARTED, {"delivery": 2}, "run_id"),
    (STARTED, {"request_version": -1}, "request_version"),
    (STARTED, {"request_version": 2**40}, "request_version"),
    (STARTED, {"task_id": UUID(int=1)}, "run_id"),
    (STARTED, {"run_id": UUID(int=1)}, "run_id"),
    (STARTED, {"at": NOW + timedelta(days=2)}, "clock"),
    (STARTED, {"at": datetime(1970, 1, 1, tzinfo=UTC)}, "clock"),
    (STARTED, {"at": datetime(9999, 12, 31, 23, 59, tzinfo=UTC)}, "at"),
    (STARTED, {"at": AT.replace(tzinfo=None)}, "time zone"),
    (COMPLETED, {"counts": {"object.detection": -1}}, "counts"),
    (COMPLETED, {"counts": {"object.detection": 2**31}}, "counts"),
    (COMPLETED, {"counts": {"a\0": 1}}, "counts"),
    (COMPLETED, {"metrics": {"seconds": float("nan")}}, "metrics.seconds"),
    (COMPLETED, {"metrics": {"seconds": float("-inf")}}, "metrics.seconds"),
    (COMPLETED, {"size_bytes": -1}, "size_bytes"),
    (COMPLETED, {"size_bytes": 2**63}, "size_bytes"),
    (COMPLETED, {"blake3": "f\0"}, "blake3"),
    (COMPLETED, {"facts": msgspec.structs.replace(FACTS, duration_ms=-1)}, "facts.duration_ms"),
    (COMPLETED, {"facts": msgspec.structs.replace(FACTS, duration_ms=2**31)}, "facts.duration_ms"),
    (COMPLETED, {"facts": msgspec.structs.replace(FACTS, width=2**40)}, "facts.width"),
    (COMPLETED, {"facts": msgspec.structs.replace(FACTS, frame_rate=float("inf"))}, "facts.frame_rate"),
    (COMPLETED, {"facts": msgspec.structs.replace(FACTS, file_created_at=AT.replace(tzinfo=None))}, "facts.file_created_at"),
    (COMPLETED, {"facts": msgspec.structs.replace(FACTS, file_created_at=AT.replace(year=9999))}, "facts.file_created_at"),
    (FAILED, {"error": "a\0b"}, "error"),
    (FAILED, {"error": "x" * (MOST_TEXT + 1)}, "error"),
    (FAILED, {"code": "A\nB"}, "code"),
    (COMPLETED, {"flaw": Fault(code="A", error="\0")}, "flaw.error"),
    (ANNOUNCED, {"family": "/films/a.mp4"}, "family"),
    (ANNOUNCED, {"task_types": ("a\0",)}, "task_types"),
]  # fmt: skip


@pytest.mark.parametrize(("message", "changed", "named"), WRONG, ids=[f"{n} {c!r:.60}" for _, c, n in WRONG])
def test_what_no_worker_says_is_refused_and_named(message, changed, named):
    with pytest.raises(InvalidMessage, match=named):
        check(msgspec.structs.replace(message, **changed), NOW)


@given(st.text() | st.text(st.characters(categories=["Cc", "Cs", "Co"])))
def test_any_error_of_a_library_can_be_told(text):
    fault = Fault(code="INTERNAL", error=text, remedy=text)
    postponed = Postponed(**ATTEMPT.head, fault=fault, is_unexplained=True, next_try_at=AT)
    for message in (msgspec.structs.replace(FAILED, error=text, remedy=text), postponed):
        told = cleaned(message)
        check(told, NOW)
        assert msgspec.json.decode(msgspec.json.encode(told), type=type(told)) == told


def test_a_text_that_can_be_told_is_told_as_it_is():
    assert cleaned_text("no such file: 'Zoë 日本.mp4'\n\tat line 3") == "no such file: 'Zoë 日本.mp4'\n\tat line 3"
    assert cleaned_text("a\x1b[31mb\udcff") == "a\N{REPLACEMENT CHARACTER}[31mb\\udcff"
    assert len(cleaned_text("x" * 10**6)) == MOST_TEXT
