"""Whose faces are whose: clusters grow with the log, and a re-clustering keeps the ids that it can."""

import random
from collections.abc import Sequence
from uuid import UUID

import msgspec
import pytest

from application.faces import KINDS, FaceClusterer
from application.follow import Follower
from application.handle import handle
from domain.artifacts.envelope import BatchHead, Item, artifact_id_of, pack
from domain.artifacts.face_detection import FaceDetectionV1
from domain.face_cluster import FacesClustered, FacesReclustered, RequestRecluster
from domain.face_vectors import pack_half, unpack_half
from domain.video import DeleteVideo
from tests.support.given import AT, META
from tests.support.memory_log import MemoryLog
from tests.support.results import given_video

SPACE = "test"


def person(number: int) -> list[float]:
    """A point for a person; different people are about 0.8 apart."""
    made = random.Random(number)
    return [made.gauss(0, 0.05) for _ in range(128)]


def look(of: Sequence[float], seed: int, spread: float = 0.3) -> str:
    """A picture of the person: a vector at distance `spread`."""
    made = random.Random(seed)
    away = [made.gauss(0, 1) for _ in of]
    norm = sum(x * x for x in away) ** 0.5
    return pack_half([x + spread * a / norm for x, a in zip(of, away, strict=True)])


class Library:
    """A log, and a clusterer that follows it."""

    def __init__(self, log: MemoryLog | None = None) -> None:
        self.log = log or MemoryLog()
        self.runs = 0
        self.restart()

    def restart(self) -> None:
        self.clusterer = FaceClusterer(self.log, clock=lambda: AT)

    def film(self, *vectors: str | None, cluster_id: str | None = None, tenant_id: str = "default") -> UUID:
        """A batch of faces of a new video; its run."""
        self.runs += 1
        run_id, video_id = UUID(int=0xB0 + self.runs), UUID(int=0xA0 + self.runs)
        given_video(self.log, video_id, f"/media/{self.runs}.mp4")
        items = [
            Item(
                artifact_id=artifact_id_of(run_id, index),
                start_ms=0,
                end_ms=0,
                payload=msgspec.to_builtins(
                    FaceDetectionV1(
                        confidence=0.9,
                        box=(0.1, 0.1, 0.1, 0.1),
                        frame_index=0,
                        cluster_id=cluster_id,
                        vector=vector,
                        vector_space=vector and SPACE,
                    )
                ),
            )
            for index, vector in enumerate(vectors, start=1)
        ]
        head = BatchHead(
            run_id=run_id, video_id=video_id, tenant_id=tenant_id, artifact_type="face.detection", schema_version=1,
            producer="p", producer_version="1", model_profile="balanced", config_hash="c", input_hash="i",
            created_at=AT, actor="worker:w", correlation_id=META.correlation_id,
        )  # fmt: skip
        self.log.append([pack(head, 1, items)])
        self.follow()
        return run_id

    def follow(self) -> None:
        """React to everything from the beginning: what was answered before must not be answered again."""
        for record in self.log.read(0, kinds=KINDS):
            self.clusterer.react(record)

    def recluster(self, number: int = 1) -> list[FacesReclustered]:
        stream = UUID(int=0xC0 + number)
        handle(self.log, RequestRecluster(stream_id=stream, meta=META))
        self.follow()
        return [event for event in self.log.load(stream) if isinstance(event, FacesReclustered)]

    def clusters(self) -> dict[UUID, list[str | None]]:
        """By run, the cluster of each face in order."""
        now: dict[UUID, str] = {}
        for record in self.log.records:
            if isinstance(record.item, FacesClustered | FacesReclustered):
                for group in record.item.members:
                    now |= dict.fromkeys(group.artifact_ids, group.cluster_id)
        return {
            UUID(int=0xB0 + n): [now.get(artifact_id_of(UUID(int=0xB0 + n), i)) for i in range(1, 9)]
            for n in range(1, self.runs + 1)
        }

    def of(self, run_id: UUID, count: int = 1) -> list[str | None]:
        return self.clusters()[run_id][:count]


@pytest.fixture
def library() -> Library:
    return Library()


def test_a_vector_survives_its_writing():
    vector = [0.5, -0.25] * 64
    assert list(unpack_half(pack_half(vector))) == vector
    assert len(pack_half(vector)) == 344


