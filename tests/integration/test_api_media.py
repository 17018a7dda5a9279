"""Streams, clips, thumbnails, uploads."""

import io
import socket
import time
import uuid
from datetime import UTC, datetime
from itertools import pairwise
from urllib.parse import urlsplit

import av
import httpx
import pytest
from PIL import Image

from application.handle import handle
from domain.event import Meta
from domain.video import FileFacts, RecordFingerprint, RecordProbe
from infrastructure.event_store.log import PostgresEventLog
from infrastructure.media.pictures import Pictures
from infrastructure.media.source_cache import PIECE
from tests.support.api_server import running_api
from tests.support.tiny_avi import tiny_avi

ODD_NAMES = [
    "a b.avi",
    "quo\"te'.avi",
    "日本語.avi",
    "new\tline.avi",
    "%00%2e.avi",
    "x" * 240 + ".avi",
    "-rf;$(x).avi",
    "é\u0301ß.AVI",
]


@pytest.fixture
def film(api, api_folder):
    """Registers a file of the media root; gives the video's id."""

    def register(name, content=None):
        folder = api_folder / uuid.uuid4().hex
        folder.mkdir()
        path = folder / name
        if content is None:
            tiny_avi(path, uuid.uuid4().hex)
        else:
            path.write_bytes(content)
        answer = api.post("/v1/videos", json={"source": str(path), "pipeline": []})
        assert answer.status_code in (202, 422), answer.text
        return answer.json().get("video_id"), path

    return register


@pytest.fixture
def probed(api, api_database):
    """Notes a duration for a video, as the metadata worker does."""

    def probe(video_id, duration_ms):
        facts = FileFacts(
            duration_ms=duration_ms, container="avi", has_video=True, has_audio=False, width=768, height=432
        )
        meta = Meta(
            at=datetime.now(UTC),
            tenant_id=api.headers["Eioku-Tenant"],
            actor="test",
            correlation_id=uuid.uuid4(),
        )
        about = {"stream_id": uuid.UUID(video_id), "meta": meta}
        with PostgresEventLog(api_database) as log:
            api.position = handle(
                log,
                RecordFingerprint(blake3=blake3_of(video_id), size_bytes=1, **about),
                RecordProbe(facts=facts, **about),
            )

    return probe


def blake3_of(video_id):
    """A content of its own for each video of a test."""
    return uuid.UUID(video_id).hex * 2


def opened(body):
    return av.open(io.BytesIO(body))


# ---- sources that lie elsewhere ----------------------------------------------------------------------------------


def test_a_video_that_lies_elsewhere_is_shown_from_a_copy(api, api_folder, elsewhere, probed):
    whole = tiny_avi(elsewhere.folder / "film.avi", "elsewhere").read_bytes()
    registered = api.post("/v1/videos", json={"source": f"{elsewhere.url}/film.avi", "pipeline": []})
    video_id = registered.json()["video_id"]
    probed(video_id, 2_000)
    elsewhere.asked.clear()
    part = api.get(f"/v1/videos/{video_id}/stream", headers={"Range": "bytes=4-9"})
    assert (part.status_code, part.content) == (206, whole[4:10])
    (copy,) = (api_folder / "data" / "sources").glob("*.avi")
    inode = copy.stat().st_ino
    assert opened(
        api.get(f"/v1/videos/{video_id}/clip", params={"start_ms": 0, "end_ms": 500}).content
    ).duration
    assert api.get(f"/v1/thumbnails/{video_id}/100").headers["content-type"] == "image/webp"
    assert (copy.stat().st_ino, len(elsewhere.asked)) == (inode, 3), "asked each time, copied once"


@pytest.mark.parametrize(
    ("name", "status", "code"), [("gone", 404, "MEDIA_MISSING"), ("broken", 503, "UNAVAILABLE")]
)
def test_a_video_elsewhere_that_cannot_be_had_is_a_clear_problem(api, elsewhere, name, status, code):
    made = api.post("/v1/videos", json={"source": f"{elsewhere.url}/{name}.avi", "pipeline": []}).json()
    for what in ("stream", "clip?start_ms=0&end_ms=10"):
        answer = api.get(f"/v1/videos/{made['video_id']}/{what}")
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert f"{elsewhere.url}/{name}.avi" in answer.json()["detail"]


