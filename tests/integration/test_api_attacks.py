"""Files and text that were made to stop the API or to read what is nobody's business."""

import json
import os
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from application.handle import handle
from domain.event import Meta
from domain.video import FileFacts, RecordFingerprint, RecordProbe
from infrastructure.event_store.log import PostgresEventLog
from tests.support.media import clip, stills_film
from tests.support.tiny_avi import tiny_avi

SECRET = b"what nobody may read"


@pytest.fixture
def film(api, api_folder, api_database):
    """Makes a file in the media root, registers it and notes its facts as a worker does; gives id and path."""

    def register(make=tiny_avi, width=160, height=120):
        folder = api_folder / uuid.uuid4().hex
        folder.mkdir()
        path = make(folder / "film.avi")
        video_id = api.post("/v1/videos", json={"source": str(path), "pipeline": []}).json()["video_id"]
        facts = FileFacts(
            duration_ms=2_000, container="avi", has_video=True, has_audio=False, width=width, height=height
        )
        meta = Meta(
            at=datetime.now(UTC), tenant_id=api.headers["Eioku-Tenant"], actor="t", correlation_id=uuid.uuid4()
        )
        about = {"stream_id": uuid.UUID(video_id), "meta": meta}
        with PostgresEventLog(api_database) as log:
            print_of = RecordFingerprint(blake3=uuid.uuid4().hex * 2, size_bytes=1, **about)
            api.position = handle(log, print_of, RecordProbe(facts=facts, **about))
        return video_id, path

    return register


def every_use(video_id):
    return (
        f"/v1/videos/{video_id}/stream",
        f"/v1/videos/{video_id}/clip?start_ms=0&end_ms=500",
        f"/v1/videos/{video_id}/poster",
        f"/v1/thumbnails/{video_id}/100",
    )


class Alive:
    """Asks `/health/live` without end, for the block; afterwards tells how long the slowest answer took."""

    def __init__(self, api):
        self._url, self._stop, self.slowest_s, self.asked = str(api.base_url), threading.Event(), 0.0, 0
        self._thread = threading.Thread(target=self._ask)

    def _ask(self):
        with httpx.Client(base_url=self._url, timeout=60) as client:
            while not self._stop.is_set():
                began = time.monotonic()
                assert client.get("/health/live").status_code == 200
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)
                self.asked += 1
                time.sleep(0.01)

    def __enter__(self):
        self._thread.start()
        while not self.asked and self._thread.is_alive():
            time.sleep(0.01)
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


# ---- text --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/vtt", b"WEBVTT\n\n00:00.000 --> 00:01.000\n<v" + b".a" * 40 + b"\n"),
        ("text/vtt", b"WEBVTT\n\n00:00.000 --> 00:01.000\n<v" + b" " * 900_000 + b"\n"),
        ("application/x-subrip", b"00:00:00,000 --> 00:00:01,000\n" + b"{\\" * 400_000 + b"\n"),
        ("text/vtt", b"WEBVTT\n\n" + b"\n\n00:00.000 --> 00:01.000\nx" * 30_000),
    ],
)
def test_subtitles_that_hung_the_api_are_read_while_it_answers(api, film, kind, body):
    video_id, _ = film()
    with Alive(api) as alive:
        answer = api.post(
            f"/v1/videos/{video_id}/imports", content=body, headers={"Content-Type": kind}, timeout=60
        )
    assert answer.status_code in (201, 422), answer.text[:300]
    assert alive.asked


SPOKEN = {"artifact_type": "transcript.segment", "span_start_ms": 0, "span_end_ms": 1, "payload": {"text": "spoken"}}
IMPORT = {"producer": "a", "producer_version": "1", "artifacts": [SPOKEN]}


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", b'{"producer": "\xff"}', 400),
        ("application/json", b"\xff\xfe", 400),
        ("application/json", json.dumps(IMPORT).encode().replace(b"spoken", b"\xc3\x28"), 400),
        ("application/json", json.dumps(IMPORT).encode(), 201),
        ("application/json", b'{"producer":"a","producer_version":"1","config":{"\xed\xa0\x80":1},"artifacts":[]}', 400),
        ("text/vtt", b"WEBVTT\n\n00:00.000 --> 00:01.000\n\xff", 400),
        ("application/x-subrip", b"\xff\xfe1\x00", 400),
        ("text/vtt", b"WEBVTT\n\n" + b"00:00.000 --> 00:01.000\nx\n\n" * 10, 201),
    ],
)  # fmt: skip
def test_a_body_that_is_no_utf_8_is_malformed(api, film, kind, body, status):
    video_id, _ = film()
    answer = api.post(f"/v1/videos/{video_id}/imports", content=body, headers={"Content-Type": kind})
    assert answer.status_code == status, answer.text