@pytest.mark.parametrize("broken", ["", "AAAA", "?" * 344, pack_half([float("nan")] * 128)])
def test_a_vector_that_is_none_is_a_flaw(broken):
    payload = msgspec.structs.replace(FaceDetectionV1.example(), vector=broken, vector_space=SPACE)
    assert payload.flaw()
    assert msgspec.structs.replace(payload, vector=look(person(1), 1)).flaw() is None
    assert msgspec.structs.replace(payload, vector=look(person(1), 1), vector_space=None).flaw()


def test_the_same_person_is_found_again_in_another_video_and_others_stay_apart(library):
    first = library.film(look(person(1), 1), look(person(2), 2))
    second = library.film(look(person(2), 3), look(person(1), 4), look(person(3), 5))
    one, two = library.of(first, 2)
    assert one != two
    assert library.of(second, 3)[:2] == [two, one]
    assert library.of(second, 3)[2] not in (None, one, two)


def test_a_restart_after_any_record_changes_nothing():
    def play(restarts: bool) -> tuple[dict, list]:
        library = Library()
        for n in range(12):
            library.film(*(look(person(p), 100 * n + p, 0.42) for p in range(n % 4 + 1)))
            if n == 7:
                library.recluster()
            if restarts:
                library.restart()
        return library.clusters(), [r.item for r in library.log.records]

    assert play(restarts=True) == play(restarts=False)


def test_faces_with_a_cluster_of_their_own_and_faces_without_a_vector_are_left_alone(library):
    imported = library.film(look(person(1), 1), cluster_id="grandma")
    tiny = library.film(None, None)
    assert library.of(imported) == [None]
    assert library.of(tiny, 2) == [None, None]
    assert not [r for r in library.log.records if isinstance(r.item, FacesClustered)]


def test_tenants_share_no_clusters(library):
    ours = library.film(look(person(1), 1))
    theirs = library.film(look(person(1), 1), tenant_id="other")
    assert library.of(ours) != library.of(theirs)


def test_somebody_who_holds_still_counts_once(library):
    still = look(person(1), 1)
    library.film(*[still] * 5)
    (event,) = (r.item for r in library.log.records if isinstance(r.item, FacesClustered))
    assert [centre.weight for centre in event.centres] == [1]
    assert len(event.members[0].artifact_ids) == 5


def test_a_re_clustering_joins_what_the_order_kept_apart_and_keeps_the_ids(library):
    # Seen first from both sides, one person opens two clusters; pictures from between bring their centres together.
    left, right = pack_half(person(1)), pack_half([x + (0.06 if i < 80 else 0) for i, x in enumerate(person(1))])
    a, b = library.of(library.film(left))[0], library.of(library.film(right))[0]
    assert a != b
    middle = [pack_half([x + (step if i < 80 else 0) for i, x in enumerate(person(1))]) for step in (0.028, 0.029, 0.030)]
    run = library.film(*middle)
    other = library.of(library.film(look(person(2), 9)))[0]

    events = library.recluster()

    assert events
    everybody = {c for clusters in library.clusters().values() for c in clusters if c}
    kept = everybody - {other}
    assert len(kept) == 1
    assert kept <= {a, b}
    assert set(library.of(run, 3)) == kept
    assert library.of(library.film(look(person(1), 10, 0.1))) == [*kept]


def test_a_re_clustering_of_clear_groups_moves_nobody(library):
    for n in range(6):
        library.film(*(look(person(p), 10 * n + p) for p in range(3)))
    before = library.clusters()
    events = library.recluster()
    assert library.clusters() == before
    assert [event.members for event in events] == [()]
    assert len(events[0].centres) == 3
    assert library.recluster(2)[0].centres == events[0].centres


def test_a_re_clustering_forgets_the_faces_of_deleted_videos(library):
    library.film(look(person(1), 1))
    library.film(look(person(2), 2))
    handle(library.log, DeleteVideo(stream_id=UUID(int=0xA1), meta=META))
    assert len(library.recluster()[0].centres) == 1


def test_the_follower_parks_nothing(library):
    parked = []
    library.film(look(person(1), 1))
    follower = Follower(
        "faces", library.log, FaceClusterer(library.log, clock=lambda: AT).react, kinds=KINDS,
        park=lambda record, error: parked.append((record, error)),
    )  # fmt: skip
    while follower.step():
        pass
    assert parked == []