def test_a_fetch_ends_when_the_client_goes_away(api, api_folder, elsewhere):
    (elsewhere.folder / "slow.avi").write_bytes(bytes(PIECE + 1))
    elsewhere.go_on.clear()
    made = api.post("/v1/videos", json={"source": f"{elsewhere.url}/slow.avi", "pipeline": []}).json()
    api.get("/v1/videos")  # the read models are there
    url = urlsplit(str(api.base_url))
    with socket.create_connection((url.hostname, url.port)) as client:
        head = f"GET /v1/videos/{made['video_id']}/stream HTTP/1.1\r\nHost: localhost\r\nEioku-Tenant: {api.headers['Eioku-Tenant']}\r\n\r\n"
        client.sendall(head.encode())
        folder, end = api_folder / "data" / "sources", time.monotonic() + 20
        while not (parts := list(folder.glob("*.part"))):
            assert time.monotonic() < end
    elsewhere.go_on.set()
    while parts[0].exists():
        assert time.monotonic() < end
    assert not [copy for copy in folder.glob("*.avi") if copy.stat().st_size == PIECE + 1]


# ---- streams -----------------------------------------------------------------------------------------------------


def test_a_stream_gives_the_file_its_parts_and_its_head(api, film):
    video_id, path = film("a.avi")
    whole, url = path.read_bytes(), f"/v1/videos/{video_id}/stream"
    answer = api.get(url)
    assert (answer.status_code, answer.content) == (200, whole)
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-type"] in ("video/x-msvideo", "video/vnd.avi")
    for said, first, last in (
        ("bytes=0-3", 0, 3),
        ("bytes=100-", 100, len(whole) - 1),
        ("bytes=-7", len(whole) - 7, len(whole) - 1),
    ):
        part = api.get(url, headers={"Range": said})
        assert (part.status_code, part.content) == (206, whole[first : last + 1])
        assert part.headers["content-range"] == f"bytes {first}-{last}/{len(whole)}"
    head = api.head(url)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(whole)))
    beyond = api.get(url, headers={"Range": f"bytes={len(whole)}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(whole)}")
    assert beyond.json()["code"] == "RANGE_NOT_SATISFIABLE"
    fresh = {"Range": "bytes=0-3", "If-Range": answer.headers["etag"]}
    stale = {"Range": "bytes=0-3", "If-Range": '"other"'}
    assert (api.get(url, headers=fresh).status_code, api.get(url, headers=stale).status_code) == (206, 200)


def test_a_file_that_went_away_is_a_problem(api, film):
    video_id, path = film("a.avi")
    path.unlink()
    for what in ("stream", "clip?start_ms=0&end_ms=9"):
        answer = api.get(f"/v1/videos/{video_id}/{what}")
        assert (answer.status_code, answer.json()["code"]) == (404, "MEDIA_MISSING")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_file_name_can_be_streamed_and_clipped(api, film, name):
    video_id, path = film(name)
    assert api.get(f"/v1/videos/{video_id}").json()["filename"] == name
    streamed = api.get(f"/v1/videos/{video_id}/stream")
    assert streamed.content == path.read_bytes()
    clip = api.get(f"/v1/videos/{video_id}/clip", params={"start_ms": 0, "end_ms": 900, "buffer_ms": 0})
    assert clip.status_code == 200, clip.text
    assert clip.headers["content-disposition"].startswith("attachment; filename=")
    with opened(clip.content) as container:
        assert container.streams.video


# ---- clips -------------------------------------------------------------------------------------------------------


def test_a_clip_is_cut_exactly_and_clamped(api, film, probed):
    video_id, _ = film("a.avi")
    url = f"/v1/videos/{video_id}/clip"
    for unclamped in (False, True):
        if unclamped:
            probed(video_id, 2_000)
        clip = api.get(url, params={"start_ms": 500, "end_ms": 1_500, "buffer_ms": 0})
        assert clip.headers["content-type"] == "video/mp4"
        with opened(clip.content) as container:
            times = [float(f.time) for f in container.decode(video=0)]
        assert times == pytest.approx([0, 0.5], abs=0.01)
    name = api.get(url, params={"start_ms": 1_000, "end_ms": 9_999, "buffer_ms": 0}).headers[
        "content-disposition"
    ]
    assert "a_0m1s-0m2s.mp4" in name
    behind = api.get(url, params={"start_ms": 5_000, "end_ms": 6_000, "buffer_ms": 0})
    assert (behind.status_code, behind.json()["errors"][0]["parameter"]) == (422, "start_ms")


def test_a_clip_of_real_media_has_pictures_of_the_right_length(api, api_folder, street):
    path = api_folder / f"{uuid.uuid4()}.mp4"
    path.symlink_to(street)
    copy = api_folder / f"{uuid.uuid4()}.mp4"
    copy.write_bytes(path.read_bytes())
    video_id = api.post("/v1/videos", json={"source": str(copy), "pipeline": []}).json()["video_id"]
    clip = api.get(
        f"/v1/videos/{video_id}/clip", params={"start_ms": 10_050, "end_ms": 12_050, "buffer_ms": 0}
    )
    with opened(clip.content) as container:
        frames = [float(f.time) for f in container.decode(video=0)]
        assert container.duration / 1e6 == pytest.approx(2, abs=0.05)
    assert frames[0] == 0
    assert all(a < b for a, b in pairwise(frames))
    assert frames[-1] < 2


def test_a_clip_of_sound_only_is_sound_only(api, api_folder, jfk):
    copy = api_folder / f"{uuid.uuid4()}.flac"
    copy.write_bytes(jfk.read_bytes())
    video_id = api.post("/v1/videos", json={"source": str(copy), "pipeline": []}).json()["video_id"]
    clip = api.get(f"/v1/videos/{video_id}/clip", params={"start_ms": 1_000, "end_ms": 3_000, "buffer_ms": 0})
    with opened(clip.content) as container:
        assert not container.streams.video
        samples = sum(f.samples for f in container.decode(audio=0))
        assert samples / container.streams.audio[0].rate == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize("content", [b"", b"hello, I am a text", b"RIFF\0\0\0\0AVI LIST"])
def test_what_is_no_video_gives_a_problem_not_an_empty_clip(api, film, content):
    video_id, _ = film("text.mp4", content)
    answer = api.get(f"/v1/videos/{video_id}/clip", params={"start_ms": 0, "end_ms": 900})
    assert (answer.status_code, answer.json()["code"]) == (422, "MEDIA_UNREADABLE")


@pytest.mark.parametrize("end_ms", [10**9, 10**30])
def test_a_clip_ends_with_the_file_also_when_nobody_has_probed_it(api, film, end_ms):
    video_id, _ = film("a.avi")
    answer = api.get(f"/v1/videos/{video_id}/clip", params={"start_ms": 0, "end_ms": end_ms})
    assert answer.status_code == 200, answer.text
    assert "a_0m0s-0m2s.mp4" in answer.headers["content-disposition"]


def test_a_clip_has_a_longest_length(database, tmp_path):
    tiny_avi(tmp_path / "a.avi")
    with (
        running_api(database, tmp_path, max_clip_ms=1_000) as url,
        httpx.Client(base_url=url) as client,
    ):
        made = client.post("/v1/videos", json={"source": str(tmp_path / "a.avi"), "pipeline": []})
        video = f"/v1/videos/{made.json()['video_id']}?min_position={made.headers['eioku-position']}"
        assert client.get(video).status_code == 200
        clip = client.get(
            f"/v1/videos/{made.json()['video_id']}/clip", params={"start_ms": 0, "end_ms": 1_500}
        )
    assert (clip.status_code, clip.json()["errors"][0]["parameter"]) == (422, "end_ms")


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"start_ms": 5, "end_ms": 5}, "end_ms"),
        ({"start_ms": 0}, "end_ms"),
        ({"start_ms": 10**9, "end_ms": 10**30}, "start_ms"),
        ({"start_ms": "a", "end_ms": 9}, "start_ms"),
        ({"start_ms": 0, "end_ms": 9, "buffer_ms": -1}, "buffer_ms"),
    ],
)
def test_a_senseless_clip_is_refused_by_name(api, film, params, named):
    video_id, _ = film("a.avi")
    answer = api.get(f"/v1/videos/{video_id}/clip", params=params)
    assert answer.status_code == 422, answer.text
    assert named in answer.json()["detail"]


