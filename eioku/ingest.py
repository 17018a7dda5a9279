"""`eioku ingest`: registers files through the API and shows how far their tasks are."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from application.folders import video_files
from application.kinds import ENDINGS
from domain.errors import EiokuError
from domain.scan import PassedOver, ScanProblem
from eioku.client import ApiRefused, Client
from eioku.console import Console, show_json, show_table, speed_of
from eioku.settings import Settings
from eioku.supervisor import START_S, Tree, running_on

_ASK_EVERY_S = 0.5
_SAY_EVERY_S = 15.0
"""How often a line tells how far it is where no bars can be drawn: in a log, or under cron."""
_AT_ONCE = 20
"""Videos that are asked about in one round, the oldest unfinished first."""
ENDED = ("completed", "failed", "unavailable", "cancelled", "parked")
METADATA = "metadata_extraction"


class File(msgspec.Struct, kw_only=True):
    """What became of one file."""

    path: str
    video_id: str | None = None
    filename: str = ""
    error: str | None = None
    """Why it was not taken in."""
    status: str | None = None
    """The video's, once its tasks have ended."""
    tasks: list[dict[str, Any]] = msgspec.field(default_factory=list)

    @property
    def is_bad(self) -> bool:
        """Whether it was refused or one of its tasks did not work out. Unavailable is no fault of the file."""
        return self.error is not None or any(task["status"] in ("failed", "parked") for task in self.tasks)


def run(settings: Settings, paths: Sequence[Path], about: Mapping[str, Any], *, wait: bool, as_json: bool) -> int:
    """Ingest and report; the exit code. `about` goes into every registration: collection, pipeline."""
    console = Console()
    with _api(settings, paths, console, wait=wait) as client:
        files = register(client, find(paths, console), about, console)
        if wait:
            with bars(console) as progress:
                follow(client, files, progress)
    if as_json:
        show_json(files)
    else:
        show_table(("file", "video id", "state", "notes"), [(f.path, f.video_id, f.status, _notes(f)) for f in files])
    if not files:
        endings = ", ".join(ENDINGS)
        console.say(f"No videos there: in a folder, files count that end in {endings}. Name others one by one.")
    return 1 if not files or any(file.is_bad for file in files) else 0


def find(paths: Iterable[Path], console: Console) -> Iterator[tuple[str, str | None]]:
    """(real path, what is wrong) of the files to register: those named, whatever they are, and the videos in folders."""
    for path in paths:
        whole = os.path.realpath(path.expanduser())
        if not Path(whole).is_dir():
            is_text = whole.encode(errors="replace").decode() == whole
            yield whole, None if is_text else "its name is not UTF-8 text: rename it"
            continue
        found = sorted(video_files(whole, recursive=True), key=lambda one: one.path)
        passed = [one for one in found if isinstance(one, PassedOver)]
        if passed:
            console.say(f"{whole}: {len(passed)} passed over, such as {passed[0].path}: {passed[0].reason}.")
        for one in found:
            if not isinstance(one, PassedOver):
                yield one.path, one.error if isinstance(one, ScanProblem) else None


def register(
    client: Client, paths: Iterable[tuple[str, str | None]], about: Mapping[str, Any], console: Console
) -> list[File]:
    """Make them known, one after the other; a refused one is noted and does not stop the rest.

    The same file again is the same video.
    """
    files = []
    for path, wrong in paths:
        file = File(path=path, filename=Path(path).name, error=wrong)
        if wrong is None:
            try:
                answer = client.post("/v1/videos", {"source": path, **about})
                file.video_id, file.filename = answer["video_id"], answer["filename"]
            except ApiRefused as refused:
                file.error = str(refused)
        if file.error is not None:
            console.rich.print(f"{path}: {file.error}", style="red", markup=False)
        files.append(file)
    return files


