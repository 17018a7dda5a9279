"""`eioku demo`: makes films of which everything is known, indexes them, asks over HTTP, checks every answer."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from domain.video import video_id_of
from eioku.client import ApiRefused, Client
from eioku.console import Console, clock, show_table
from eioku.demo_film import Film, Truth, make_films
from eioku.ingest import File, bars, follow
from eioku.settings import load
from eioku.show import preview
from eioku.supervisor import Tree, stop_signals

SPOKEN = "museum"
"""Said in both films."""
LABEL = "bus"
"""Photographed in both films."""
WRITTEN = "platform"
"""On a card of the second film."""
_LONGEST_S = 1_800
_WORD_TOLERANCE_MS = 500
_SAMPLED_MS = 1_000
"""A detector that looks twice a second sees a thing at most this late."""


Hit = dict[str, Any]


class Right(NamedTuple):
    """What the right answer is."""

    expected: str
    check: Callable[[Hit], bool]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One question, what came back, and whether that is right."""

    question: str
    found: str
    expected: str
    is_right: bool
    took_ms: float


class Questions:
    """Asks and notes."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.answers: list[Answer] = []

    def ask(self, question: str, path: str, query: dict[str, Any], right: Right) -> Hit | None:
        """Ask for one hit of a global or in-video jump; the hit, None when there is none."""
        began = time.perf_counter()
        try:
            answer = self.client.get(path, **{"direction": "next"} | query)
        except ApiRefused as refused:
            if refused.code_sent != "NO_MATCH":
                raise
            answer = {"results": []}
        took_ms = (time.perf_counter() - began) * 1000
        hits = answer.get("results", [answer])
        hit: Hit | None = hits[0] if hits else None
        self.answers.append(
            Answer(
                question=question,
                found="nothing" if hit is None else _told(hit),
                expected=right.expected,
                is_right=hit is not None and right.check(hit),
                took_ms=took_ms,
            )
        )
        return hit


def run(data: Path, *, video: Path | None, keep: bool, port: int) -> int:
    """The whole demo; 0 when every answer is right."""
    console = Console()
    began = time.monotonic()
    own = data.absolute() / ("films" if video is None else "video")
    films_folder = own / "media"
    with ThreadPoolExecutor(max_workers=1) as maker:
        if video is None:
            console.say("Making two films of which everything is known, and starting Postgres, NATS and all roles…")
        making = maker.submit(lambda: make_films(films_folder) if video is None else ())
        root = films_folder if video is None else video.absolute().parent
        settings = load(data=own, port=port, media_roots=[str(root)])
        with stop_signals() as stop, Tree(settings, console) as tree:
            films = making.result()
            client = Client(tree.api_url)
            console.say(f"Everything runs after {time.monotonic() - began:.1f} s. Indexing…")
            paths = [film.path for film in films] or [_given(video)]
            files = [_register(client, path) for path in paths]
            with bars(console) as progress:
                follow(client, files, progress, timeout_s=_LONGEST_S if films else None)
            _show_tasks(files)
            questions = Questions(client)
            if films:
                _labels_from_truth(client, films, files, console)
                _ask_about_films(questions, films, files)
            else:
                _ask_about_video(questions, files[0])
            is_good = _report(questions, files, console, began)
            console.say(f"API: {tree.api_url} · its pages: {tree.api_url}/docs · data and logs: {own}")
            if keep:
                console.say("Left running; Ctrl-C stops it.")
                stop.wait()
    return 0 if is_good else 1


def _given(video: Path | None) -> Path:
    assert video is not None
    return video.absolute()


def _register(client: Client, path: Path) -> File:
    """Under an id that follows from the path, so that a second demo finds the first one's work."""
    for known in client.get("/v1/videos", filename=path.name, limit=100)["videos"]:
        if known["source"] == os.path.realpath(path):
            return File(path=str(path), video_id=known["video_id"], filename=known["filename"])
    video_id = video_id_of(client.tenant, os.path.realpath(path))
    answer = client.put(f"/v1/videos/{video_id}", {"source": str(path)})
    return File(path=str(path), video_id=answer["video_id"], filename=answer["filename"])


def _show_tasks(files: list[File]) -> None:
    show_table(
        ("video", "task", "state", "found", "attempt took", "what to do"),
        [
            (
                file.filename,
                task["task_type"],
                task["status"],
                task["artifact_count"],
                "" if task["running_ms"] is None else f"{task['running_ms'] / 1000:.1f} s",
                task["remedy"] or task["error"],
            )
            for file in files
            for task in sorted(file.tasks, key=lambda task: str(task["created_at"]))
        ],
    )


