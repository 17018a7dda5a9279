"""Whatever comes as a worker's result, the ingester lives, and right results go on into the log."""

import asyncio
import functools
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from application.handle import present
from application.ingest_results import apply_result
from application.messages import Announced
from domain import task
from domain.errors import InvalidMessage
from eioku.parking import MOST_RESULTS, park_result
from infrastructure.nats import progress
from infrastructure.nats.cancel import Cancellations
from infrastructure.nats.commands import pending_runs
from infrastructure.nats.results import MAX_UNPACKED_BYTES, Refused, decode, encode, ingest, send
from infrastructure.nats.streams import ADV, RES
from infrastructure.nats.subjects import result as subject_of
from projectors.overview import list_parked
from tests.support.bus import command, count, declared, eventually, run
from tests.support.given import AT
from tests.support.memory_log import MemoryLog
from tests.support.results import Attempt, given_task, given_video

ZSTD = {"Content-Encoding": "zstd"}


@asynccontextmanager
async def ingesting(bus, log):
    stop, parked = asyncio.Event(), []
    apply = functools.partial(apply_result, log)
    work = asyncio.create_task(ingest(bus, apply, stop, park=parked.append))
    try:
        yield parked
        assert not work.done(), "the ingester ended"
    finally:
        stop.set()
        await work


@pytest.fixture
def log():
    made = MemoryLog()
    given_video(made)
    return made


async def empty(bus):
    return await count(bus, RES) == 0


async def store(bus, subject, body, headers=None):
    await bus.store(RES, subject, body, {"Nats-Msg-Id": str(uuid4()), **(headers or {})})


async def send_all(bus, *attempts_messages):
    for messages in attempts_messages:
        for sequence, message in enumerate(messages, 1):
            await send(bus, message, sequence)


def status(log, task_id):
    return present(log, task, task_id).status


# ---- what cannot be read -----------------------------------------------------------------------------------------

ZEROS = b"0" * (MAX_UNPACKED_BYTES * 4)
NESTED = b'{"result":"started","config":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (zstandard.compress(ZEROS), ZSTD),
        (zstandard.ZstdCompressor(write_content_size=False).compress(ZEROS), ZSTD),
        (zstandard.compress(zstandard.compress(ZEROS)), ZSTD),
        (zstandard.compress(b"{}")[:-3], ZSTD),
        (b"\x28\xb5\x2f\xfd" + b"\xff" * 40, ZSTD),
        (b"no zstd", ZSTD),
        (b"", ZSTD),
        (b"", None),
        (b"\xff\xfe", None),
        (NESTED, None),
        (zstandard.compress(NESTED), ZSTD),
        (b'{"result":"started","delivery":' + b"9" * 5_000 + b"}", None),
        (b'{"result":"completed","metrics":{"a":1e999}}', None),
        (b'{"result":"failed","error":"\\ud800"}', None),
    ],
    ids=range(14),
)
def test_a_body_that_cannot_be_read_is_refused(body, headers):
    with pytest.raises(InvalidMessage):
        decode(body, headers)


def test_a_large_result_is_still_read():
    attempt = Attempt(uuid4())
    body, headers = encode(attempt.produced(10_000))
    assert decode(body, headers).batch.count == 10_000


# ---- what speaks of somebody else --------------------------------------------------------------------------------


def test_a_body_that_speaks_of_another_tenant_or_run_than_its_subject_is_taken_out(nats_url, log):
    task_id = given_task(log)
    forged, right = Attempt(task_id), Attempt(task_id)

    async def work():
        async with declared(nats_url) as bus:
            for message in forged.whole([1]):
                body, headers = encode(message)
                for subject in (
                    subject_of("bob", "-", message.run_id),
                    subject_of("default", "-", uuid4()),
                    subject_of("default", "-", message.run_id) + ".more",
                    f"eioku.default.result.{message.run_id}",
                    "eioku.default.result.-.no-run",
                ):
                    await store(bus, subject, body, headers)
            async with ingesting(bus, log) as parked:
                await eventually(lambda: empty(bus))
                assert len(parked) == 15
                assert {each.topic for each in parked} == {"result"}
                assert status(log, task_id) == "pending", "nothing of it counts"
                await send_all(bus, right.whole([1]))
                await eventually(lambda: empty(bus))
            assert status(log, task_id) == "completed"
            assert await count(bus, ADV) == 0, "somebody's message parks nobody's task"

    run(work())


def test_another_tenant_cannot_end_a_task_in_its_own_name(nats_url, log):
    task_id = given_task(log)

    async def work():
        async with declared(nats_url) as bus, ingesting(bus, log) as parked:
            forged = Attempt(task_id)
            forged.head |= {"tenant_id": "bob"}
            await send_all(bus, [*forged.whole([1]), forged.failed()])
            await eventually(lambda: empty(bus))
            assert [each.topic for each in parked] == [
                "result.started", "result.produced", "result.completed", "result.failed",
            ]  # fmt: skip
            assert status(log, task_id) == "pending"
            assert await count(bus, ADV) == 0

    run(work())