# ---- thumbnails --------------------------------------------------------------------------------------------------


def test_a_thumbnail_is_made_once_the_duration_is_known(api, api_folder, probed, street):
    copy = api_folder / f"{uuid.uuid4()}.mp4"
    copy.write_bytes(street.read_bytes())
    video_id = api.post("/v1/videos", json={"source": str(copy), "pipeline": []}).json()["video_id"]
    url = f"/v1/thumbnails/{video_id}"
    assert api.get(f"{url}/1000").json()["code"] == "THUMBNAIL_NOT_FOUND"
    probed(video_id, 60_000)
    answer = api.get(f"{url}/1000")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
    assert answer.headers["cache-control"] == "public, max-age=604800"
    picture = Image.open(io.BytesIO(answer.content))
    assert (picture.format, picture.width) == ("WEBP", 320)
    copy.unlink()
    assert api.get(f"{url}/1000").content == answer.content, "kept, though the file is gone"
    assert api.get(f"{url}/2000").status_code == 404
    assert api.get(f"{url}/60000").status_code == 404
    for bad in ("abc", "-1", "1.5", str(2**31), "%00"):
        assert api.get(f"{url}/{bad}").status_code == 422


def test_a_picture_that_the_client_has_is_not_sent_again(api, api_folder, probed, street):
    copy = api_folder / f"{uuid.uuid4()}.mp4"
    copy.write_bytes(street.read_bytes())
    video_id = api.post("/v1/videos", json={"source": str(copy), "pipeline": []}).json()["video_id"]
    assert api.get(f"/v1/videos/{video_id}").json()["poster_url"] is None
    assert api.get(f"/v1/videos/{video_id}/poster").json()["code"] == "NO_MATCH"
    probed(video_id, 60_000)
    poster = f"/v1/videos/{video_id}/poster"
    assert api.get(f"/v1/videos/{video_id}").json()["poster_url"] == poster
    for url, width in ((f"/v1/thumbnails/{video_id}/1000", 320), (poster, 640)):
        first = api.get(url)
        assert (first.status_code, first.headers["content-type"]) == (200, "image/webp")
        assert Image.open(io.BytesIO(first.content)).width == width
        for known in (first.headers["etag"], f'"other", W/{first.headers["etag"]}', "*"):
            again = api.get(url, headers={"If-None-Match": known})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == first.headers["etag"]
            assert again.headers["cache-control"] == "public, max-age=604800"
        assert api.get(url, headers={"If-None-Match": '"other"'}).content == first.content
    copy.unlink()
    assert api.get(poster).status_code == 200, "kept, though the file is gone"
    for nothing in ("sprites.vtt", "sprites/0"):
        missing = api.get(f"/v1/videos/{video_id}/{nothing}")
        assert (missing.status_code, missing.json()["code"]) == (404, "NO_MATCH")
        assert api.get(f"/v1/videos/{uuid.uuid4()}/{nothing}").json()["code"] == "VIDEO_NOT_FOUND"
    assert api.get(f"/v1/videos/{video_id}/sprites/-1").status_code == 422