def follow(client: Client, files: Sequence[File], progress: Progress, *, timeout_s: float | None = None) -> None:
    """Show bars until every task of every file has ended.

    Raises:
        EiokuError: `timeout_s` has passed.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    waiting = [file for file in files if file.video_id is not None]
    whole = progress.add_task("videos", total=len(waiting), speed="")
    shown: dict[str, TaskID] = {}
    said = time.monotonic()
    while waiting:
        for file in waiting[:_AT_ONCE]:
            _look(client, file)
            _draw(progress, shown, file)
        ended = [file for file in waiting if file.status is not None]
        for file in ended:
            for task in file.tasks:
                if task["task_id"] in shown:
                    progress.remove_task(shown.pop(task["task_id"]))
        waiting = [file for file in waiting if file.status is None]
        progress.update(whole, advance=len(ended))
        if not progress.console.is_terminal and time.monotonic() - said > _SAY_EVERY_S:
            progress.console.print(_how_far(files, waiting), markup=False, soft_wrap=True)
            said = time.monotonic()
        if deadline is not None and time.monotonic() > deadline:
            raise EiokuError(f"after {timeout_s:.0f} s still not done: {', '.join(file.path for file in waiting)}")
        if waiting:
            time.sleep(_ASK_EVERY_S)


@contextmanager
def bars(console: Console) -> Iterator[Progress]:
    """Progress bars on standard error."""
    speed = TextColumn("{task.fields[speed]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), speed)
    with Progress(*columns, console=console.rich, transient=True) as progress:
        yield progress


def _look(client: Client, file: File) -> None:
    """Fetch the tasks; set `status` when no more work is open or to come."""
    try:
        file.tasks = client.get("/v1/tasks", video_id=file.video_id, limit=100)["tasks"]
    except ApiRefused as refused:
        if refused.status != HTTPStatus.NOT_FOUND:
            raise
        # Its content was known from another place: the file is that video's now, if nobody removed it.
        same = client.pages("/v1/videos", "videos", filename=file.filename)
        file.video_id = next((one["video_id"] for one in same if one["source"] == file.path), None)
        file.status = None if file.video_id else "deleted"
        return
    states = {task["task_type"]: task["status"] for task in reversed(file.tasks)}
    if any(state not in ENDED for state in states.values()) or METADATA not in states:
        return
    video = client.get(f"/v1/videos/{file.video_id}")
    video = video.get("video", video)
    expected = set(video["task_types"])
    is_last_word = states[METADATA] != "completed" or video["duplicate_of"] is not None
    if is_last_word or expected <= set(states):
        file.status = video["status"]


def _how_far(files: Sequence[File], waiting: Sequence[File]) -> str:
    """A line for a log."""
    whole = sum(file.video_id is not None for file in files)
    running = [
        f"{task['task_type']} of {file.filename}" + (f" {done['done_ms'] * 100 // done['total_ms']} %" if done else "")
        for file in waiting[:_AT_ONCE]
        for task in file.tasks
        if task["status"] == "running"
        for done in [task.get("progress") if (task.get("progress") or {}).get("total_ms") else None]
    ]
    more = f" and {len(running) - 3} more" if len(running) > 3 else ""  # noqa: PLR2004 - a line, not a list
    return f"{whole - len(waiting)} of {whole} videos done; running: {', '.join(running[:3]) or 'nothing yet'}{more}"


def _draw(progress: Progress, shown: dict[str, TaskID], file: File) -> None:
    for task in file.tasks:
        if task["status"] != "running":
            continue
        bar = shown.get(task["task_id"])
        if bar is None:
            bar = shown[task["task_id"]] = progress.add_task(
                f"{file.filename} · {task['task_type']}", total=None, speed=""
            )
        done = task.get("progress")
        if done:
            progress.update(
                bar, completed=done["done_ms"] // 1000, total=max(1, done["total_ms"] // 1000), speed=speed_of(done)
            )


def _notes(file: File) -> str:
    if file.error is not None:
        return file.error
    return "; ".join(
        f"{task['task_type']} {task['status']}: {task['error'] or ''} {task['remedy'] or ''}".strip()
        for task in file.tasks
        if task["status"] in ("failed", "parked", "unavailable")
    )


@contextmanager
def _api(settings: Settings, paths: Sequence[Path], console: Console, *, wait: bool) -> Iterator[Client]:
    """The API that runs, or one of our own that may read the paths and ends with us."""
    running = None if settings.api_url else running_on(settings.data, patience_s=START_S)
    if settings.api_url is not None:
        yield Client(settings.api_url)
    elif running is not None and running.api_url is not None:
        yield Client(running.api_url)
    else:
        if not wait:
            raise EiokuError(f"no Eioku runs on {settings.data}: leave out --no-wait, or start `eioku up` first")
        console.say(f"No Eioku runs on {settings.data}: starting one for as long as this takes.")
        roots = (*settings.media_roots, *(str(path.expanduser().absolute()) for path in paths))
        own = msgspec.structs.replace(settings, media_roots=roots, port=0)
        with Tree(own, console) as tree:
            yield Client(tree.api_url)


