"""Whatever happens to files and in whatever order: no result is lost, and each file has one video."""

import os
import shutil
import tempfile
from itertools import count
from pathlib import Path
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.support.library import Library

PLACES = [f"{folder}{name}.mp4" for folder in ("", "a/", "b/", "a/in/") for name in "xyz"]
places = st.sampled_from(PLACES)
picks = st.integers(0, 11)
"""Which of the files there are."""
folders = st.sampled_from(["a", "b", "c", "a/in"])


class Files(RuleBasedStateMachine):
    """People move, copy, change and delete; Eioku scans. The model is what lies on the disk and what was analysed."""

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(os.path.realpath(tempfile.mkdtemp()))
        self.root = self.base / "media"
        self.root.mkdir()
        # Never empty: an empty root counts as unmounted.
        (self.root / "notes.txt").write_text("x")
        self.library = Library(self.root)
        self.number = count()
        self.owner: dict[str, UUID] = {}
        """Content → the video that holds its results, as of the last scan."""
        self.once: set[str] = set()
        """Contents of which there was one file then, and nobody posted another since."""

    def teardown(self) -> None:
        self.scan()
        shutil.rmtree(self.base)

    @initialize(names=st.lists(places, min_size=2, max_size=4, unique=True))
    def some_files(self, names: list[str]) -> None:
        for name in names:
            self.write(name)
        self.scan()

    def write(self, name: str) -> None:
        n, path = next(self.number), self.place(name)
        path.write_text(f"film {n:04}")
        os.utime(path, (1_000 + n, 1_000 + n))

    def files(self) -> dict[str, str]:
        """Content by path."""
        return {str(path): path.read_text() for path in sorted(self.root.rglob("*.mp4"))}

    # ---- what people do

    @rule(name=places)
    def write_or_replace(self, name: str) -> None:
        self.write(name)

    def pick(self, number: int) -> Path:
        paths = sorted(self.root.rglob("*.mp4"))
        if not paths:
            self.write(PLACES[number])
            return self.root / PLACES[number]
        return paths[number % len(paths)]

    def place(self, name: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @rule(old=picks, new=places)
    def move(self, old: int, new: str) -> None:
        self.pick(old).replace(self.place(new))

    @rule(one=picks, other=picks)
    def swap(self, one: int, other: int) -> None:
        first, second = self.pick(one), self.pick(other)
        first.rename(self.base / "aside")
        if second != first:
            second.rename(first)
        (self.base / "aside").rename(second)

    @rule(old=picks, new=places)
    def copy(self, old: int, new: str) -> None:
        path = self.pick(old)
        if path != self.root / new:
            shutil.copy2(path, self.place(new))

    @rule(old=picks)
    def delete_file(self, old: int) -> None:
        self.pick(old).unlink()

    @rule(old=folders, new=folders)
    def rename_folder(self, old: str, new: str) -> None:
        if (self.root / old).is_dir() and not (self.root / new).exists() and not new.startswith(f"{old}/"):
            (self.root / new).parent.mkdir(parents=True, exist_ok=True)
            (self.root / old).rename(self.root / new)

    @rule(old=picks)
    def post(self, old: int) -> None:
        path = self.pick(old)
        self.library.post(path)
        assert self.library.post(path) == self.library.post(f"file://{path}")
        self.once.discard(path.read_text())

    # ---- what Eioku does

    @rule()
    def scan(self) -> None:
        self.library.scan()
        self.library.scan()
        self.check()

    def check(self) -> None:
        shown, files = self.library.shown(), self.files()
        living = {video_id: state for video_id, state in shown.items() if not state.is_missing}
        at = [state.source for state in living.values()]
        # Each file has one video, and each video that is not missing a file.
        assert sorted(at) == sorted(files)
        for video_id, state in living.items():
            content = files[state.source]
            # Its content was analysed under its id, or under that of the one that it is a duplicate of.
            holder = video_id if state.duplicate_of is None else state.duplicate_of
            assert content.encode() in self.library.results(holder), (content, state)
        # A content stays with its video, wherever its file went. (The copy of a file that changed is a video of its own.)
        for content in set(files.values()):
            holders = {
                video_id if state.duplicate_of is None else state.duplicate_of
                for video_id, state in living.items()
                if files[state.source] == content
            }
            assert len(holders) == 1
            (holder,) = holders
            if content in self.once:
                assert self.owner[content] == holder
            self.owner[content] = holder
        self.once = {content for content in files.values() if list(files.values()).count(content) == 1}
        assert self.library.scan().has_news is False

    @invariant()
    def nothing_is_lost(self) -> None:
        """Every video that was ever analysed is in the library, or was merged into one that is."""
        shown = self.library.shown()
        assert {video_id for video_id, _ in self.library.analysed} <= set(shown)


TestFiles = Files.TestCase
TestFiles.settings = settings(
    max_examples=60, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