def test_the_subjects_of_strangers_do_not_end_the_comparison_with_the_log(nats_url):
    async def work():
        async with declared(nats_url) as bus:
            for subject in ("eioku.x.result.-.no-run", "eioku.x.result.a", "eioku.x.result.-.-.-"):
                await store(bus, subject, b"?")
            known = uuid4()
            await store(bus, subject_of("x", "-", known), b"?")
            assert await pending_runs(bus) == {known}

    run(work())


# ---- what can never be applied -----------------------------------------------------------------------------------


def test_a_thousand_results_of_runs_that_never_began_stop_nobody(nats_url, log):
    task_ids = [given_task(log, key=str(number)) for number in range(4)]

    async def work():
        async with declared(nats_url) as bus:
            bodies = []
            for number in range(1_000):
                attempt = Attempt(task_ids[number % 3], delivery=100 + number)
                bodies.append((attempt.completed(), subject_of("default", "-", attempt.run_id)))
            await asyncio.gather(*(store(bus, subject, *encode(message)) for message, subject in bodies))
            async with ingesting(bus, log) as parked:
                right = Attempt(task_ids[3])
                await send_all(bus, right.whole([5, 5]))
                await eventually(lambda: empty(bus), within_s=50)
            assert status(log, task_ids[3]) == "completed"
            assert len(parked) == 1_000
            assert {each.topic for each in parked} == {"result.completed"}
            assert [status(log, each) for each in task_ids[:3]] == ["pending"] * 3, "the reconciler asks for them again"

    run(work())


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_what_waits_for_a_result_that_was_lost_is_taken_out(nats_url, log, missing):
    """Without its start, without a batch: the broker lost it, or never had it."""
    task_id = given_task(log)
    messages = Attempt(task_id).whole([2, 3])
    del messages[missing]

    async def work():
        async with declared(nats_url) as bus, ingesting(bus, log) as parked:
            await send_all(bus, messages)
            await eventually(lambda: empty(bus))
            assert parked
            assert all("OutOfOrder" in each.error for each in parked)
            again = Attempt(task_id, delivery=2)
            await send_all(bus, again.whole([1]))
            await eventually(lambda: empty(bus))
            assert status(log, task_id) == "completed"

    run(work())


def test_a_result_waits_for_one_before_it_that_could_not_be_stored_yet(nats_url, log):
    task_id = given_task(log)
    failing = [ConnectionError("away")] * 2

    async def work():
        async with declared(nats_url) as bus:
            await send_all(bus, Attempt(task_id).whole([2, 3]))
            stop, parked = asyncio.Event(), []

            def apply(result):
                if type(result).__name__ == "Started" and failing:
                    raise failing.pop()
                apply_result(log, result)

            ingesting = asyncio.create_task(ingest(bus, apply, stop, park=parked.append))
            await eventually(lambda: empty(bus))
            stop.set()
            await ingesting
            assert (status(log, task_id), parked) == ("completed", [])

    run(work())


def test_what_fails_for_a_reason_of_its_own_is_tried_some_times_and_parks_its_task(nats_url, monkeypatch):
    monkeypatch.setattr("infrastructure.nats.results.LAST_RETRY_S", 0.01)
    task_id, tries, applied = uuid4(), [], []

    def apply(result):
        if result.task_id == task_id:
            tries.append(result)
            raise KeyError("a fault of ours")
        applied.append(result)

    async def work():
        async with declared(nats_url) as bus:
            stop, parked = asyncio.Event(), []
            ingesting = asyncio.create_task(ingest(bus, apply, stop, park=parked.append))
            await send(bus, Attempt(task_id, request_version=4).started(), 1)
            await send(bus, other := Attempt(uuid4()).started(), 1)
            await eventually(lambda: empty(bus))
            await eventually(lambda: _is(bus, ADV, 1))
            stop.set()
            await ingesting
            assert (len(tries), applied) == (8, [other])
            assert [each.topic for each in parked] == ["result.started"]
            assert f"{task_id}.4 KeyError" in (await bus.js.get_msg(ADV, seq=1)).data.decode()

    run(work())


def test_what_was_taken_out_shows_and_only_so_much_of_it(database):
    for number in range(MOST_RESULTS + 5):
        refused = Refused(
            sequence=number, run_id=UUID(int=number), deliveries=1, topic="result.completed", error=f"no\0 {number}"
        )
        park_result(database, refused)
    shown = list_parked(database, "ingester", limit=10_000)
    assert [each.position for each in shown] == list(range(5, MOST_RESULTS + 5))
    assert (shown[0].stream_id, shown[0].topic, shown[0].error) == (UUID(int=5), "result.completed", "no 5")
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM read.parked").fetchone() == (MOST_RESULTS,)


