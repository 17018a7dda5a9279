"""A file is opened for what it is now: whatever was put in its place leads nowhere."""

import os
import shutil
import socket
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.errors import MediaError, MediaMissing, MediaUnreadable
from infrastructure.media.fingerprint import fingerprint
from infrastructure.media.frames import sample_frames
from infrastructure.media.opening import ROOTS, open_beneath
from infrastructure.media.probe import probe
from infrastructure.media.source import checked, open_media
from tests.support.media import clip, stills_film

SECRET = b"what nobody may read"


@pytest.fixture
def place(tmp_path):
    """A root with one film, and a secret outside."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.mp4").write_bytes(SECRET)
    (tmp_path / "root" / "sub").mkdir(parents=True)
    film = tmp_path / "root" / "sub" / "film.mp4"
    film.write_bytes(b"film")
    return film


@pytest.fixture
def _roots(place):
    ROOTS.folders = (str(place.parents[1]),)
    yield
    ROOTS.folders = None


def content(path, roots):
    descriptor = open_beneath(path, roots)
    try:
        return os.pread(descriptor, 100, 0)
    finally:
        os.close(descriptor)


def swapped(place: Path, attack: str) -> None:
    outside = place.parents[2] / "outside"
    place.unlink()
    match attack:
        case "symlink":
            place.symlink_to(outside / "secret.mp4")
        case "relative symlink":
            place.symlink_to("../../outside/secret.mp4")
        case "symlink to a symlink":
            (place.parent / "other").symlink_to(outside / "secret.mp4")
            place.symlink_to("other")
        case "folder swapped":
            place.parent.rmdir()
            (outside / "film.mp4").write_bytes(SECRET)
            place.parent.symlink_to(outside)
        case "proc":
            place.symlink_to("/proc/self/environ")
        case "loop":
            place.symlink_to(place)
        case "fifo":
            os.mkfifo(place)
        case "socket":
            with socket.socket(socket.AF_UNIX) as it:
                before = Path.cwd()
                os.chdir(place.parent)  # an address has at most 107 bytes
                it.bind(place.name)
                os.chdir(before)
        case "device":
            place.symlink_to("/dev/zero")
        case "folder":
            place.mkdir()
        case "gone":
            pass


ATTACKS = [
    "symlink", "relative symlink", "symlink to a symlink", "folder swapped", "proc", "loop", "fifo", "socket", "device",
    "folder", "gone",
]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_was_put_in_place_of_a_registered_file_is_not_opened(place, attack):
    assert content(place, [place.parents[1]]) == b"film"
    swapped(place, attack)
    with pytest.raises(MediaMissing):
        content(place, [place.parents[1]])


@pytest.mark.usefixtures("_roots")
@pytest.mark.parametrize("attack", ATTACKS)
def test_no_reader_of_media_opens_what_was_put_in_place(place, attack):
    swapped(place, attack)
    for read in (open_media, fingerprint, checked):
        with pytest.raises(MediaMissing):
            read(place)


def test_symlinks_within_the_roots_are_followed_and_roots_may_be_symlinks(place):
    root = place.parents[1]
    (root / "link.mp4").symlink_to(place)
    (root / "folder").symlink_to(place.parent)
    (root.parent / "mount").symlink_to(root)
    for path in (root / "link.mp4", root / "folder" / "film.mp4", root.parent / "mount" / "sub" / "film.mp4"):
        assert content(path, ["s3://elsewhere/", root.parent / "mount"]) == b"film"


def test_an_open_descriptor_stays_what_it_was_and_none_is_left(place):
    before = len(list(Path("/proc/self/fd").iterdir()))
    film = clip(place.parent / "real.mp4")
    ROOTS.folders = (str(place.parents[1]),)
    try:
        with open_media(film) as container:
            film.unlink()
            film.symlink_to("/etc/passwd")
            assert container.streams.video[0].width == 160
        with pytest.raises(MediaMissing):
            open_media(film)
    finally:
        ROOTS.folders = None
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_file_swapped_while_it_is_opened_never_leads_out(place):
    """A race: one thread swaps the file and its folder without end, the other opens."""
    root, outside, stop = place.parents[1], place.parents[2] / "outside", threading.Event()
    (outside / "film.mp4").write_bytes(SECRET)
    (root / "good").mkdir()
    (root / "good" / "film.mp4").write_bytes(b"film")
    shutil.rmtree(place.parent)

    def swap():
        while not stop.is_set():
            for target in (root / "good", outside):
                (root / "next").symlink_to(target)
                (root / "next").replace(place.parent)

    swapping = threading.Thread(target=swap)
    swapping.start()
    seen = set()
    try:
        for _ in range(3_000):
            try:
                seen.add(content(place, [root]))
            except MediaMissing as error:
                seen.add(type(error))
    finally:
        stop.set()
        swapping.join()
    assert SECRET not in seen
    assert seen <= {b"film", MediaMissing}


@given(st.text(max_size=300) | st.from_regex(r"(\.\./|/|a|\x00){0,20}", fullmatch=True))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_name_is_opened_or_refused(tmp_path, name):
    for path in (tmp_path / "root" / name, Path(name)):
        with pytest.raises(MediaError):
            content(path, [tmp_path / "root"])


def test_an_empty_file_is_told(place):
    place.write_bytes(b"")
    with pytest.raises(MediaUnreadable, match="0 bytes"):
        checked(place)


@pytest.mark.parametrize("sizes", [[(9_000, 9_000)], [(1, 30_000)], [(30_000, 1)], [(16_385, 16)]])
@pytest.mark.parametrize("said", [None, (160, 120)])
def test_pictures_that_are_too_large_are_not_decoded(tmp_path, sizes, said):
    film = stills_film(tmp_path / "film.avi", sizes, said=said)
    with pytest.raises(MediaUnreadable):
        list(sample_frames(film))


def test_pictures_that_grow_too_large_are_passed_over(tmp_path):
    film = stills_film(tmp_path / "film.avi", [(160, 120)] * 3 + [(9_000, 9_000)] * 2 + [(160, 120)] * 3)
    assert {frame.image.shape for frame in sample_frames(film)} == {(120, 160, 3)}


def test_pictures_of_8k_are_decoded(tmp_path):
    facts = probe(stills_film(tmp_path / "film.avi", [(7_680, 4_320)])).facts
    assert (facts.width, facts.height) == (7_680, 4_320)
