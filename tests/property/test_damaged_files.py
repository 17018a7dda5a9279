"""Files cut off, scratched or overwritten anywhere: each task on them ends in one try, and says what is wrong."""

from collections.abc import Iterator
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import media
from tests.unit.test_worker_parts import assignment
from workers import PRODUCERS
from workers.compute import run
from workers.protocol import Finished, Packed, Pulse, Refusal

PRODUCER = {kind.task_type: kind for kind in PRODUCERS}
TASKS = ("metadata_extraction", "scene_detection", "thumbnails")
TAKEN = datetime(2024, 5, 4, 12, tzinfo=UTC)
HEADER = 1_000
"""Bytes where damage hits the header rather than the media."""


class Kind(NamedTuple):
    codec: str | None = "libx264"
    container: str | None = None
    has_sound: bool = True


KINDS = {
    "mp4": Kind(),
    "mov": Kind(),
    "mkv": Kind(),
    "flv": Kind(),
    "ts": Kind(container="mpegts"),
    "3gp": Kind("mpeg4", "3gp"),
    "webm": Kind("libvpx-vp9", has_sound=False),
    "avi": Kind("mjpeg", has_sound=False),
    "wmv": Kind("mpeg4", "asf", has_sound=False),
    "nut": Kind("mpeg4", "nut", has_sound=False),
    "m4a": Kind(None, "mp4"),
    "wav": Kind(None),
}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture(scope="module")
def films(folder: Path) -> dict[str, bytes]:
    """One of each kind, a second long."""
    return {
        suffix: media.clip(
            folder / f"whole.{suffix}",
            times_ms=range(0, 1_000, 40),
            has_picture=kind.codec is not None,
            codec=kind.codec or "",
            container=kind.container,
            sound=media.tone(1) if kind.has_sound else None,
            tags={"creation_time": TAKEN.isoformat()},
        ).read_bytes()
        for suffix, kind in KINDS.items()
    }


def damaged(film: bytes, draw: st.DrawFn) -> bytes:
    data = bytearray(film)
    places = st.integers(0, len(film) - 1) | st.integers(0, min(HEADER, len(film) - 1))
    for place, bit in draw(st.lists(st.tuples(places, st.integers(0, 7)), max_size=30)):
        data[place] ^= 1 << bit
    for place, length in draw(st.lists(st.tuples(places, st.integers(1, 2_000)), max_size=1)):
        data[place : place + length] = bytes(min(length, len(data) - place))
    return bytes(data[: draw(st.none() | st.integers(1, len(film)))])


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), suffix=st.sampled_from(sorted(KINDS)))
def test_a_damaged_file_ends_each_task_in_one_try(films: dict[str, bytes], folder: Path, data: Any, suffix: str) -> None:
    path = folder / f"damaged.{suffix}"
    path.write_bytes(damaged(films[suffix], data.draw))
    for task_type in TASKS:
        given_job = assignment(path)
        message = msgspec.structs.replace(given_job.message, task_type=task_type)
        given_job = msgspec.structs.replace(given_job, message=message, pictures=folder / "pictures")
        *_, last = run(PRODUCER[task_type](), given_job, Pulse(get_context("spawn")))
        assert isinstance(last, Finished | Refusal)
        if isinstance(last, Refusal):
            assert (last.code, last.retryable) in {("MEDIA_UNREADABLE", False), ("MODEL_FAILED", False)}, last
            assert str(path) in last.error or last.code == "MODEL_FAILED"
            assert last.remedy


MEDIA_BEGINS = {
    "mp4": b"mdat",
    "mov": b"mdat",
    "3gp": b"mdat",
    "avi": b"movi",
    "mkv": bytes.fromhex("1f43b675"),
    "webm": bytes.fromhex("1f43b675"),
    "wmv": bytes.fromhex("3626b2758e66cf11"),
}

WHOLE = {"avi": 4, "wmv": 50}
"""Bytes of the head of the media that belong to the header, for FFmpeg."""


@pytest.mark.parametrize("suffix", MEDIA_BEGINS)
def test_what_the_header_says_is_kept_when_the_media_is_cut_off(
    films: dict[str, bytes], folder: Path, suffix: str
) -> None:
    film = films[suffix]
    begins = film.index(MEDIA_BEGINS[suffix]) + WHOLE.get(suffix, 0)
    path = folder / f"cut.{suffix}"
    for more in (0, 1, 4, 7, 30):
        path.write_bytes(film[: begins + more])
        *reports, last = run(PRODUCER["metadata_extraction"](), assignment(path), Pulse(get_context("spawn")))
        assert isinstance(last, Finished), last
        flaw, facts = last.outcome.flaw, last.outcome.facts
        assert flaw is not None
        assert flaw.code == "MEDIA_UNREADABLE"
        assert flaw.remedy
        assert facts is not None
        if suffix != "3gp":  # MPEG-4 tells its size with its first frame
            assert (facts.width, facts.height) == (media.WIDTH, media.HEIGHT)
        if suffix not in {"avi", "wmv"}:  # FFmpeg writes no date there
            assert facts.file_created_at == TAKEN
        assert any(isinstance(report, Packed) for report in reports)