async def _is(bus, stream, messages):
    return await count(bus, stream) == messages


# ---- anything at all ---------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text() | st.uuids().map(str),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
changes = st.one_of(
    st.tuples(st.just("field"), st.integers(0, 30), json_values),
    st.tuples(st.just("cut"), st.integers(0, 2_000), st.none()),
    st.tuples(st.just("flip"), st.integers(0, 2_000), st.integers(1, 255)),
    st.tuples(st.just("bytes"), st.none(), st.binary(max_size=60)),
    st.tuples(st.just("header"), st.none(), st.sampled_from(["zstd", "gzip", "", "zstd, zstd"])),
    st.tuples(st.just("subject"), st.sampled_from([1, 4]), st.text("abc-0", min_size=1, max_size=8)),
)
hostile = st.lists(st.tuples(st.integers(0, 5), st.lists(changes, min_size=1, max_size=3)), max_size=25)
"""Which of an attempt's messages, and what was done to it."""


def changed(message: Any, what: list[tuple[str, Any, Any]]) -> tuple[str, bytes, dict[str, str]]:
    body = msgspec.json.encode(message)
    told = subject_of(message.tenant_id, "-", message.run_id).split(".")
    headers: dict[str, str] = {}
    for kind, where, value in what:
        if kind == "field":
            try:
                fields = msgspec.json.decode(body)
                fields[sorted(fields)[where % len(fields)]] = value
                body = msgspec.json.encode(fields)
            except (ValueError, TypeError, ZeroDivisionError):
                pass  # broken by a change before
        elif kind == "cut":
            body = body[:where]
        elif kind == "flip" and body:
            at = where % len(body)
            body = body[:at] + bytes([body[at] ^ value]) + body[at + 1 :]
        elif kind == "bytes":
            body = value
        elif kind == "header":
            headers = {"Content-Encoding": value}
        elif kind == "subject":
            told[where] = value
    return ".".join(told), body, headers


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=hostile)
def test_any_messages_leave_right_results_alone(nats_url, messages):
    log = MemoryLog()
    given_video(log)
    # Of its own each time: the server knows the messages of the examples before.
    attacked, right = given_task(log), given_task(log, key=str(uuid4()))
    announced = Announced(
        tenant_id="default", run_id=uuid4(), correlation_id=uuid4(), at=AT, worker="w", family="light",
        task_types=("ocr",), digest="d",
    )  # fmt: skip
    attempt = Attempt(attacked)
    seeds = [*attempt.whole([2]), attempt.failed(), announced, attempt.completed(counts={})]

    async def work():
        async with declared(nats_url) as bus, ingesting(bus, log):
            for which, what in messages:
                await store(bus, *changed(seeds[which], what))
            await send_all(bus, Attempt(right).whole([2, 1]))
            await eventually(lambda: empty(bus), within_s=50)
            assert status(log, right) == "completed"

    run(work())


# ---- what is only told -------------------------------------------------------------------------------------------


def test_progress_and_cancellations_count_for_the_tenant_of_their_subject(nats_url):
    async def work():
        async with declared(nats_url) as bus:
            mine = command(tenant_id="alice", position=1)
            heard: list[tuple[str, Any]] = []
            await progress.listen(bus, lambda tenant, told: heard.append((tenant, told)))
            told = progress.Progress(task_id=mine.task_id, run_id=uuid4(), done_ms=1, total_ms=2, worker="w")
            async with Cancellations(bus) as cancellations:
                body = msgspec.json.encode({"task_id": str(mine.task_id), "position": 9})
                for subject, what in (
                    (f"eioku.bob.cancel.{mine.task_id}", body),
                    (f"eioku.alice.cancel.{uuid4()}", body),
                    (f"eioku.alice.cancel.{mine.task_id}", b"{"),
                    (f"eioku.alice.cancel.{mine.task_id}", NESTED),
                    (f"eioku.alice.progress.{uuid4()}", msgspec.json.encode(told)),
                    (f"eioku.alice.progress.{mine.task_id}", NESTED),
                    (f"eioku.alice.progress.{mine.task_id}", b'{"task_id": 1}'),
                ):
                    await bus.publish(subject, what)
                await progress.publish(bus, "bob", told)
                await bus.nc.flush()
                await eventually(lambda: _true(heard))
                assert not cancellations.has(mine)
                assert [tenant for tenant, _ in heard] == ["bob"]
                await bus.publish(f"eioku.alice.cancel.{mine.task_id}", body)
                await eventually(lambda: _true(cancellations.has(mine)))

    run(work())


async def _true(what):
    return bool(what)
