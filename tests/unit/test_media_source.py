"""Sources that lie elsewhere become files here, within bounds."""

import os
import threading
import time
from collections.abc import Iterator
from fcntl import LOCK_SH, flock
from pathlib import Path

import pytest

from domain.errors import JobCancelled, MediaMissing, MediaUnreadable, ServiceUnavailable, TooLarge
from infrastructure.media.source_cache import PIECE, SourceCache, localised, make_room
from tests.support.http_files import Files, serving


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "film.mp4").write_bytes(b"x" * 1000)
    with serving(folder) as files:
        yield files


@pytest.fixture
def cache(tmp_path: Path) -> SourceCache:
    return SourceCache(folder=tmp_path / "sources", max_bytes=10_000)


def copies(cache: SourceCache) -> list[Path]:
    return [path for path in cache.folder.iterdir() if path.name != ".lock"]


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("/films/a b.mp4", "/films/a b.mp4"),
        ("file:///films/a%20b.mp4", "/films/a b.mp4"),
        ("file:/films/a.mp4", "/films/a.mp4"),
        ("/films/100%25.mp4", "/films/100%25.mp4"),
    ],
)
def test_local_sources_are_taken_as_they_are(cache, source, path):
    with localised(source, cache) as found:
        assert found == Path(path)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("ftp://host/a.mp4", "only paths and file, s3, gs, az and https URLs"),
        ("a.mp4", "only paths"),
        ("http://films.example/a.mp4", "plain http is for addresses of this machine"),
        ("http://127.0.0.1.example/a.mp4", "plain http"),
        ("https://films.example/a.mp4?signature=x", "a query"),
    ],
)
def test_what_is_not_read_is_refused_before_anything_is_asked(cache, source, why):
    with pytest.raises(MediaUnreadable, match=why), localised(source, cache):
        pass


def test_an_object_is_fetched_once_and_again_when_it_changes(files, cache):
    source = f"{files.url}/film.mp4"
    with localised(source, cache) as first:
        assert (first.read_bytes(), first.suffix) == (b"x" * 1000, ".mp4")
    first.write_bytes(b"the copy")
    with localised(source, cache) as again:
        assert again.read_bytes() == b"the copy"
    (files.folder / "film.mp4").write_bytes(b"y" * 1001)
    with localised(source, cache) as changed:
        assert changed.read_bytes() == b"y" * 1001


def test_a_copy_whose_version_the_server_does_not_tell_is_not_used_again(files, cache):
    film = files.folder / "undated.mp4"
    for content in (b"1", b"2"):
        film.write_bytes(content)
        with localised(f"{files.url}/undated.mp4", cache) as path:
            assert path.read_bytes() == content


@pytest.mark.parametrize("name", ["a b.mp4", "ü [1]~#?&+%25.mp4", "日本.mp4"])
def test_names_are_those_of_the_url(files, cache, name):
    from urllib.parse import quote

    (files.folder / name).write_bytes(name.encode())
    with localised(f"{files.url}/{quote(name)}", cache) as path:
        assert path.read_bytes() == name.encode()


def test_an_s3_object_is_fetched_from_the_endpoint_of_the_environment(files, cache, monkeypatch):
    (files.folder / "bucket").mkdir()
    (files.folder / "bucket" / "a.mp4").write_bytes(b"s3")
    for name, value in (("ENDPOINT", files.url), ("ALLOW_HTTP", "true"), ("SKIP_SIGNATURE", "true")):
        monkeypatch.setenv(f"AWS_{name}", value)
    with localised("s3://bucket/a.mp4", cache) as path:
        assert path.read_bytes() == b"s3"
    with pytest.raises(MediaMissing, match=r"there is no s3://bucket/gone\.mp4"), localised("s3://bucket/gone.mp4", cache):
        pass


