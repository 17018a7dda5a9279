"""Decoding for the API: bounded in time, memory and waiting, and the next job is done whatever became of the last."""

import asyncio
import os
import signal

import pytest

from api.decoding import pool
from api.decoding.jobs import Clip, Length, Still
from api.decoding.pool import Decoders
from domain.errors import (
    EiokuError,
    JobTimedOut,
    MediaMissing,
    MediaUnreadable,
    ServiceUnavailable,
    StorageFailed,
    WorkerDied,
)
from tests.support.media import clip, empty, stills_film, text_renamed


@pytest.fixture
def film(tmp_path):
    return clip(tmp_path / "film.mp4")


def length(path, **more):
    return Length(**{"path": path, "folders": (str(path.parent),)} | more)


def tried(*steps, most=1):
    """What each step gives, in one event loop with one pool: an answer, or the error."""

    async def all_of_them():
        async with Decoders(most) as decoders:
            return [await one(decoders, step) for step in steps]

    async def one(decoders, step):
        try:
            return await (step(decoders) if callable(step) else decoders.do(step, timeout_s=60))
        except EiokuError as error:
            return error

    return asyncio.run(all_of_them())


def test_a_file_is_decoded_and_what_is_none_is_told(film, tmp_path):
    found = tried(
        length(film),
        Still(path=film, folders=(str(tmp_path),), out=tmp_path / "s.webp", at_ms=100, screen=(160, 120), width=80),
        Clip(path=film, folders=(str(tmp_path),), out=tmp_path / "c.mp4", start_ms=0, end_ms=500),
        length(text_renamed(tmp_path / "text.mp4")),
        length(empty(tmp_path / "empty.mp4")),
        length(tmp_path / "nothing.mp4"),
        length(film, folders=(str(tmp_path / "elsewhere"),)),
        length(film),
    )
    assert 1_900 <= found[0].duration_ms <= 2_100
    assert (tmp_path / "s.webp").stat().st_size
    assert (tmp_path / "c.mp4").stat().st_size
    assert [type(each) for each in found[3:7]] == [MediaUnreadable, MediaUnreadable, MediaMissing, MediaMissing]
    assert found[7] == found[0]
    assert str(film) in str(found[6])


def test_a_job_that_takes_too_long_is_ended(film):
    async def hurried(decoders):
        await decoders.do(length(film), timeout_s=0.001)

    late, after = tried(hurried, length(film))
    assert isinstance(late, JobTimedOut)
    assert after.duration_ms


def test_a_process_ends_when_nobody_waits_any_more(film, tmp_path):
    endless = Clip(path=clip(tmp_path / "long.mp4", times_ms=range(0, 60_000, 20)), folders=(str(tmp_path),),
                   out=tmp_path / "out.mp4", start_ms=0, end_ms=600_000)  # fmt: skip

    async def left(decoders):
        await decoders.do(length(film), timeout_s=60)
        process = decoders._idle[-1].process
        working = asyncio.create_task(decoders.do(endless, timeout_s=600))
        await asyncio.sleep(0.2)
        working.cancel()
        await asyncio.wait({working})
        return process.poll()

    code, after = tried(left, length(film))
    assert code == -signal.SIGKILL
    assert after.duration_ms


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_process_that_dies_is_told_and_replaced(film, tmp_path, number):
    long = Clip(path=clip(tmp_path / "long.mp4", times_ms=range(0, 60_000, 20)), folders=(str(tmp_path),),
                out=tmp_path / "out.mp4", start_ms=0, end_ms=600_000)  # fmt: skip

    async def hit(decoders):
        await decoders.do(length(film), timeout_s=60)
        process = decoders._idle[-1].process
        working = asyncio.create_task(decoders.do(long, timeout_s=600))
        await asyncio.sleep(0.2)
        os.kill(process.pid, number)
        await working

    async def idle_dies(decoders):
        for decoder in decoders._idle:
            decoder.process.kill()
            decoder.process.wait()

    died, after, _, again = tried(hit, length(film), idle_dies, length(film))
    assert type(died) is (MediaUnreadable if number == signal.SIGSEGV else WorkerDied)
    assert after.duration_ms
    assert again.duration_ms


def test_memory_is_bounded(tmp_path, film, monkeypatch):
    monkeypatch.setattr(pool, "MOST_BYTES", 250 << 20)
    large = stills_film(tmp_path / "large.avi", [(8_000, 8_000)] * 3)
    refused, after = tried(
        Clip(path=large, folders=(str(tmp_path),), out=tmp_path / "c.mp4", start_ms=0, end_ms=500), length(film)
    )
    assert isinstance(refused, MediaUnreadable)
    assert after.duration_ms


def test_a_result_that_cannot_be_stored_is_the_disks_failing(film):
    job = Still(path=film, folders=(str(film.parent),), out=film / "s.webp", at_ms=0, screen=(160, 120), width=80)
    (failed,) = tried(job)
    assert isinstance(failed, StorageFailed)


def test_those_who_wait_are_bounded(film, monkeypatch):
    monkeypatch.setattr(pool, "MOST_WAITING", 3)

    async def crowd(decoders):
        return await asyncio.gather(
            *(decoders.do(length(film), timeout_s=60) for _ in range(10)), return_exceptions=True
        )

    (answers,) = tried(crowd)
    assert sum(isinstance(answer, ServiceUnavailable) for answer in answers) == 6, "one is done, three wait"