# ---- files put in place of registered ones -----------------------------------------------------------------------


@pytest.mark.parametrize("attack", ["symlink", "folder", "fifo", "device", "proc", "gone", "directory"])
def test_what_was_put_in_place_of_a_registered_file_is_never_read(api, film, tmp_path, attack):
    video_id, path = film()
    assert api.get(f"/v1/videos/{video_id}/stream").status_code == 200
    (tmp_path / "film.avi").write_bytes(SECRET)
    path.unlink()
    match attack:
        case "symlink":
            path.symlink_to(tmp_path / "film.avi")
        case "folder":
            path.parent.rmdir()
            path.parent.symlink_to(tmp_path)
        case "fifo":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "proc":
            path.symlink_to("/proc/self/environ")
        case "directory":
            path.mkdir()
    for url in every_use(video_id):
        answer = api.get(url)
        assert answer.status_code == 404, (url, answer.text)
        assert SECRET not in answer.content


def test_twenty_fifos_hold_up_nobody(api, film):
    videos = [film() for _ in range(20)]
    for _, path in videos:
        path.unlink()
        os.mkfifo(path)
    with Alive(api) as alive, ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda v: httpx.get(
            f"{api.base_url}/v1/videos/{v[0]}/stream", headers=api.headers, timeout=60), videos))  # fmt: skip
    assert {answer.status_code for answer in answers} == {404}
    assert alive.asked
    ready = api.get("/health/ready").json()
    assert "postgres" not in [flaw.get("parameter") for flaw in ready.get("errors", [])], ready


# ---- pictures ----------------------------------------------------------------------------------------------------


def huge(path):
    return stills_film(path, [(9_000, 9_000)])


def lies(path):
    return stills_film(path, [(9_000, 9_000)], said=(160, 120))


def thin(path):
    return stills_film(path, [(1, 30_000)] * 3)


def high(path):
    return stills_film(path, [(2, 16_384)] * 3)


@pytest.mark.parametrize(
    ("make", "size"), [(huge, (9_000, 9_000)), (lies, (160, 120)), (thin, (1, 30_000)), (high, (2, 16_384))]
)
def test_pictures_of_odd_sizes_give_a_picture_or_a_problem(api, film, make, size):
    video_id, path = film(make, *size)
    for url in every_use(video_id)[1:]:
        answer = api.get(url)
        assert answer.status_code in (200, 404, 422), (url, answer.text)
        if answer.status_code != 200:
            assert answer.json()["detail"]
    clip_of = api.get(every_use(video_id)[1])
    assert make is high or (clip_of.status_code == 422 and str(path) in clip_of.json()["detail"])


def test_the_api_itself_loads_no_decoder():
    import subprocess
    import sys

    code = "import api.app, sys; print(sorted({'av', 'cv2', 'torch'} & set(sys.modules)))"
    assert subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip() == "[]"  # fmt: skip


# ---- sources, names and ids --------------------------------------------------------------------------------------


ODD = [
    "http://[::1", "file://[/x", "file:///" + "x" * 300, "https://a/..%2fb", "https://a/%00", "https://a/%0d%0ab",
    "https://a/%3F", "s3://films/holiday/a%2f..%2f..%2fb", "s3://films/holiday/%00.mp4", "s3://films/holiday/%0d%0a.mp4",
    "s3://films/holiday/%3F.mp4", "s3://films/holiday//", "s3://films/holiday/" + "x" * 3_000, "http://127.0.0.1:99999/a",
    "s3://[/a", "://", "file:", "file://", "//", "/\ud800".encode("utf-8", "surrogatepass").decode("utf-8", "replace"),
    "http://a:b:c/", "HTTP://127.0.0.1/x", "file:///proc/self/environ", "file://localhost/etc/passwd", "/" + "a/" * 2_000,
    "\x7f", "s3://films/holiday/\u202e.mp4", "s3://films/holiday/%ff%fe.mp4", "file:///%2e%2e/%2e%2e/etc/passwd", "[", "http://",
]  # fmt: skip


@pytest.mark.parametrize("source", ODD)
def test_an_odd_source_is_taken_or_refused(api, api_folder, source):
    for address in (source, f"{api_folder}/{source}", f"file://{api_folder}/{source}"):
        answer = api.post("/v1/videos", json={"source": address, "pipeline": []})
        assert answer.status_code in (202, 400, 413, 422), (address, answer.text)
        answer = api.post("/v1/discover", json={"root": address})
        assert answer.status_code in (202, 400, 422), (address, answer.text)


