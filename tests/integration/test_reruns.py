"""Re-runs over real read models: which videos, how long, what is kept, nothing twice."""

import uuid

import pytest

from projectors.where import parse
from tests.support.tiny_avi import tiny_avi

CLIPS = ("beach.avi", "city.avi", "old card.avi")


@pytest.fixture
def library(api, api_database, api_folder):
    """Three probed videos: beach (fast ocr run), city (balanced), old card (none); ids by name."""
    from application.handle import handle
    from domain import video
    from domain.event import Meta
    from domain.video import FileFacts
    from infrastructure.event_store.log import PostgresEventLog
    from tests.support.pipeline import now

    found = {}
    with PostgresEventLog(api_database) as log:
        for name, captured in zip(CLIPS, ("2024-01-10", "2024-02-10", None), strict=True):
            body = {"source": str(tiny_avi(api_folder / f"{uuid.uuid4().hex} {name}")), "filename": name, "pipeline": []}
            if captured:
                body |= {"file_created_at": f"{captured}T12:00:00Z", "collection": "holiday"}
            video_id = api.post("/v1/videos", json=body).json()["video_id"]
            found[name.partition(".")[0]] = video_id
            facts = FileFacts(duration_ms=60_000, container="avi", has_video=True, has_audio=False)
            tenant = api.headers["Eioku-Tenant"]
            meta = Meta(at=now(), tenant_id=tenant, actor="user:test", correlation_id=uuid.uuid4())
            wish = video.RecordProbe(stream_id=uuid.UUID(video_id), meta=meta, facts=facts)
            api.position = max(api.position, handle(log, wish))
        for name, profile, version, seconds in (("beach", "fast", "1", 6), ("city", "balanced", "2", 30)):
            api.position = max(api.position, done(log, tenant, found[name], profile=profile, version=version, seconds=seconds))
    api.get("/v1/videos").raise_for_status()
    return found


def done(log, tenant, video_id, *, profile, version, seconds) -> int:
    """A task that a worker did in so many seconds; where the log stands then."""
    from datetime import timedelta

    from application.handle import handle
    from domain import run, task
    from domain.event import Meta
    from domain.pipeline import config_hash, full_config
    from domain.run import ModelIdentity
    from tests.support.pipeline import now

    video_id, at = uuid.UUID(video_id), now() - timedelta(hours=1)

    def meta(after_s: float) -> Meta:
        moment = at + timedelta(seconds=after_s)
        return Meta(at=moment, tenant_id=tenant, actor="worker:w", correlation_id=uuid.uuid4())

    _, config = full_config("ocr", profile, None)
    hashed, task_id, run_id = config_hash("ocr", config, None), uuid.uuid4(), uuid.uuid4()
    about = {"task_type": "ocr", "profile": profile, "config": config, "config_hash": hashed}
    return handle(
        log,
        task.RequestTask(stream_id=task_id, meta=meta(0), video_id=video_id, **about),
        task.StartTask(stream_id=task_id, meta=meta(0), run_id=run_id, request_version=1, delivery=1, worker="w"),
        run.StartRun(
            stream_id=run_id, meta=meta(0), task_id=task_id, video_id=video_id, **about, producer="paddleocr",
            producer_version=version, input_hash="", attempt=1, worker="w", device="cpu", created_at=at,
            artifact_types=("ocr.text",), language="de", model=ModelIdentity(name="PP", digest=version * 4),
        ),
        run.CompleteRun(stream_id=run_id, meta=meta(seconds), counts={"ocr.text": 7}, metrics={}),
        task.CompleteTask(stream_id=task_id, meta=meta(seconds), run_id=run_id, artifact_count=7),
    )  # fmt: skip


def rerun(api, **body):
    answer = api.post("/v1/rerun", json={"task_type": "ocr", **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def asked_for(api, answer):
    """Names of the videos whose tasks these are."""
    return {api.get(f"/v1/tasks/{task_id}").json()["video_id"] for task_id in answer["asked"]}


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("", {"beach", "city", "old card"}),
        ("missing", {"old card"}),
        ("profile<balanced or missing", {"beach", "old card"}),
        ("not profile<balanced", {"city", "old card"}),
        ("profile >= fast and not (version = 1)", {"city"}),
        ("profile!=balanced", {"beach"}),
        ("completed", {"beach", "city"}),
        ("failed or unavailable or parked", set()),
        ("producer=paddleocr and version<>2", {"beach"}),
        ("digest=2222", {"city"}),
        ("model ~ pp", {"beach", "city"}),
        ("language=de", {"beach", "city"}),
        ("outdated or version!=present", set()),
        ("version=present", {"beach", "city"}),
        ("collection=holiday", {"beach", "city"}),
        ("NOT collection='holiday'", {"old card"}),
        ('filename ~ "D CARD"', {"old card"}),
        ("filename ~ '%'", set()),
        ("captured between 2024-01-01 and 2024-01-10", {"beach"}),
        ("captured > 2024-01-10", {"city"}),
        ("captured >= 2024-01-10T12:00Z and captured <= 2024-02-10", {"beach", "city"}),
        ("captured < 2024-01-10T14:00+02:00", set()),
        ("missing and failed or profile=fast", {"beach"}),
        ("missing and (failed or profile=fast)", set()),
    ],
)
def test_the_where_language_finds(library, api, where, names):
    answer = rerun(api, where=where, dry_run=False, profile="high_quality")
    assert asked_for(api, answer) == {library[name] for name in names}
    assert (answer["scope"]["videos"], answer["tasks"], answer["next"]) == (len(names), len(names), None)


