"""Parts of a worker that need no process and no broker."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from application.messages import TaskMessage
from domain.artifacts import check_batch
from domain.artifacts.envelope import artifact_id_of, unpack
from domain.artifacts.ocr_text import OcrTextV1
from domain.artifacts.scene import SceneV1
from domain.pipeline import TASK_TYPES
from infrastructure.media.source_cache import SourceCache
from tests.support import media
from tests.support.producers import TwoKinds
from workers import PRODUCERS
from workers.capability import digest_of, remedy, task_types_of
from workers.compute import MOST_BYTES, MOST_ITEMS, Packer, run
from workers.producer import Found, ModelPlaces
from workers.protocol import Assignment, Described, Finished, Packed, Pulse, Refusal

RUN = UUID(int=3)


def assignment(path: Path = Path("/a.mp4"), **config) -> Assignment:
    message = TaskMessage(
        task_id=UUID(int=1), tenant_id="default", video_id=UUID(int=2), task_type="scene_detection", profile="fast",
        config=config, config_hash="c", language=None, priority="std", request_version=1, source=str(path), blake3="f" * 64,
        correlation_id=UUID(int=4), position=1,
    )  # fmt: skip
    return Assignment(
        number=1, wire=0, message=message, run_id=RUN, delivery=1, models=ModelPlaces(), sources=SourceCache(folder=Path("/sources")),
        pictures=Path("/pictures"), worker="w", started_at=datetime(2024, 1, 1, tzinfo=UTC),
    )  # fmt: skip


def test_a_folder_that_takes_no_pictures_is_said_at_once_and_waits_for_a_hand(tmp_path: Path) -> None:
    from multiprocessing import get_context

    from workers.thumbnails import Thumbnails

    given = assignment(media.clip(tmp_path / "a.mp4"))
    (tmp_path / "obstacle").touch()  # where the folder would have to be
    given = msgspec.structs.replace(given, pictures=tmp_path / "obstacle")
    *_, last = run(Thumbnails(), given, Pulse(get_context("spawn")))
    assert isinstance(last, Refusal)
    assert (last.code, last.retryable, last.needs_a_hand) == ("STORAGE_FAILED", True, True)
    assert "Not a directory" in last.error


def scene(index: int, method: str = "content") -> Found:
    return Found("scene", index, index + 1, SceneV1(scene_index=index, method=method))


def packed(found: list[Found]):
    packer = Packer(assignment(), TwoKinds())
    batches = [batch for each in found if (batch := packer.add(each)) is not None]
    return [*batches, *packer.rest()], packer.counts


def test_versions_run_through_all_batches_of_a_run_whatever_their_type():
    line = OcrTextV1.example()
    found = [each for n in range(1_500) for each in (scene(n), Found("ocr.text", n, n, line))]
    batches, counts = packed(found)
    assert counts == {"scene": 1_500, "ocr.text": 1_500}
    assert [b.first_version for b in batches] == [1, *[b.last_version + 1 for b in batches[:-1]]]
    ids = [item.artifact_id for batch in batches for item in unpack(batch)]
    assert ids == [artifact_id_of(RUN, n) for n in range(1, 3_001)]
    for batch in batches:
        check_batch(batch)
        assert batch.count <= MOST_ITEMS
        assert (batch.head.input_hash, batch.head.actor) == ("f" * 64, "worker:w")


def test_a_batch_is_never_larger_than_it_may_be():
    batches, _ = packed([scene(n, "x" * (n * 37 % 3_000)) for n in range(2_000)])
    assert all(len(bytes(batch.items)) <= MOST_BYTES for batch in batches)
    assert len(batches) < 20
    assert sum(batch.count for batch in batches) == 2_000


def test_one_artifact_that_is_too_large_for_any_batch_goes_alone():
    batches, _ = packed([scene(0), scene(1, "x" * MOST_BYTES), scene(2)])
    assert [batch.count for batch in batches] == [1, 1, 1]


def test_nothing_found_is_no_batch():
    assert packed([]) == ([], {})


@pytest.fixture
def pulse():
    from multiprocessing import get_context

    return Pulse(get_context("spawn"))


def test_a_job_reports_what_it_will_be_then_what_it_found_then_its_end(tmp_path, pulse):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    reports = list(run(TwoKinds(), assignment(path, count=2), pulse))
    assert [type(report) for report in reports] == [Described, Packed, Packed, Finished]
    assert reports[-1].counts == {"scene": 2, "object.detection": 2, "ocr.text": 0}
    assert pulse.progress == (1, 100)


def test_a_cancelled_job_ends_at_its_next_word_about_progress(tmp_path, pulse):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    pulse.cancel(1)
    *_, end = run(TwoKinds(), assignment(path, count=2), pulse)
    assert (type(end), end.code) == (Refusal, "CANCELLED")
    pulse.cancel(7)
    *_, end = run(TwoKinds(), assignment(path, count=2), pulse)
    assert isinstance(end, Finished)


@pytest.mark.parametrize(
    ("make", "code"), [(lambda p: None, "MEDIA_MISSING"), (lambda p: p.mkdir(), "MEDIA_MISSING"), (lambda p: p.touch(), "MEDIA_UNREADABLE")]
)
def test_a_file_that_is_not_there_is_told_before_a_model_is_loaded(tmp_path, pulse, make, code):
    make(tmp_path / "a.mp4")
    (end,) = run(TwoKinds(), assignment(tmp_path / "a.mp4"), pulse)
    assert end.code == code


def test_every_task_type_has_exactly_one_family_that_answers_for_it():
    families = ("light", "asr", "ocr", "torch")
    taken = [name for family in families for name in task_types_of(family, PRODUCERS)]
    assert sorted(taken) == sorted(kind.name for kind in TASK_TYPES)
    others = [producer for producer in PRODUCERS if producer.task_type != "ocr"]
    assert "ocr" in task_types_of("light", others)
    assert "ocr" not in task_types_of("ocr", others)
    assert all("imports" in remedy(kind.name) for kind in TASK_TYPES)


def test_the_digest_tells_what_a_worker_could_do_now_and_could_not_before(tmp_path):
    def digest(**places) -> str:
        return digest_of(("scene_detection",), (TwoKinds,), ModelPlaces(models_dir=tmp_path, **places))

    first = digest()
    assert digest() == first
    for passing in (".cache/lock", "hub/blobs/abc.incomplete", "notes.txt"):
        (tmp_path / passing).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / passing).write_bytes(b"" if passing == "notes.txt" else bytes(100_000))
    assert digest() == first
    (tmp_path / "model.pt").write_bytes(bytes(100_000))
    second = digest()
    assert len({first, second, digest(detector_weights=tmp_path / "model.pt"), digest(is_offline=True)}) == 4


def test_another_version_of_a_producer_is_another_digest():
    class Newer(TwoKinds):
        version = "2"

    digests = {digest_of(("scene_detection",), (kind,), ModelPlaces()) for kind in (TwoKinds, Newer)}
    assert len(digests) == 2


def test_reports_survive_the_pipe():
    import pickle

    batch = packed([scene(0)])[0][0]
    again = pickle.loads(pickle.dumps(Packed(batch)))
    assert msgspec.json.encode(again.batch) == msgspec.json.encode(batch)