@pytest.mark.parametrize(
    ("name", "error", "why"),
    [
        ("gone.mp4", MediaMissing, "there is no http"),
        ("denied.mp4", MediaMissing, "may not be read with the credentials"),
        ("broken.mp4", ServiceUnavailable, "cannot be fetched: .* 500"),
    ],
)
def test_what_cannot_be_had_is_told_apart(files, cache, name, error, why):
    with pytest.raises(error, match=why), localised(f"{files.url}/{name}", cache):
        pass


def test_a_store_that_is_not_there_is_waited_for_by_the_caller(cache):
    with pytest.raises(ServiceUnavailable, match="cannot be fetched"), localised("http://127.0.0.1:1/a.mp4", cache):
        pass


def test_a_cancelled_fetch_leaves_nothing_behind(files, cache):
    (files.folder / "slow.mp4").write_bytes(bytes(PIECE + 1000))
    told = []

    def cancel(done: int, total: int) -> None:
        told.append((done, total))
        raise JobCancelled

    roomy = SourceCache(folder=cache.folder, max_bytes=2 * PIECE)
    with pytest.raises(JobCancelled), localised(f"{files.url}/slow.mp4", roomy, cancel):
        pass
    assert told[0][0] < told[0][1] == PIECE + 1000
    assert copies(cache) == []


def test_an_object_that_would_never_fit_is_refused_and_evicts_nothing(files, cache):
    (files.folder / "large.mp4").write_bytes(bytes(10_001))
    with localised(f"{files.url}/film.mp4", cache):
        pass
    with pytest.raises(TooLarge, match="EIOKU_SOURCE_CACHE_BYTES"), localised(f"{files.url}/large.mp4", cache):
        pass
    assert len(copies(cache)) == 1


def test_old_copies_make_room_for_new_ones_and_those_in_use_are_waited_for(files, cache):
    small = SourceCache(folder=cache.folder, max_bytes=2_500)
    for name in ("a", "b", "c", "d"):
        (files.folder / name).write_bytes(name.encode() * 1_000)
    with localised(f"{files.url}/a", small) as a:
        with localised(f"{files.url}/b", small) as b:
            pass
        with localised(f"{files.url}/c", small) as c:
            assert (a.exists(), b.exists(), c.exists()) == (True, False, True)
            waits, got = threading.Event(), []

            def want() -> None:
                with localised(f"{files.url}/d", small, lambda done, _: waits.set()) as d:
                    got.append((d.read_bytes(), c.exists()))

            waiting = threading.Thread(target=want)
            waiting.start()
            assert waits.wait(20)
            assert (got, len(copies(small))) == ([], 2)
        waiting.join()
        assert got == [(b"d" * 1_000, False)]
        assert a.read_bytes() == b"a" * 1_000


def test_two_that_fetch_the_same_at_once_use_one_copy(files, cache):
    (files.folder / "slow.mp4").write_bytes(b"s" * 1_000)
    found = []

    def want() -> None:
        with localised(f"{files.url}/slow.mp4", cache) as path:
            found.append(path.read_bytes())
            both.wait()

    both = threading.Barrier(2)
    threads = [threading.Thread(target=want) for _ in range(2)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 20
    while len(copies_if_any(cache)) < 2:
        assert time.monotonic() < end
    files.go_on.set()
    for thread in threads:
        thread.join()
    assert (found, len(copies(cache))) == ([b"s" * 1_000] * 2, 1)


def copies_if_any(cache: SourceCache) -> list[Path]:
    return copies(cache) if cache.folder.exists() else []


def test_the_copy_used_last_goes_last_and_what_is_held_stays(tmp_path):
    for age, name in enumerate("abc"):
        (tmp_path / name).write_bytes(b"1" * 100)
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    assert make_room(tmp_path, 250)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    with (tmp_path / "b").open("rb") as held:
        flock(held, LOCK_SH)
        assert make_room(tmp_path, 150)
        assert [path.name for path in tmp_path.iterdir()] == ["b"]
        assert not make_room(tmp_path, 50)
