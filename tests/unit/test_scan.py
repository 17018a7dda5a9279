"""Looking through folders."""

import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from application.folders import video_files
from application.handle import handle, present
from application.kinds import ENDINGS
from application.look import MOST_NAMED
from application.scan import Scanner
from application.whereabouts import VideoFile
from domain import scan, video
from domain.errors import ServiceUnavailable
from domain.scan import ScanProblem
from domain.video import video_id_of
from tests.support.given import META
from tests.support.looking import hashed, look
from tests.support.memory_log import MemoryLog
from tests.support.memory_videos import MemoryVideos

SCAN = UUID(int=8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return Path(os.path.realpath(tmp_path))


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


def put(path: Path, content: bytes = b"x", mtime: int = 1_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (mtime, mtime))
    return path


def found(root: Path, **options) -> tuple[list[str], list[ScanProblem]]:
    options = {"recursive": True, **options}
    items = list(video_files(str(root), **options))
    names = sorted(str(Path(item.path).relative_to(root)) for item in items if isinstance(item, VideoFile))
    return names, [item for item in items if isinstance(item, ScanProblem)]


def video_of(log: MemoryLog, path: Path):
    return present(log, video, video_id_of("default", str(path)))


def test_videos_are_told_by_their_ending_in_any_case_and_hidden_ones_are_passed_over(root):
    for ending in ENDINGS:
        put(root / f"{ending[1:]}{ending.upper()}")
    for name in ("b.txt", "noending", ".hidden.mp4", ".cache/c.mp4", "mp4", "d.mp4.part"):
        put(root / name)
    names, problems = found(root)
    assert names == sorted(f"{ending[1:]}{ending.upper()}" for ending in ENDINGS)
    assert problems == []


def test_subfolders_are_looked_through_only_when_asked(root):
    put(root / "a.mp4")
    put(root / "deep/er/b.mp4")
    assert found(root)[0] == ["a.mp4", "deep/er/b.mp4"]
    assert found(root, recursive=False)[0] == ["a.mp4"]


def test_links_that_lead_back_end(root):
    put(root / "a/b/c.mp4")
    (root / "a/b/up").symlink_to(root / "a")
    (root / "self").symlink_to(root / "self")
    (root / "loop.mp4").symlink_to(root / "loop.mp4")
    names, problems = found(root)
    assert names == ["a/b/c.mp4"]
    assert [Path(problem.path).name for problem in problems] == ["loop.mp4"]


def test_a_link_is_followed_only_within_the_allowed_roots(root):
    put(root / "in/a.mp4")
    put(root / "out/b.mp4")
    (root / "in/link.mp4").symlink_to(root / "out/b.mp4")
    (root / "in/folder").symlink_to(root / "out")
    names, problems = found(root / "in", is_allowed=lambda path: path.startswith(str(root / "in")))
    assert names == ["a.mp4"]
    assert {(Path(p.path).name, p.error) for p in problems} == {(n, "leads out of the allowed roots") for n in ("link.mp4", "folder")}


def test_two_names_of_one_file_are_one_video(root, log):
    put(root / "a.mp4")
    (root / "b.mp4").symlink_to(root / "a.mp4")
    assert (look(log, root).registered, look(log, root).registered) == (1, 0)


ODD = ["with space.mp4", "quo'te\".mp4", "日本語 фильм.mp4", "new\nline.mp4", "%2e%2e.mp4", "n" * 251 + ".mp4", "--.mp4", "a;b&c|d.mp4"]


def test_odd_names_are_names(root, log):
    for name in ODD:
        put(root / name)
    assert look(log, root).registered == len(ODD)
    assert sorted(event.filename for event in (log.load(video_id_of("default", str(root / name)))[0] for name in ODD)) == sorted(ODD)


def test_a_name_that_is_not_utf8_is_a_problem_with_a_remedy_and_stops_nothing(root, log):
    Path(os.fsdecode(os.fsencode(root) + b"/bad\xff.mp4")).write_bytes(b"x")
    put(root / "good.mp4")
    tally = look(log, root)
    assert (tally.found, tally.registered) == (1, 1)
    assert tally.problems == [ScanProblem(f"{root}/bad\\xff.mp4", "its name is not UTF-8; rename it")]


def test_what_is_no_file_or_leads_nowhere_is_a_problem_and_stops_nothing(root, log):
    os.mkfifo(root / "pipe.mp4")
    (root / "nowhere.mp4").symlink_to(root / "gone.mp4")
    (root / "folder.mp4").mkdir()
    put(root / "folder.mp4/inside.mp4")
    tally = look(log, root)
    assert tally.registered == 1
    assert {Path(p.path).name: p.error for p in tally.problems} == {
        "pipe.mp4": "is no regular file",
        "nowhere.mp4": "cannot be opened: No such file or directory",
    }


def test_a_folder_that_is_gone_is_a_problem(root, log):
    tally = look(log, root / "gone")
    assert [p.error for p in tally.problems] == ["cannot be opened: No such file or directory"]


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user's eyes")
def test_what_may_not_be_read_is_a_problem(root):
    put(root / "secret.mp4").chmod(0)
    put(root / "shut/a.mp4")
    (root / "shut").chmod(0)
    for folder in (root, *root.parents):
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    reader = os.fork()
    if not reader:
        try:
            os.setuid(65534)
            names, problems = found(root)
            told = sorted((Path(p.path).name, p.error) for p in problems)
            expected = [
                ("secret.mp4", "may not be read by this user; check its permissions"),
                ("shut", "cannot be opened: Permission denied"),
            ]
            os._exit(0 if (names, told) == ([], expected) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(reader, 0)[1]) == 0


def test_looking_again_finds_only_what_is_new_or_has_changed(root, log):
    a, b = put(root / "a.mp4"), put(root / "b.mp4")
    assert look(log, root).registered == 2
    head = log.head()
    assert (look(log, root).registered, log.head()) == (0, head)
    put(a, b"xy")
    put(b, b"x", mtime=2_000)
    put(root / "c.mp4")
    tally = look(log, root)
    assert (tally.found, tally.registered, tally.changed) == (3, 1, 2)
    assert (video_of(log, a).size_bytes, video_of(log, b).mtime_ms) == (2, 2_000_000)


def test_a_missing_file_that_is_back_is_restored(root, log):
    path = put(root / "a.mp4")
    look(log, root)
    handle(log, video.MarkMissing(stream_id=video_id_of("default", str(path)), meta=META))
    look(log, root)
    assert not video_of(log, path).is_missing


def test_what_a_person_deleted_stays_deleted(root, log):
    path = put(root / "a.mp4")
    look(log, root)
    handle(log, video.DeleteVideo(stream_id=video_id_of("default", str(path)), meta=META))
    put(path, b"changed")
    tally = look(log, root)
    assert (tally.registered, tally.changed, video_of(log, path).is_deleted) == (0, 0, True)


def test_problems_are_counted_in_full_and_kept_in_part(root, log):
    for n in range(MOST_NAMED + 20):
        (root / f"{n}.mp4").symlink_to(root / "nowhere")
    tally = look(log, root)
    assert (tally.problem_count, len(tally.problems)) == (MOST_NAMED + 20, MOST_NAMED)


def test_a_stopped_look_is_begun_anew_and_registers_nothing_twice(root, log):
    for n in range(250):
        put(root / f"{n}.mp4")
    stop = threading.Event()
    assert look(log, root, progress=lambda _: stop.set(), stop=stop) is None
    assert 0 < log.head() < 250
    assert look(log, root).found == 250
    assert log.head() == 250


def test_progress_is_told(root, log):
    for n in range(250):
        put(root / f"{n}.mp4")
    seen: list[int] = []
    look(log, root, progress=lambda tally: seen.append(tally.found))
    assert seen == [100, 200, 250]


class TestScanner:
    def scanner(self, log: MemoryLog, **options) -> Scanner:
        return Scanner(log, clock=lambda: datetime(2024, 1, 1, tzinfo=UTC), videos=MemoryVideos(log), roots=[], fingerprint=hashed, is_allowed=lambda _: True, **options)

    def ask(self, log: MemoryLog, root: Path, *, watch: bool = False) -> None:
        handle(log, scan.RequestScan(stream_id=SCAN, meta=META, root=str(root), watch=watch))

    def completions(self, log: MemoryLog) -> list[tuple[int, int]]:
        return [(e.registered, e.changed) for e in log.load(SCAN) if isinstance(e, scan.ScanCompleted)]

    def test_a_requested_folder_is_looked_through_once(self, root, log):
        put(root / "a.mp4")
        self.ask(log, root)
        scanner = self.scanner(log)
        assert [scanner.step(), scanner.step()] == [True, False]
        assert self.completions(log) == [(1, 0)]
        assert self.scanner(log).step() is False

    def test_a_watched_folder_is_looked_through_again_and_told_of_only_with_news(self, root, log):
        put(root / "a.mp4")
        (root / "broken.mp4").symlink_to(root / "nowhere")
        self.ask(log, root, watch=True)
        scanner = self.scanner(log, watch_every_s=0)
        for _ in range(3):
            assert scanner.step()
        put(root / "b.mp4")
        put(root / "a.mp4", b"changed")
        assert scanner.step()
        assert self.completions(log) == [(1, 0), (1, 1)]

    def test_a_restart_knows_what_is_watched_and_tells_nothing_anew(self, root, log):
        put(root / "a.mp4")
        (root / "broken.mp4").symlink_to(root / "nowhere")
        self.ask(log, root, watch=True)
        self.scanner(log).step()
        assert self.scanner(log).step()
        assert self.completions(log) == [(1, 0)]

    def test_a_stopped_watch_ends(self, root, log):
        self.ask(log, root, watch=True)
        scanner = self.scanner(log, watch_every_s=0)
        scanner.step()
        handle(log, scan.StopScan(stream_id=SCAN, meta=META))
        assert scanner.step() is False

    def test_a_folder_that_is_not_there_completes_with_its_problem(self, root, log):
        self.ask(log, root / "gone")
        self.scanner(log).step()
        assert [e.problem_count for e in log.load(SCAN) if isinstance(e, scan.ScanCompleted)] == [1]

    def test_a_log_that_is_away_is_waited_for(self, root, log, monkeypatch):
        put(root / "a.mp4")
        self.ask(log, root)
        monkeypatch.setattr("application.scan.RETRY_S", 0.01)
        real, tries = log.append, []

        def append(items):
            tries.append(len(items))
            if len(tries) == 1:
                raise ServiceUnavailable("away")
            return real(items)

        monkeypatch.setattr(log, "append", append)
        stop = threading.Event()
        self.scanner(log).run(stop.set, stop)
        assert self.completions(log) == [(1, 0)]