def test_a_disk_that_takes_no_thumbnail_is_said_to_be_the_reason(api, api_folder, probed, street):
    copy = api_folder / f"{uuid.uuid4()}.mp4"
    copy.write_bytes(street.read_bytes())
    video_id = api.post("/v1/videos", json={"source": str(copy), "pipeline": []}).json()["video_id"]
    probed(video_id, 60_000)
    obstacle = Pictures(api_folder / "data" / "thumbnails", blake3_of(video_id)).folder
    obstacle.parent.mkdir(parents=True, exist_ok=True)
    obstacle.touch()  # where a folder would have to be
    refused = api.get(f"/v1/thumbnails/{video_id}/1000")
    assert (refused.status_code, refused.json()["code"]) == (503, "UNAVAILABLE")
    assert "cannot be stored" in refused.json()["detail"]
    obstacle.unlink()
    assert api.get(f"/v1/thumbnails/{video_id}/1000").status_code == 200


# ---- uploads -----------------------------------------------------------------------------------------------------


def test_an_upload_becomes_a_video_with_its_bytes(api, tmp_path):
    content = tiny_avi(tmp_path / "x.avi").read_bytes()
    form = {"collection": "holiday", "file_created_at": "2025-01-01T00:00:00Z", "pipeline": ""}
    answer = api.post("/v1/videos", files={"file": ("../../Strand ü.avi", content)}, data=form)
    assert answer.status_code == 202, answer.text
    video = api.get(answer.headers["Location"]).json()
    assert (video["filename"], video["collection"], video["pipeline"]) == ("Strand ü.avi", "holiday", [])
    assert video["file_created_at"] == "2025-01-01T00:00:00Z"
    assert "/data/uploads/" in video["source"]
    assert api.get(f"/v1/videos/{video['video_id']}/stream").content == content