PIECES = st.sampled_from(
    ["/", "..", "%2f", "%2e", "%00", "%0d%0a", "%3F", "%", "[", "]", ":", "@", "?", "#", "\\", "\x00", "\n", "é", "a", "\u202e",
     "file://", "http://", "https://", "s3://films/holiday/", "s3://", "//", "127.0.0.1", "::1", "localhost", " ", "x" * 300]
)  # fmt: skip
SOURCES = st.lists(PIECES, max_size=8).map("".join) | st.text(max_size=50)


@given(
    sources=st.tuples(SOURCES, st.integers(0, 2)),
    name=st.none() | st.text(max_size=300),
    chosen=st.uuids() | st.text(max_size=10),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_odd_sources_names_and_ids_never_bring_a_server_error(api, api_folder, sources, name, chosen):
    """An answer of 503 for a store that is not there is right; nothing is asked of a store when it is registered."""
    source = ("", f"{api_folder}/", "s3://films/holiday/")[sources[1]] + sources[0]
    address = f"/v1/videos/{quote(str(chosen), safe='')}"
    answers = [
        api.post("/v1/videos", json={"source": source, "filename": name, "pipeline": []}),
        api.put(address, json={"source": source, "pipeline": []}),
        api.post("/v1/discover", json={"root": source}),
        api.post(f"{address}/imports", content=source.encode(), headers={"Content-Type": "text/vtt"}),
        api.post(f"{address}/imports", content=source.encode()),
        api.get(f"{address}/stream", headers={"Range": f"bytes={(name or 'x').encode('ascii', 'replace').decode()}".translate(
            dict.fromkeys([*range(32), 127])).strip()}),
        api.get(f"/v1/thumbnails/{address.rsplit('/', 1)[-1]}/0"),
    ]  # fmt: skip
    for answer in answers:
        of_a_store = answer.request.method == "GET" and "cannot be fetched" in answer.text
        assert answer.status_code < 500 or of_a_store, (source, answer.text)


# ---- uploads -----------------------------------------------------------------------------------------------------


def kept(api_folder, api, video_id):
    folder = api_folder / "data" / "uploads" / api.headers["Eioku-Tenant"] / str(video_id)
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder.exists() else []


@pytest.mark.parametrize("contents", [2, 3, 6])
@pytest.mark.parametrize("is_named_alike", [True, False])
def test_uploads_at_once_under_one_id_have_one_winner_whose_file_is_right(api, api_folder, contents, is_named_alike):
    for _ in range(3):
        video_id = uuid.uuid4()

        def put(number, video_id=video_id):
            name = "film.avi" if is_named_alike else f"film-{number}.avi"
            return number, httpx.put(
                f"{api.base_url}/v1/videos/{video_id}",
                headers=api.headers,
                files={"file": (name, f"content {number % contents}".encode() * 1_000)},
                data={"pipeline": ""},
                timeout=60,
            )

        with ThreadPoolExecutor(2 * contents) as pool:
            answers = list(pool.map(put, range(2 * contents)))
        assert {answer.status_code for _, answer in answers} == {202, 409}, [a.text for _, a in answers]
        winners = [number for number, answer in answers if answer.status_code == 202]
        (file,) = kept(api_folder, api, video_id)
        assert {file.read_bytes()} == {f"content {n % contents}".encode() * 1_000 for n in winners}
        streamed = httpx.get(f"{api.base_url}/v1/videos/{video_id}/stream", headers=api.headers, params={
            "min_position": max(int(a.headers.get("Eioku-Position", 0)) for _, a in answers)})  # fmt: skip
        assert streamed.content == file.read_bytes()


def test_a_loser_that_was_there_before_leaves_nothing_and_takes_nothing(api, api_folder):
    video_id = uuid.uuid4()

    def put(content, name="a.avi"):
        return api.put(
            f"/v1/videos/{video_id}", files={"file": (name, content)}, data={"pipeline": "", "filename": name}
        ).status_code

    assert [put(b"one"), put(b"two"), put(b"one"), put(b"one", "b.avi"), put(b"one")] == [202, 409, 202, 409, 202]
    (file,) = kept(api_folder, api, video_id)
    assert file.read_bytes() == b"one"


def test_a_clip_of_a_real_film_still_comes(api, film):
    video_id, _ = film(lambda path: clip(path, container="mp4"))
    for url in every_use(video_id):
        assert api.get(url).status_code == 200, url