def test_a_dry_run_tells_how_many_how_long_and_what_is_kept_and_asks_for_nothing(library, api):
    before = api.get("/v1/tasks").json()["total"]
    answer = rerun(api, where="profile<balanced or missing")
    scope = {"videos": 2, "already_asked": 0, "media_ms": 120_000, "kept_runs": 1, "kept_artifacts": 7}
    assert (answer["dry_run"], answer["scope"], answer["asked"]) == (True, scope, [])
    assert (answer["rate"], answer["eta_s"]) == (2.0, 60.0)  # city: 60 s of media in 30 s
    assert rerun(api, profile="high_quality")["eta_s"] is None
    assert api.get("/v1/tasks").json()["total"] == before


def test_nothing_is_asked_for_twice_and_it_goes_on_where_it_stopped(library, api):
    first = rerun(api, dry_run=False, limit=2)
    assert (len(first["asked"]), first["tasks"], first["next"] is not None) == (2, 3, True)
    second = rerun(api, dry_run=False, limit=2, after=first["next"])
    assert (len(second["asked"]), second["next"]) == (1, None)
    again = rerun(api, dry_run=False)
    assert (again["asked"], again["tasks"], again["scope"]["already_asked"]) == ([], 0, 3)
    for task_id in first["asked"]:
        api.post(f"/v1/tasks/{task_id}/cancel")
    assert rerun(api, dry_run=False)["asked"] == []  # ended, but asked for within the last minute
    assert {api.get(f"/v1/tasks/{t}").json()["priority"] for t in first["asked"]} == {"bulk"}
    runs = [api.get(f"/v1/videos/{library[name]}/runs").json()["runs"] for name in ("beach", "city")]
    assert [len(found) for found in runs] == [1, 1]


def test_what_differs_from_the_newest_run_is_outdated(library, api, api_database):
    from infrastructure.event_store.log import PostgresEventLog

    with PostgresEventLog(api_database) as log:
        tenant = api.headers["Eioku-Tenant"]
        api.position = done(log, tenant, library["old card"], profile="balanced", version="3", seconds=5)
    for where in ("outdated", "version!=present", "digest!=present and profile=balanced"):
        answer = rerun(api, where=where)
        assert answer["scope"]["videos"] == 1, where


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("profil<balanced", "'profil' at character 1: there is no test of that name; did you mean profile?"),
        ("missing or profile<best", "'best' at character 20: is none of fast, balanced, high_quality"),
        ("missing failed", "'failed' at character 9: expected and, or, or the end"),
        ("(missing or failed", "it ends too early: expected ) for the ( at character 1"),
        ("missing or", "it ends too early: expected a test"),
        ("captured between 2024-01-01 or 2024-02-01", "'or' at character 29: expected and"),
        ("captured>yesterday", "'yesterday' at character 10: is no date"),
        ("language~de", "'~' at character 9: expected one of = !="),
        ("filename ~ 'open", "\"'\" at character 12 begins nothing"),
        ("not " * 60 + "missing", "nested deeper than 50"),
        ("x" * 2_001, "more than 2000 characters"),
        ("; drop table videos", "';' at character 1: there is no test"),
    ],
)
def test_a_wrong_condition_points_at_the_word(api, where, says):
    from domain.errors import InvalidParameter

    with pytest.raises(InvalidParameter) as refused:
        parse(where)
    assert refused.value.parameter == "where"
    assert says in refused.value.reason


def test_a_wrong_re_run_is_refused_by_name(api):
    for body, name in (
        ({"where": "misssing"}, "where"),
        ({"task_type": "orc"}, "task_type"),
        ({"profile": "best"}, "profile"),
        ({"config": {"every_ms": "soon"}}, "config.every_ms"),
        ({"config": {"x": "y" * 5000}}, "config"),
    ):
        answer = api.post("/v1/rerun", json={"task_type": "ocr", **body})
        assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, name)