def test_an_upload_with_a_key_is_stored_once_whatever_the_boundary(api, tmp_path, api_folder):
    content = tiny_avi(tmp_path / "x.avi").read_bytes()
    headers = {"Idempotency-Key": "k"}
    first, again = (
        api.post("/v1/videos", files={"file": ("a.avi", content)}, data={"pipeline": ""}, headers=headers)
        for _ in range(2)
    )
    assert (first.status_code, again.status_code, first.json()) == (202, 202, again.json())
    assert first.headers["Eioku-Position"] == again.headers["Eioku-Position"]
    other = api.post(
        "/v1/videos", files={"file": ("a.avi", content + b"x")}, data={"pipeline": ""}, headers=headers
    )
    assert (other.status_code, other.json()["code"]) == (409, "IDEMPOTENCY_MISMATCH")
    assert not list((api_folder / "data" / "uploads" / ".incoming").iterdir())


def test_the_same_upload_under_one_id_changes_nothing_and_another_is_refused(api, tmp_path):
    url, content = f"/v1/videos/{uuid.uuid4()}", tiny_avi(tmp_path / "x.avi").read_bytes()
    for _ in range(2):
        assert api.put(url, files={"file": ("a.avi", content)}, data={"pipeline": ""}).status_code == 202
    other = api.put(url, files={"file": ("a.avi", content + b"x")}, data={"pipeline": ""})
    assert (other.status_code, other.json()["code"]) == (409, "CONTENT_MISMATCH")
    assert api.get(f"{url}/stream").content == content


def test_too_large_an_upload_is_refused_and_leaves_nothing(api, api_folder):
    for length in (True, False):
        body = (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.avi"\r\n\r\n' + b"x" * 3_000_000
        )
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        content = body if length else iter([body[:1_500_000], body[1_500_000:]])
        answer = api.post("/v1/videos", content=content, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (413, "TOO_LARGE")
    waiting = api_folder / "data" / "uploads" / ".incoming"
    assert not waiting.exists() or not list(waiting.iterdir())


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.avi"\r\n\r\nxx',
            "multipart/form-data; boundary=b",
            400,
        ),
        (b"nonsense", "multipart/form-data; boundary=b", 400),
        (b"", "multipart/form-data; boundary=b", 400),
        (b"--b--\r\n", "multipart/form-data; boundary=b", 422),
        (b"--b--\r\n", "multipart/form-data", 400),
        (
            b'--b\r\nContent-Disposition: form-data; name="x"; filename="a"\r\n\r\nx\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
            422,
        ),
        (b"a=b", "application/x-www-form-urlencoded", 415),
    ],
)
def test_a_broken_form_is_a_problem(api, body, kind, status):
    answer = api.post("/v1/videos", content=body, headers={"Content-Type": kind})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), (
        answer.text
    )