# ---- our own films -----------------------------------------------------------------------------------------------


def _labels_from_truth(client: Client, films: tuple[Film, ...], files: list[File], console: Console) -> None:
    """Where no detector could run, bring in what the films are known to show, under its own name."""
    for film, file in zip(films, files, strict=True):
        if _states(file).get("object_detection") != "unavailable":
            continue
        console.say(
            f"{file.filename}: no detector weights here. Its labels are the film's own ground truth, brought in through "
            "the imports API by the producer 'film ground truth'; nothing was detected."
        )
        artifacts = [
            {
                "artifact_type": "object.detection",
                "span_start_ms": thing.at_ms,
                "span_end_ms": thing.at_ms,
                "payload": {
                    "label": thing.label,
                    "confidence": 1.0,
                    "box": list(thing.box),
                    "frame_index": thing.at_ms * film.truth.fps // 1000,
                },
            }
            for thing in film.truth.objects
        ]
        body = {
            "run_id": str(UUID(bytes=sha256(f"{file.video_id}:truth".encode()).digest()[:16], version=4)),
            "producer": "film ground truth",
            "producer_version": "1",
            "created_at": film.truth.captured_at.isoformat(),
            "artifact_types": ["object.detection"],
            "artifacts": artifacts,
        }
        client.post(f"/v1/videos/{file.video_id}/imports", body)


def _ask_about_films(questions: Questions, films: tuple[Film, ...], files: list[File]) -> None:
    first, second = (film.truth for film in films)
    first_id, second_id = (str(file.video_id) for file in files)
    jump = "/v1/jump/global"

    def says(truth: Truth, video_id: str, *, last: bool = False) -> Right:
        word = [word for word in truth.words if word.word.strip(".,").lower() == SPOKEN][-1 if last else 0]

        def check(hit: Hit) -> bool:
            span = hit["jump_to"]
            starts_in_time = span["start_ms"] - _WORD_TOLERANCE_MS <= word.start_ms
            ends_in_time = word.end_ms <= span["end_ms"] + _WORD_TOLERANCE_MS
            return bool(hit["video_id"] == video_id and starts_in_time and ends_in_time)

        return Right(f"{truth.name}, around {clock(word.start_ms)}", check)

    def shows(truth: Truth, video_id: str) -> Right:
        at_ms = next(thing.at_ms for thing in truth.objects if thing.label == LABEL)

        def check(hit: Hit) -> bool:
            return bool(hit["video_id"] == video_id and 0 <= hit["jump_to"]["start_ms"] - at_ms <= _SAMPLED_MS)

        return Right(f"{truth.name}, from {clock(at_ms)}", check)

    spoken = {"kind": "transcript", "query": SPOKEN}
    seen = {"kind": "object", "label": LABEL}
    ask = questions.ask
    end = {"from_video_id": first_id, "from_ms": first.duration_ms}
    ask(f"Where is “{SPOKEN}” said?", jump, spoken, says(first, first_id))
    hit = ask("… and in the next video?", jump, spoken | end, says(second, second_id))
    ask("… and back again?", jump, spoken | _after(hit) | {"direction": "prev"}, says(first, first_id, last=True))
    ask(f"Where is a {LABEL}?", jump, seen, shows(first, first_id))
    ask("… and in the next video?", jump, seen | end, shows(second, second_id))
    last = max(thing.at_ms for thing in first.objects if thing.label == LABEL)
    ask(
        "… and the last one before that video?",
        jump,
        seen | {"from_video_id": second_id, "from_ms": 0, "direction": "prev"},
        Right(
            f"{first.name}, until {clock(last)}",
            lambda hit: hit["video_id"] == first_id and abs(hit["jump_to"]["start_ms"] - last) <= _SAMPLED_MS,
        ),
    )
    if all(_states(file).get("ocr") == "completed" for file in files):
        card = next(card for card in second.cards if WRITTEN in card.text.lower())
        ask(
            f"Where is “{WRITTEN}” written?",
            jump,
            {"kind": "ocr", "query": WRITTEN},
            Right(
                f"{second.name}, from {clock(card.start_ms)}",
                lambda hit: (
                    hit["video_id"] == second_id
                    and abs(hit["jump_to"]["start_ms"] - card.start_ms) <= _SAMPLED_MS
                    and abs(hit["jump_to"]["end_ms"] - card.end_ms) <= _SAMPLED_MS
                ),
            ),
        )
    cut, frame_ms = first.cuts_ms[1], 1000 // first.fps
    ask(
        "Which scene comes after 0:05?",
        f"/v1/videos/{first_id}/jump",
        {"kind": "scene", "direction": "next", "from_ms": 5_000},
        Right(f"cut at {clock(cut)}", lambda hit: abs(hit["jump_to"]["start_ms"] - cut) <= frame_ms),
    )
    ask(
        f"What was filmed in {second.city}?",
        jump,
        {"kind": "location", "query": second.city},
        Right(
            f"{second.name}, {second.country}",
            lambda hit: hit["video_id"] == second_id and second.city in str(hit["preview"].get("city")),
        ),
    )


