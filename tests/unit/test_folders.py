"""What a scan takes for a film, and what it passes over on purpose."""

import os
from pathlib import Path

import pytest

from application.folders import video_files
from application.ignored import MOST_BYTES
from application.kinds import ENDINGS
from application.whereabouts import VideoFile
from domain.scan import PassedOver, ScanProblem


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return Path(os.path.realpath(tmp_path))


def put(root: Path, *names: str, content: str = "x") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def seen(root: Path) -> tuple[set[str], dict[str, str]]:
    """(films, reason by what was passed over), by path below the root."""
    items = list(video_files(str(root), recursive=True))
    assert not [item for item in items if isinstance(item, ScanProblem)]
    films = {os.path.relpath(item.path, root) for item in items if isinstance(item, VideoFile)}
    return films, {os.path.relpath(item.path, root): item.reason for item in items if isinstance(item, PassedOver)}


CASES = "VOB MOD TOD insv lrv mxf ogv 3g2 divx asf wtv m2v qt mpe m2t f4v dv"


def test_the_endings_of_all_containers_with_pictures_count_in_any_case(root):
    names = {f"{n}{form(ending)}" for n, ending in enumerate(ENDINGS) for form in (str.lower, str.upper, str.title)}
    names |= {f"clip.{ending}" for ending in CASES.split()}
    put(root, *names)
    films, passed = seen(root)
    assert films == names
    assert passed == {}


@pytest.mark.parametrize(
    "folder",
    ["@eaDir", "@EADIR", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot", "$RECYCLE.BIN", "lost+found",
     "System Volume Information", "__MACOSX", "a film.trickplay", "Plex Versions"],
)  # fmt: skip
def test_folders_of_systems_and_servers_are_passed_over_and_told(root, folder):
    put(root, "holiday.mp4", f"{folder}/holiday.mp4/SYNOPHOTO_FILM_H.mp4", f"sub/{folder}/b.mp4")
    films, passed = seen(root)
    assert films == {"holiday.mp4"}
    assert set(passed) == {folder, f"sub/{folder}"}


@pytest.mark.parametrize(
    "folder", [".@__thumb", ".Trash-1000", ".Trashes", ".Spotlight-V100", ".fseventsd", ".AppleDouble", ".zfs", ".stfolder"]
)
def test_hidden_folders_are_passed_over(root, folder):
    put(root, "a.mp4", f"{folder}/files/b.mp4")
    assert seen(root)[0] == {"a.mp4"}


@pytest.mark.parametrize(
    "name",
    ["._a.mp4", ".b.mp4", "SYNOPHOTO_FILM_M.mp4", "c.mp4.part", "d.MKV.crdownload", "e.mov.tmp", "f.ts.!qB", "g.dav",
     "h.mjpeg", "go.mod"],
)  # fmt: skip
def test_what_looks_like_a_film_and_is_not_taken_in_is_told_with_its_reason(root, name):
    put(root, "film.mp4", name, "notes.txt", "readme.tmp")
    films, passed = seen(root)
    assert films == {"film.mp4"}
    assert list(passed) == [name]
    assert passed[name]


@pytest.mark.parametrize(
    ("film", "proxy"),
    [("GX010123.MP4", "GL010123.LRV"), ("GH020007.mp4", "gl020007.lrv"), ("GOPR0001.MP4", "GOPR0001.LRV"),
     ("DJI_0042.MP4", "DJI_0042.LRF"), ("VID_20240501_120000_00_007.insv", "LRV_20240501_120000_11_007.insv"),
     ("VID_20240501_120000_10_007.mp4", "LRV_20240501_120000_01_007.lrv")],
)  # fmt: skip
def test_a_cameras_small_copy_counts_only_without_its_film(root, film, proxy):
    put(root, proxy, "other.mp4")
    assert seen(root)[0] == {proxy, "other.mp4"}
    put(root, film)
    films, passed = seen(root)
    assert films == {film, "other.mp4"}
    assert list(passed) == [proxy]


def test_nomedia_keeps_a_folder_and_all_below_out(root):
    put(root, "a.mp4", "private/.nomedia", "private/b.mp4", "private/deep/c.mp4", "other/d.mp4")
    films, passed = seen(root)
    assert films == {"a.mp4", "other/d.mp4"}
    assert list(passed) == ["private"]


@pytest.mark.parametrize(
    ("rules", "ignored"),
    [
        ("*.mov\n", {"b.mov", "raw/c.mov", "raw/keep/d.mov"}),
        ("/b.mov\n", {"b.mov"}),
        ("raw/\n", {"raw"}),
        ("*.mov\n!b.mov\n", {"raw/c.mov", "raw/keep/d.mov"}),
        ("**/keep/*.mov\n", {"raw/keep/d.mov"}),
        ("# a comment\n\n", set()),
        ("\ufeffraw\n", {"raw"}),
    ],
)
def test_eiokuignore_is_read_as_git_reads_its_own(root, rules, ignored):
    put(root, "a.mp4", "b.mov", "raw/c.mov", "raw/keep/d.mov")
    (root / ".eiokuignore").write_text(rules, encoding="utf-8")
    films, passed = seen(root)
    assert set(passed) == ignored
    assert films == {f for f in ("a.mp4", "b.mov", "raw/c.mov", "raw/keep/d.mov") if not any(f.startswith(i) for i in ignored)}


def test_a_rule_deeper_down_beats_those_above(root):
    put(root, "a.mov", "sub/b.mov")
    (root / ".eiokuignore").write_text("*.mov\n")
    (root / "sub/.eiokuignore").write_text("!b.mov\n")
    assert seen(root)[0] == {"sub/b.mov"}


@pytest.mark.parametrize(
    ("body", "why"),
    [(b"\xff\xfe*", "utf-8"), (b"x" * (MOST_BYTES + 1), "bytes"), (b"x\n" * 2_000, "lines"), (b"*a" * 50, "stars"),
     (b"!\n", "followed")],
    ids=["no utf-8", "too long", "too many lines", "too many stars", "no pattern"],
)  # fmt: skip
def test_a_broken_eiokuignore_is_a_problem_and_stops_nothing(root, body, why):
    put(root, "a.mp4", "sub/b.mp4")
    (root / ".eiokuignore").write_bytes(body)
    items = list(video_files(str(root), recursive=True))
    (problem,) = [item for item in items if isinstance(item, ScanProblem)]
    assert why in problem.error
    assert problem.path == str(root / ".eiokuignore")
    assert sum(isinstance(item, VideoFile) for item in items) == 2


def test_an_eiokuignore_that_is_no_file_is_a_problem(root):
    put(root, "a.mp4")
    os.mkfifo(root / ".eiokuignore")
    items = list(video_files(str(root), recursive=True))
    assert [type(item) for item in items] == [ScanProblem, VideoFile]
