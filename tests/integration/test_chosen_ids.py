"""Ids that clients choose, against a system whose own ids anybody can compute."""

import functools
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import product
from typing import Any
from uuid import UUID, uuid4, uuid5

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from application import policies
from application.follow import Follower
from application.handle import decide, handle, present
from application.policies import pipeline_task
from domain import content, queue, selection, task, video
from domain.artifacts.envelope import artifact_id_of
from domain.capability import capability_id_of
from domain.content import content_id_of
from domain.event import Meta
from domain.face_cluster import clustering_id_of
from domain.pipeline import BY_NAME
from domain.queue import queue_id_of
from domain.run import artifacts_stream_of
from domain.selection import selection_id_of
from domain.task import run_id_of
from domain.video import VideoRegistered, video_id_of
from eioku.parking import park_record
from infrastructure.event_store.log import PostgresEventLog
from projectors.task_index import PostgresTaskIndex
from projectors.video_index import PostgresVideoIndex
from tests.support.api_server import running_api
from tests.support.tiny_avi import tiny_avi

PATIENCE_S = 60


def now() -> datetime:
    return datetime.now(UTC)


class Place:
    """An API with its reactions, and what an attacker knows about another tenant."""

    def __init__(self, url: str, log: PostgresEventLog, database: str, folder: Any) -> None:
        self.url, self.log, self.database, self.folder = url, log, database, folder

    def client(self, tenant: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Eioku-Tenant": tenant}, timeout=60)

    def settled(self) -> None:
        """Every event was reacted to."""
        head, deadline = self.log.head(), time.monotonic() + PATIENCE_S
        while self.log.checkpoint(policies.FOLLOWER) < head:
            assert time.monotonic() < deadline, "the policies do not move"
            time.sleep(0.02)


@pytest.fixture(scope="module")
def place(api_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("ids")
    stop = threading.Event()
    with (
        running_api(api_database, folder, followers=(policies.FOLLOWER,)) as url,
        PostgresEventLog(api_database) as log,
    ):
        follower = Follower(
            policies.FOLLOWER,
            log,
            functools.partial(
                policies.react,
                log,
                clock=now,
                tasks=PostgresTaskIndex(api_database),
                videos=PostgresVideoIndex(api_database),
            ),
            kinds=policies.TOPICS,
            park=functools.partial(park_record, api_database, policies.FOLLOWER),
        )
        thread = threading.Thread(target=follower.run, args=(lambda: stop.wait(0.02), stop))
        thread.start()
        try:
            yield Place(url, log, api_database, folder)
        finally:
            stop.set()
            thread.join()


class Victim:
    """A tenant whose every id somebody else can compute before it is used."""

    def __init__(self, place: Place) -> None:
        self.place, self.tenant = place, f"v-{uuid4().hex[:12]}"
        self.video_id, self.run_id = uuid4(), uuid4()
        self.source = str(tiny_avi(place.folder / f"{self.tenant}.avi"))
        self.blake3 = uuid4().hex * 2

    def ids(self) -> dict[str, UUID]:
        task_id = pipeline_task(self.video_id, "metadata_extraction", 1)
        run_id = run_id_of(task_id, 1, 1)
        return {
            "video": video_id_of(self.tenant, self.source),
            "content": content_id_of(self.tenant, self.blake3),
            "selection": selection_id_of(self.tenant, None, "ocr.text"),
            "selection of a video": selection_id_of(self.tenant, self.video_id, "scene"),
            "task": task_id,
            "run": run_id,
            "artifacts": artifacts_stream_of(run_id),
            "artifact": artifact_id_of(run_id, 1),
            "faces": clustering_id_of(run_id, 1),
            "import's task": uuid5(self.run_id, "import"),
            "import's artifacts": artifacts_stream_of(self.run_id),
            "queue": queue_id_of("ocr"),
            "capability": capability_id_of("light"),
            "scan": uuid5(uuid5(uuid.NAMESPACE_URL, f"eioku:{self.tenant}:key"), "scan"),
        }

    def gets_everything(self) -> None:
        """Does what a tenant does; every command is accepted, every reaction comes."""
        meta = Meta(at=now(), tenant_id=self.tenant, actor="test", correlation_id=uuid4())
        with self.place.client(self.tenant) as client:
            for video_id, source in ((self.video_id, self.source), (video_id_of(self.tenant, self.source), self.source)):
                answer = client.put(f"/v1/videos/{video_id}", json={"source": source})
                assert answer.status_code == 202, answer.text
            handle(self.place.log, video.RecordFingerprint(stream_id=self.video_id, meta=meta, blake3=self.blake3, size_bytes=1))
            answer = client.put("/v1/selections/ocr.text", json={"mode": "all"})
            assert answer.status_code == 200, answer.text
            answer = client.put(f"/v1/videos/{self.video_id}/selections/scene", json={"mode": "all"})
            assert answer.status_code == 200, answer.text
            wish = {"run_id": str(self.run_id), "producer": "p", "producer_version": "1", "artifact_types": ["scene"]}
            answer = client.post(f"/v1/videos/{self.video_id}/imports", json=wish | {"artifacts": []})
            assert answer.status_code == 201, answer.text
            for step in ("pause", "resume"):
                answer = client.post(f"/v1/queues/ocr/{step}")
                assert answer.status_code == 200, answer.text
            answer = client.post("/v1/discover", json={"root": str(self.place.folder)}, headers={"Idempotency-Key": "key"})
            assert answer.status_code == 202, answer.text
        self.place.settled()
        assert self.asked("metadata_extraction")
        assert present(self.place.log, content, content_id_of(self.tenant, self.blake3)).video_id == self.video_id

    def asked(self, task_type: str) -> bool:
        return present(self.place.log, task, pipeline_task(self.video_id, task_type, 1)) is not None


SPELLINGS = {
    "plain": str,
    "upper case": lambda each: str(each).upper(),
    "undashed": lambda each: each.hex,
    "undashed upper case": lambda each: each.hex.upper(),
    "braces": lambda each: f"{{{each}}}",
    "urn": lambda each: each.urn,
    "blanks": lambda each: f" {each} ",
}
KINDS = [
    "video", "content", "selection", "selection of a video", "task", "run", "artifacts", "artifact", "faces",
    "import's task", "import's artifacts", "queue", "capability", "scan", "random", "zero", "time",
]  # fmt: skip
moves = st.lists(
    st.tuples(
        st.sampled_from(["put", "upload", "import", "artifact"]),
        st.sampled_from(KINDS),
        st.sampled_from(sorted(SPELLINGS)),
        st.booleans(),
    ),
    max_size=12,
)


def attack(place: Place, victim: Victim, own: Victim, move: tuple[str, str, str, bool], mine: str) -> int:
    """One request of the attacker, with an id of the victim's or of its own."""
    how, kind, spelling, is_own = move
    ids = (own if is_own else victim).ids() | {"random": uuid4(), "zero": UUID(int=0), "time": uuid.uuid1()}
    chosen = SPELLINGS[spelling](ids[kind])
    with place.client(own.tenant) as client:
        if how == "put":
            answer = client.put(f"/v1/videos/{chosen}", json={"source": own.source, "pipeline": []})
        elif how == "upload":
            answer = client.put(f"/v1/videos/{chosen}", files={"file": ("a.avi", b"RIFF")}, data={"pipeline": ""})
        else:
            found = {"artifact_type": "scene", "span_start_ms": 0, "span_end_ms": 1, "payload": {"scene_index": 0}}
            wish: dict[str, Any] = {"producer": "p", "producer_version": "1", "artifacts": [found]}
            if how == "import":
                wish["run_id"] = chosen
            else:
                found["artifact_id"] = chosen
            answer = client.post(f"/v1/videos/{mine}/imports", json=wish)
    assert answer.status_code in (201, 202, 400, 404, 409, 422), (move, answer.text)
    is_derived = ids[kind].version == 5
    is_exception = how == "put" and is_own and kind == "video" and answer.status_code == 202
    assert not is_derived or answer.status_code in (400, 404, 422) or is_exception, (move, answer.text)
    return answer.status_code


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=moves)
def test_whatever_ids_a_client_chooses_the_work_of_all_goes_on(place, sequence):
    victim, own = Victim(place), Victim(place)
    with place.client(own.tenant) as client:
        mine = client.post("/v1/videos", json={"source": own.source, "pipeline": []}).json()["video_id"]
    for move in sequence:
        attack(place, victim, own, move, mine)
    victim.gets_everything()
    with place.client(victim.tenant) as client:
        assert client.get("/health/ready").status_code == 200


@pytest.mark.parametrize("spelling", sorted(SPELLINGS))
def test_no_derived_id_of_another_tenant_can_be_taken(place, spelling):
    victim, own = Victim(place), Victim(place)
    with place.client(own.tenant) as client:
        mine = client.post("/v1/videos", json={"source": own.source, "pipeline": []}).json()["video_id"]
    for how, kind in product(("put", "upload", "import", "artifact"), victim.ids()):
        assert attack(place, victim, own, (how, kind, spelling, False), mine) in (400, 404, 422)


def test_a_refused_id_says_what_to_use_instead(place):
    own = Victim(place)
    with place.client(own.tenant) as client:
        answer = client.put(f"/v1/videos/{own.ids()['content']}", json={"source": own.source})
    assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_PARAMETER")
    assert answer.json()["errors"][0]["parameter"] == "video_id"
    assert "v4" in answer.json()["detail"]


def test_the_id_that_a_scan_would_give_is_only_for_its_own_source_and_tenant(place):
    own, other = Victim(place), Victim(place)
    with place.client(own.tenant) as client:
        for wrong in (video_id_of(own.tenant, other.source), video_id_of(other.tenant, own.source)):
            answer = client.put(f"/v1/videos/{wrong}", json={"source": own.source})
            assert answer.status_code == 422
        right = video_id_of(own.tenant, own.source)
        for _ in range(2):
            answer = client.put(f"/v1/videos/{str(right).upper()}", json={"source": f"file://{own.source}", "pipeline": []})
            assert (answer.status_code, answer.json()["video_id"]) == (202, str(right))


def test_a_taken_id_is_one_answer_whoever_has_it(place):
    own, other = Victim(place), Victim(place)
    with place.client(own.tenant) as mine, place.client(other.tenant) as theirs:
        another = str(tiny_avi(place.folder / f"{uuid4()}.avi"))
        taken = [uuid4() for _ in range(3)]
        for client, video_id, source in ((mine, taken[0], another), (theirs, taken[1], other.source)):
            assert client.put(f"/v1/videos/{video_id}", json={"source": source, "pipeline": []}).status_code == 202
        scan = theirs.post("/v1/discover", json={"root": str(place.folder)}).json()
        taken[2] = UUID(next(value for name, value in scan.items() if name.endswith("_id")))
        said = set()
        for video_id in taken:
            answer = mine.put(f"/v1/videos/{video_id}", json={"source": own.source, "pipeline": []})
            said.add((answer.status_code, answer.text.replace(str(video_id), "ID")))
        imported = {"producer": "p", "producer_version": "1", "artifacts": [], "artifact_types": ["scene"]}
        assert mine.put(f"/v1/videos/{own.video_id}", json={"source": own.source, "pipeline": []}).status_code == 202
        for run_id in taken:
            answer = mine.post(f"/v1/videos/{own.video_id}/imports", json=imported | {"run_id": str(run_id)})
            said.add((answer.status_code, answer.text.replace(str(run_id), "ID")))
    assert len(said) == 1, said
    assert next(iter(said))[0] == 409


# ---- what an older version let in --------------------------------------------------------------------------------


def poison(place: Place, stream: UUID, tenant: str = "bob") -> None:
    """What `PUT /v1/videos/{stream}` once stored."""
    event = VideoRegistered(
        originator_id=stream, originator_version=1, recorded_at=now(), tenant_id=tenant, actor="api",
        correlation_id=uuid4(), source="/media/cars.mp4", filename="cars.mp4", pipeline=(),
    )  # fmt: skip
    place.log.append([event])


@pytest.mark.parametrize("tenant", ["bob", "own"])
def test_an_installation_that_was_poisoned_before_gets_going_again(place, tenant):
    victim = Victim(place)
    for kind in ("content", "selection", "selection of a video", "run", "artifacts", "import's task", "scan"):
        poison(place, victim.ids()[kind], victim.tenant if tenant == "own" else tenant)
    meta = Meta(at=now(), tenant_id=victim.tenant, actor="test", correlation_id=uuid4())
    with place.client(victim.tenant) as client:
        answer = client.put(f"/v1/videos/{victim.video_id}", json={"source": victim.source})
        assert answer.status_code == 202
        handle(place.log, video.RecordFingerprint(stream_id=victim.video_id, meta=meta, blake3=victim.blake3, size_bytes=1))
        for path, body in (
            ("/v1/selections/ocr.text", {"mode": "all"}),
            (f"/v1/videos/{victim.video_id}/selections/scene", {"mode": "all"}),
        ):
            answer = client.put(path, json=body)
            assert (answer.status_code, answer.json()["code"]) == (409, "CONTENT_MISMATCH"), "not 503 for ever"
        wish = {"run_id": str(victim.run_id), "producer": "p", "producer_version": "1", "artifact_types": ["scene"]}
        answer = client.post(f"/v1/videos/{victim.video_id}/imports", json=wish | {"artifacts": []})
        assert answer.status_code == 409
        assert client.post(f"/v1/videos/{victim.video_id}/tasks", json={"task_type": "ocr"}).status_code == 202
        assert client.delete(f"/v1/videos/{victim.video_id}").status_code == 204
    place.settled()
    assert victim.asked("metadata_extraction")
    Victim(place).gets_everything()


def test_a_task_whose_id_was_taken_can_be_asked_for_by_hand(place):
    victim = Victim(place)
    for name in BY_NAME:
        poison(place, pipeline_task(victim.video_id, name, 1))
    with place.client(victim.tenant) as client:
        assert client.put(f"/v1/videos/{victim.video_id}", json={"source": victim.source}).status_code == 202
        place.settled()
        assert not victim.asked("ocr")
        for name in BY_NAME:
            answer = client.post(f"/v1/videos/{victim.video_id}/tasks", json={"task_type": name})
            assert answer.status_code == 202, answer.text


def test_streams_of_the_installation_that_were_taken_stop_nobody(place):
    """Queues and capabilities have one stream for all tenants."""
    meta = Meta(at=now(), tenant_id="default", actor="test", correlation_id=uuid4())
    for stream, wish in (
        (queue_id_of("no such type"), queue.PauseQueue(stream_id=queue_id_of("no such type"), meta=meta, task_type="x")),
        (
            selection_id_of("default", None, "x"),
            selection.SetSelection(stream_id=selection_id_of("default", None, "x"), meta=meta, video_id=None,
                                   artifact_type="x", mode="all"),
        ),
    ):  # fmt: skip
        poison(place, stream)
        with pytest.raises(Exception, match="is taken"):
            decide(place.log, wish)
    Victim(place).gets_everything()


def test_readiness_names_the_follower_that_stands_still(place, monkeypatch):
    monkeypatch.setattr("api.followers.STUCK_S", -1.0)
    monkeypatch.setattr("api.followers.LOOK_EVERY_S", 0.02)
    with (
        running_api(place.database, place.folder, projections=False, followers=("nobody follows this",)) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        deadline = time.monotonic() + PATIENCE_S
        while (answer := client.get("/health/ready")).status_code == 200:
            assert time.monotonic() < deadline
        assert answer.status_code == 503
        assert "nobody follows this has been at the record after position 0" in answer.json()["detail"]
