"""A file that moved keeps its video; copies stay copies; nothing is analysed twice for a change of place."""

import os
import shutil
from pathlib import Path
from uuid import uuid4

import pytest

from application.handle import handle
from domain import task, video
from domain.scan import RequestScan
from tests.support.library import Library
from tests.support.results import given_task


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "media").mkdir()
    return Path(os.path.realpath(tmp_path)) / "media"


@pytest.fixture
def library(root: Path) -> Library:
    return Library(root)


def film(path: Path, content: str = "a film", mtime: int = 1_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    os.utime(path, (mtime, mtime))
    return path


def moved(root: Path, library: Library, old: Path, new: Path, *, scanned: Path | None = None) -> None:
    """The video of `old` lies at `new`, alone, with what was found in it, and nothing was done again."""
    (video_id,) = library.shown()
    done = list(library.analysed)
    tally = library.scan(scanned or root)
    (state,) = library.shown().values()
    assert list(library.shown()) == [video_id]
    assert (state.source, state.filename, state.is_missing, state.duplicate_of) == (str(new), new.name, False, None)
    assert (tally.relocated, tally.registered, tally.changed, tally.missing) == (1, 0, 0, 0)
    assert library.analysed == done
    assert library.scan(root).has_news is False


# ---- alone and with its folder -----------------------------------------------------------------------------------

PLACES = [
    ("Media/a.mp4", "Photos/a.mp4"),
    ("a.mp4", "b.mp4"),
    ("a.mp4", "deep/er/a.mp4"),
    ("deep/er/a.mp4", "a.mp4"),
    ("x/a.mp4", "y/b.MKV"),
    ("Ünïcode/ф 日本.mp4", "with space/%2e;'\".mp4"),
]


@pytest.mark.parametrize(("old", "new"), PLACES)
def test_a_renamed_file_keeps_its_video(root, library, old, new):
    film(root / old)
    library.scan()
    (root / new).parent.mkdir(parents=True, exist_ok=True)
    (root / old).rename(root / new)
    moved(root, library, root / old, root / new)


@pytest.mark.parametrize(("old", "new"), PLACES)
def test_a_copy_whose_original_is_removed_is_the_same_video(root, library, old, new):
    film(root / old)
    library.scan()
    (root / new).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(root / old, root / new)
    (root / old).unlink()
    moved(root, library, root / old, root / new)


def test_a_renamed_folder_keeps_the_videos_of_all_its_files(root, library):
    films = [film(root / f"Media/{n // 40}/{n}.mp4", f"{n:05}") for n in range(120)]
    library.scan(work=False)
    known = {state.source: video_id for video_id, state in library.shown().items()}
    library.work()
    done = list(library.analysed)
    (root / "Media").rename(root / "Photos")
    tally = library.scan()
    now = {video_id: state.source for video_id, state in library.shown().items()}
    assert now == {known[str(one)]: str(one).replace("/Media/", "/Photos/") for one in films}
    assert (tally.relocated, tally.registered, library.analysed) == (120, 0, done)


def test_a_folder_renamed_before_anything_was_analysed_keeps_its_videos_too(root, library):
    for n in range(30):
        film(root / f"Media/{n}.mp4", "same size", mtime=n // 10)
    library.scan(work=False)
    known = {state.filename: video_id for video_id, state in library.shown().items()}
    (root / "Media").rename(root / "Photos")
    assert library.scan().relocated == 30
    assert {state.filename: video_id for video_id, state in library.shown().items()} == known


def test_a_scanned_folder_that_was_renamed_itself_is_found_under_its_new_name(root, library):
    film(root / "Media/a.mp4")
    library.scan(root / "Media")
    (root / "Media").rename(root / "Photos")
    moved(root, library, root / "Media/a.mp4", root / "Photos/a.mp4", scanned=root / "Photos")


def test_a_file_moved_to_another_root_keeps_its_video(root, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    library = Library(root, other)
    film(root / "a.mp4")
    film(root / "b.mp4", "another")
    library.scan()
    (a,) = [one for one, state in library.shown().items() if state.filename == "a.mp4"]
    (root / "a.mp4").rename(other / "a.mp4")
    assert library.scan(other).relocated == 1
    assert library.at(Path(os.path.realpath(other)) / "a.mp4") == a


def test_the_only_file_of_a_root_may_move_to_another(root, tmp_path):
    other = Path(os.path.realpath(tmp_path)) / "other"
    other.mkdir()
    library = Library(root, other)
    film(root / "a.mp4")
    library.scan()
    (root / "a.mp4").rename(other / "a.mp4")
    moved(other, library, root / "a.mp4", other / "a.mp4")


def test_a_folder_that_became_a_link_to_its_new_place_is_no_copy(root, library):
    film(root / "Media/a.mp4")
    library.scan()
    (root / "Media").rename(root / "Photos")
    (root / "Media").symlink_to(root / "Photos")
    moved(root, library, root / "Media/a.mp4", root / "Photos/a.mp4")


def test_a_name_that_was_given_stays_when_the_file_is_renamed(root, library):
    path = film(root / "a.mp4")
    video_id = library.post(path)
    state = library.shown()[video_id]
    assert video.filename_after_move("Holiday", state.source, "/x/b.mp4") == "Holiday"
    assert video.filename_after_move("a.mp4", state.source, "/x/b.mp4") == "b.mp4"


# ---- in which order things happen --------------------------------------------------------------------------------


def test_a_move_that_a_task_noticed_first_is_found_by_the_next_scan(root, library):
    path = film(root / "a.mp4")
    library.scan(work=False)
    (video_id,) = library.shown()
    path.rename(root / "b.mp4")
    library.work()
    assert library.shown()[video_id].is_missing
    tally = library.scan()
    assert tally.relocated == 1
    assert (library.at(root / "b.mp4"), len(library.shown())) == (video_id, 1)
    assert library.results(video_id) == {b"a film"}


def test_a_task_that_was_sent_to_the_old_place_is_asked_for_again_and_the_video_is_not_missing(root, library):
    path = film(root / "a.mp4")
    library.scan(work=False)
    (video_id,) = library.shown()
    library.react()
    (asked,) = library.open_tasks()
    path.rename(root / "b.mp4")
    library.scan(work=False)
    # The worker still has the old path in its hands.
    (root / "gone").mkdir()
    (root / "b.mp4").rename(root / "gone/b.mp4")
    library.do_open_tasks()
    (root / "gone/b.mp4").rename(root / "b.mp4")
    library.work()
    assert not library.shown()[video_id].is_missing
    assert library.results(video_id) == {b"a film"}
    assert asked[0] in {r.item.originator_id for r in library.log.read(0, kinds=[task.TaskRetried.TOPIC])}


def test_two_files_that_swap_their_names_keep_their_videos(root, library):
    a, b = film(root / "a.mp4", "first"), film(root / "b.mp4", "the second")
    library.scan()
    ids = library.at(a), library.at(b)
    done = list(library.analysed)
    a.rename(root / "x")
    b.rename(a)
    (root / "x").rename(b)
    tally = library.scan()
    assert (library.at(b), library.at(a)) == ids
    assert (tally.relocated, tally.changed, len(library.shown()), library.analysed) == (2, 0, 2, done)


@pytest.mark.parametrize("length", [3, 5])
def test_names_that_move_on_in_a_ring_keep_their_videos(root, library, length):
    paths = [film(root / f"{n}.mp4", "x" * (n + 1)) for n in range(length)]
    library.scan()
    ids = [library.at(path) for path in paths]
    done = list(library.analysed)
    paths[-1].rename(root / "aside")
    for n in range(length - 1, 0, -1):
        paths[n - 1].rename(paths[n])
    (root / "aside").rename(paths[0])
    library.scan()
    assert [library.at(path) for path in paths] == [ids[-1], *ids[:-1]]
    assert library.analysed == done


def test_a_new_file_at_the_place_of_one_that_moved_is_a_new_video(root, library):
    path = film(root / "latest.mp4", "day 0")
    library.scan()
    seen = [library.at(path)]
    for day in range(1, 5):
        path.rename(root / f"day {day - 1}.mp4")
        film(path, f"day {day}", mtime=1_000 + day)
        tally = library.scan()
        assert (tally.relocated, tally.registered, tally.changed) == (1, 1, 0)
        seen.append(library.at(path))
    assert len(set(seen)) == 5
    assert [library.at(root / f"day {day}.mp4") for day in range(4)] == seen[:4]
    assert [library.results(video_id) for video_id in seen] == [{f"day {day}".encode()} for day in range(5)]


def test_a_file_that_another_was_moved_onto_is_missing_and_the_other_lies_there(root, library):
    a, b = film(root / "a.mp4", "first"), film(root / "b.mp4", "the second")
    library.scan()
    first, second = library.at(a), library.at(b)
    b.rename(a)
    library.scan()
    assert library.at(a) == second
    assert library.shown()[first].is_missing
    assert library.results(first) == {b"first"}
    assert library.scan().has_news is False


def test_a_file_with_other_content_in_its_place_is_analysed_anew(root, library):
    path = film(root / "a.mp4")
    library.scan()
    video_id = library.at(path)
    film(path, "cut and graded", mtime=2_000)
    assert library.scan().changed == 1
    assert library.at(path) == video_id
    assert library.results(video_id) == {b"a film", b"cut and graded"}


def test_a_file_that_moved_and_was_edited_is_a_new_video_and_the_old_one_missing(root, library):
    path = film(root / "a.mp4")
    library.scan()
    old = library.at(path)
    path.rename(root / "b.mp4")
    film(root / "b.mp4", "edited", mtime=3_000)
    tally = library.scan()
    assert (tally.registered, tally.relocated, tally.missing) == (1, 0, 1)
    assert library.shown()[old].is_missing
    assert library.at(root / "b.mp4") != old


def test_a_file_of_the_same_size_and_time_but_other_content_is_not_taken_for_the_one_that_is_gone(root, library):
    film(root / "a.mp4", "aaaa")
    library.scan()
    (old,) = library.shown()
    (root / "a.mp4").unlink()
    film(root / "b.mp4", "bbbb")
    assert library.scan().relocated == 0
    assert library.results(library.at(root / "b.mp4")) == {b"bbbb"}
    assert library.shown()[old].is_missing


def test_a_missing_file_that_is_back_is_no_longer_missing(root, library):
    path, _ = film(root / "a.mp4"), film(root / "b.mp4", "other")
    library.scan()
    video_id = library.at(path)
    path.rename(root.parent / "aside")
    assert library.scan().missing == 1
    (root.parent / "aside").rename(path)
    library.scan()
    assert library.at(path) == video_id


# ---- copies ------------------------------------------------------------------------------------------------------


def test_two_files_with_the_same_bytes_are_two_videos_one_a_duplicate(root, library):
    film(root / "a.mp4")
    library.scan()
    first = library.at(root / "a.mp4")
    film(root / "b.mp4")
    assert library.scan().registered == 1
    assert library.shown()[library.at(root / "b.mp4")].duplicate_of == first
    assert library.scan().has_news is False


def test_a_duplicate_that_moved_keeps_its_video_and_stays_a_duplicate(root, library):
    film(root / "a.mp4")
    library.scan()
    film(root / "b.mp4")
    library.scan()
    first, copy = library.at(root / "a.mp4"), library.at(root / "b.mp4")
    (root / "b.mp4").rename(root / "c.mp4")
    assert library.scan().relocated == 1
    assert library.at(root / "c.mp4") == copy
    assert library.shown()[copy].duplicate_of == first


def test_when_the_original_of_a_duplicate_is_removed_its_video_lies_at_the_copy_and_nothing_is_done_again(root, library):
    film(root / "a.mp4")
    library.scan()
    first, done = library.at(root / "a.mp4"), list(library.analysed)
    film(root / "b.mp4")
    library.scan()
    (root / "a.mp4").unlink()
    library.scan()
    assert library.at(root / "b.mp4") == first
    assert (len(library.shown()), library.analysed) == (1, done)


def test_a_copy_somebody_worked_on_keeps_its_results_when_the_original_goes(root, library):
    film(root / "a.mp4")
    library.scan()
    film(root / "b.mp4")
    library.scan()
    first, copy = library.at(root / "a.mp4"), library.at(root / "b.mp4")
    given_task(library.log, "ocr", video_id=copy, key="by hand")
    library.work()
    (root / "a.mp4").unlink()
    library.scan()
    assert library.shown()[first].is_missing
    assert library.at(root / "b.mp4") == copy


def test_a_library_that_was_split_by_a_move_before_heals_at_the_next_scan(root, library):
    """What an older version left behind: the old video at a path without a file, the new one its duplicate."""
    path = film(root / "Media/a.mp4")
    library.scan()
    first = library.at(path)
    film(root / "Photos/a.mp4")
    library.scan()
    shutil.rmtree(root / "Media")
    library.scan()
    assert library.at(root / "Photos/a.mp4") == first
    assert len(library.shown()) == 1


def test_deleting_the_original_of_a_duplicate_has_the_copy_analysed(root, library):
    film(root / "a.mp4")
    library.scan()
    film(root / "b.mp4")
    library.scan()
    copy = library.at(root / "b.mp4")
    library.delete(library.at(root / "a.mp4"))
    assert library.shown()[copy].duplicate_of is None
    assert library.results(copy) == {b"a film"}


# ---- disks that go away ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("away", ["gone", "empty"])
def test_a_root_that_goes_away_and_comes_back_loses_nothing_and_no_copy_takes_its_videos(root, tmp_path, away):
    other = Path(os.path.realpath(tmp_path)) / "other"
    library = Library(root, other)
    paths = [film(root / f"{n}.mp4", str(n)) for n in range(5)]
    library.scan()
    ids, done = [library.at(path) for path in paths], list(library.analysed)
    root.rename(tmp_path / "unplugged")
    if away == "empty":
        root.mkdir()
        assert library.scan().has_news is False
    film(other / "copy.mp4", "3")
    assert library.scan(other).relocated == 0
    assert library.shown()[library.at(other / "copy.mp4")].duplicate_of == ids[3]
    if away == "empty":
        root.rmdir()
    (tmp_path / "unplugged").rename(root)
    assert library.scan().has_news is False
    assert [library.at(path) for path in paths] == ids
    assert library.analysed == done


def test_a_scanned_folder_that_is_away_counts_as_a_root(root, tmp_path):
    library = Library(root)
    path = film(root / "disk/a.mp4")
    ask(library, root / "disk")
    library.scan(root / "disk")
    video_id = library.at(path)
    (root / "disk").rename(tmp_path / "unplugged")
    film(root / "backup/a.mp4")
    library.scan(root / "backup")
    assert library.shown()[video_id].source == str(path)
    (tmp_path / "unplugged").rename(root / "disk")
    assert library.scan(root / "disk").has_news is False
    assert library.at(path) == video_id


def test_what_a_newer_scan_of_the_folder_above_did_not_meet_is_gone(root):
    library = Library(root)
    film(root / "old/a.mp4")
    ask(library, root / "old")
    library.scan(root / "old")
    film(root / "new/a.mp4")
    shutil.rmtree(root / "old")
    ask(library, root)
    moved(root, library, root / "old/a.mp4", root / "new/a.mp4")


def ask(library: Library, folder: Path) -> None:
    handle(library.log, RequestScan(stream_id=uuid4(), meta=library.meta("api", "default"), root=str(folder)))


# ---- whose library -----------------------------------------------------------------------------------------------


def test_a_move_is_found_for_each_tenant_by_its_own_scan_only(root, library):
    film(root / "a.mp4")
    library.scan(tenant="one")
    library.scan(tenant="two")
    (of_one,), (of_two,) = library.shown(tenant="one"), library.shown(tenant="two")
    (root / "a.mp4").rename(root / "b.mp4")
    assert library.scan(tenant="two").relocated == 1
    assert library.shown(tenant="one")[of_one].source == str(root / "a.mp4")
    assert library.shown(tenant="two")[of_two].source == str(root / "b.mp4")
    assert library.scan(tenant="one").relocated == 1


# ---- one path, one video -----------------------------------------------------------------------------------------


def test_a_path_made_known_twice_is_one_video_however_it_is_written(root, library):
    path = film(root / "sub/the film.mp4")
    (root / "link").symlink_to(root / "sub")
    (root / "other.mp4").symlink_to(path)
    spellings = [
        path, path, f"file://{str(path).replace(' ', '%20')}", f"{root}//sub/./the film.mp4",
        f"{root}/sub/../sub/the film.mp4", root / "link/the film.mp4", root / "other.mp4",
    ]  # fmt: skip
    assert {library.post(one) for one in spellings} == {library.at(path)}
    assert library.scan().registered == 0
    assert len(library.shown()) == 1


def test_a_scanned_file_that_is_posted_is_the_one_that_is_there_also_after_it_moved(root, library):
    film(root / "a.mp4")
    library.scan()
    (video_id,) = library.shown()
    assert library.post(root / "a.mp4") == video_id
    (root / "a.mp4").rename(root / "b.mp4")
    library.scan()
    assert library.post(root / "b.mp4") == video_id


def test_a_moved_file_that_is_posted_before_it_is_scanned_is_the_video_it_was(root, library):
    film(root / "a.mp4")
    video_id = library.post(root / "a.mp4")
    done = list(library.analysed)
    (root / "a.mp4").rename(root / "b.mp4")
    film(root / "other.mp4", "so that the root is not empty")
    library.post(root / "b.mp4")
    assert list(library.shown()) == [video_id]
    assert library.post(root / "b.mp4") == library.at(root / "b.mp4") == video_id
    assert library.analysed == done


@pytest.mark.parametrize("name", ["a.mp4 ", " a.mp4", "A.mp4", "e\u0301.mp4", "\u00e9.mp4"])
def test_names_that_only_look_alike_are_files_of_their_own(root, library, name):
    twin = {"e\u0301.mp4": "\u00e9.mp4", "\u00e9.mp4": "e\u0301.mp4"}.get(name, "a.mp4")
    film(root / name, "one")
    film(root / twin, "another")
    assert library.post(root / name) != library.post(root / twin)
    assert library.shown()[library.at(root / name)].source == str(root / name)


def test_a_deleted_video_that_is_posted_again_is_analysed_anew(root, library):
    path = film(root / "a.mp4")
    library.delete(library.post(path))
    assert library.shown() == {}
    once = len(library.analysed)
    again = library.post(path)
    assert list(library.shown()) == [again]
    assert len(library.analysed) == 2 * once > 0
    assert library.results(again) == {b"a film"}


@pytest.mark.parametrize("how", ["scan", "post"])
def test_a_deleted_video_stays_deleted_where_it_lies_and_where_it_moved(root, library, how):
    path = film(root / "a.mp4")
    if how == "post":
        library.post(path)
    else:
        library.scan()
    library.delete(library.at(path))
    assert library.scan().has_news is False
    path.rename(root / "b.mp4")
    assert library.scan().has_news is False
    (root / "b.mp4").rename(root / "c.mp4")
    assert library.scan().has_news is False
    assert library.shown() == {}
    library.post(root / "c.mp4")
    assert library.results(library.at(root / "c.mp4")) == {b"a film"}