def _states(file: File) -> dict[str, str]:
    """Status by task type."""
    return {task["task_type"]: task["status"] for task in file.tasks}


def _after(hit: Hit | None) -> dict[str, Any]:
    return {} if hit is None else {"from_video_id": hit["video_id"], "from_ms": hit["jump_to"]["start_ms"]}


# ---- the user's own ----------------------------------------------------------------------------------------------


def _ask_about_video(questions: Questions, file: File) -> None:
    """Questions made from what was found: the first word, label and cut must be found again where they are."""
    path = f"/v1/videos/{file.video_id}/jump"

    def first(artifact_type: str, which: int = 0) -> dict[str, Any] | None:
        found = questions.client.get(f"/v1/videos/{file.video_id}/artifacts", type=artifact_type, limit=10)
        items: list[dict[str, Any]] = found["artifacts"]
        return items[which] if len(items) > which else None

    def starts(artifact: dict[str, Any]) -> Right:
        at_ms = artifact["span_start_ms"]
        return Right(f"from {clock(at_ms)}", lambda hit: bool(hit["jump_to"]["start_ms"] == at_ms))

    ask = questions.ask
    if (segment := first("transcript.segment")) is not None:
        word = max(segment["payload"]["text"].split(), key=len).strip(".,!?;:\"'")
        query = {"kind": "transcript", "query": word}
        ask(f"Where is “{word}” said?", path, query, starts(segment))
    if (thing := first("object.detection")) is not None:
        label = thing["payload"]["label"]
        ask(f"Where is a {label}?", path, {"kind": "object", "label": label}, starts(thing))
    if (line := first("ocr.text")) is not None:
        word = max(line["payload"]["text"].split(), key=len).strip(".,!?;:\"'")
        ask(f"Where is “{word}” written?", path, {"kind": "ocr", "query": word}, starts(line))
    if (scene := first("scene", 1)) is not None:
        before = {"kind": "scene", "direction": "next", "from_ms": scene["span_start_ms"] - 1}
        ask("Where is the first cut?", path, before, starts(scene))
    city = ((first("video.metadata") or {}).get("payload") or {}).get("city")
    if city:
        mine = Right(file.filename, lambda hit: hit["video_id"] == file.video_id)
        ask(f"What was filmed in {city}?", "/v1/jump/global", {"kind": "location", "query": city}, mine)


# ---- what came of it ---------------------------------------------------------------------------------------------


def _report(questions: Questions, files: list[File], console: Console, began: float) -> bool:
    show_table(
        ("", "question", "answer", "expected", "took"),
        [
            ("ok" if a.is_right else "WRONG", a.question, a.found, a.expected, f"{a.took_ms:.0f} ms")
            for a in questions.answers
        ],
    )
    wrong = sum(not answer.is_right for answer in questions.answers)
    failed = sum(task["status"] in ("failed", "parked", "cancelled") for file in files for task in file.tasks)
    seconds = time.monotonic() - began
    if wrong or failed:
        console.say(f"[red]{wrong} answers wrong, {failed} tasks failed, after {seconds:.0f} s[/]")
    elif questions.answers:
        console.say(f"[green]All {len(questions.answers)} answers right after {seconds:.0f} s[/]")
    else:
        console.say(f"Nothing was found in the video that could be asked for, after {seconds:.0f} s")
    return not wrong and not failed


def _told(hit: dict[str, Any]) -> str:
    where = f"{hit['video_filename']} " if "video_filename" in hit else ""
    return f"{where}{clock(hit['jump_to']['start_ms'])} {preview(hit['preview'])}"
