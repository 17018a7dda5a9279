"""A random walk of a hostile client that may also write into the media folder: the API lives on and reads nothing else."""

import os
import shutil
import uuid
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.integration.test_api_attacks import ODD, SECRET, SOURCES, Alive, every_use, film, kept
from tests.support.media import clip, stills_film
from tests.support.tiny_avi import tiny_avi

__all__ = ["film"]
MAKES = (
    tiny_avi,
    lambda path: clip(path, container="mp4"),
    lambda path: stills_film(path, [(9_000, 9_000)], said=(160, 120)),
    lambda path: stills_film(path, [(1, 30_000)]),
    lambda path: path.write_bytes(os.urandom(1_000)) and path,
    lambda path: path.write_bytes(b"") or path,
)


class Attack(RuleBasedStateMachine):
    """What an attacker does; after each step the answer is looked at."""

    api: httpx.Client
    register: object
    outside: Path
    folder: Path

    def __init__(self):
        super().__init__()
        self.videos = [self.register()]

    def see(self, answer):
        assert answer.status_code < 500, (answer.request.method, str(answer.request.url), answer.text[:500])
        assert SECRET not in answer.content

    @precondition(lambda self: len(self.videos) < 4)
    @rule(make=st.sampled_from(MAKES[:2]))
    def a_film_is_registered(self, make):
        self.videos.append(self.register(make))

    @rule(number=st.integers(0, 3), attack=st.sampled_from(
        ["symlink", "symlink to a film", "device", "proc", "fifo", "folder", "gone", "parent"]))  # fmt: skip
    def something_is_put_in_its_place(self, number, attack):
        path = self.videos[number % len(self.videos)][1]
        self.clear(path)
        match attack:
            case "symlink":
                path.symlink_to(self.outside / "film.avi")
            case "symlink to a film":
                path.symlink_to(self.videos[0][1])
            case "device":
                path.symlink_to("/dev/zero")
            case "proc":
                path.symlink_to("/proc/self/environ")
            case "fifo":
                os.mkfifo(path)
            case "folder":
                path.mkdir()
            case "parent":
                shutil.rmtree(path.parent)
                path.parent.symlink_to(self.outside)

    @rule(number=st.integers(0, 3), make=st.sampled_from(MAKES))
    def another_file_is_put_in_its_place(self, number, make):
        path = self.videos[number % len(self.videos)][1]
        self.clear(path)
        make(path)

    @staticmethod
    def clear(path):
        if path.parent.is_symlink():
            path.parent.unlink()
        path.parent.mkdir(exist_ok=True)
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        path.unlink(missing_ok=True)

    @rule(number=st.integers(0, 3), start=st.sampled_from([None, "bytes=0-", "bytes=-5", "bytes=99999-", "x"]))
    def it_is_used(self, number, start):
        for url in every_use(self.videos[number % len(self.videos)][0]):
            self.see(self.api.get(url, headers={"Range": start} if start else {}))

    @rule(source=st.sampled_from(ODD) | SOURCES, is_below=st.booleans())
    def an_odd_source_is_registered(self, source, is_below):
        source = f"{self.folder}/{source}" if is_below else source
        self.see(self.api.post("/v1/videos", json={"source": source, "pipeline": []}))
        self.see(self.api.post("/v1/discover", json={"root": source}))

    @rule(number=st.integers(0, 3), body=st.binary(max_size=200), kind=st.sampled_from(
        ["text/vtt", "application/x-subrip", "application/json", "multipart/form-data; boundary=x", "x"]))  # fmt: skip
    def an_odd_body_is_sent(self, number, body, kind):
        video_id = self.videos[number % len(self.videos)][0]
        body = b"WEBVTT\n\n00:00.000 --> 00:01.000\n" + body if kind == "text/vtt" else body
        for method, url in (
            ("POST", f"/v1/videos/{video_id}/imports"),
            ("POST", "/v1/videos"),
            ("PUT", f"/v1/videos/{video_id}"),
        ):
            self.see(self.api.request(method, url, content=body, headers={"Content-Type": kind}))

    @rule(content=st.binary(max_size=200), name=st.text(max_size=20))
    def two_uploads_meet_under_one_id(self, content, name):
        video_id = uuid.uuid4()
        for each in (content, content + b"other"):
            files = {"file": (name or "x", each)}
            self.see(self.api.put(f"/v1/videos/{video_id}", files=files, data={"pipeline": ""}))
        assert len(kept(self.folder, self.api, video_id)) <= 1


@pytest.mark.usefixtures("api_folder")
def test_a_random_walk_of_attacks_leaves_the_api_alive_and_what_is_outside_unread(api, api_folder, film, tmp_path):
    (tmp_path / "film.avi").write_bytes(SECRET)
    known = {"api": api, "register": staticmethod(film), "outside": tmp_path, "folder": api_folder}
    machine = type("Walk", (Attack,), known)
    with Alive(api) as alive:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=8,
                stateful_step_count=15,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    print(f"/health/live: {alive.asked} answers, the slowest after {alive.slowest_s * 1000:.0f} ms")
    assert alive.asked > 1
