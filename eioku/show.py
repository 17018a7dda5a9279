"""What `status`, `search`, `jump` and `doctor` print."""

import sys
from typing import Any

from eioku.client import Client
from eioku.console import Console, clock, show_json, show_table, span, speed_of
from eioku.settings import Settings

_MARK = {"ok": "ok", "note": "note", "problem": "PROBLEM"}
_COUNT_UP_TO = 1_000
_LAST = 50
"""Of the tasks that did not work out, in each state."""


def status(client: Client, *, as_json: bool) -> None:
    """The library, the tasks by status, what runs and what went wrong last."""
    tasks = {
        name: client.get("/v1/tasks", status=name, limit=1)["total"]
        for name in ("pending", "running", "completed", "failed", "unavailable", "cancelled", "parked")
    }
    running = client.get("/v1/tasks", status="running", limit=20)["tasks"]
    # Whoever was started and is pending again waits for another try; the others have no start and come last.
    tried = client.get("/v1/tasks", status="pending", sort_by="started_at", limit=_LAST)["tasks"]
    waiting = [task for task in tried if task["next_try_at"]]
    wrong = [
        task
        for name in ("failed", "unavailable", "parked")
        for task in client.get("/v1/tasks", status=name, limit=_LAST)["tasks"]
    ]
    videos, queues = _count_videos(client), client.get("/v1/queues")
    if as_json:
        told = {
            "videos": videos, "tasks": tasks, "running": running, "waiting": waiting, "wrong": wrong, "queues": queues,
        }  # fmt: skip
        show_json({"api": client.url, **told})
        return
    show_table(("videos", *tasks), [(videos, *tasks.values())], title=client.url)
    open_ones = [one for one in queues["queues"] if any(c["pending"] or c["running"] for c in one["classes"])]
    if open_ones:
        print()
        rows = [
            (
                one["task_type"],
                sum(c["pending"] + c["running"] for c in one["classes"]),
                span(one["open_ms"] / 1000),
                "" if one["rate"] is None else f"{one['rate']:.1f}×",
                span(one["eta_s"]),
                ", ".join(c["priority"] for c in one["classes"] if c["paused"]),
            )
            for one in open_ones
        ]
        rows.append(("in all, one after the other", "", span(queues["open_ms"] / 1000), "", span(queues["eta_s"]), ""))
        show_table(("to do", "tasks", "media", "speed", "to go", "paused"), rows)
    if running:
        print()
        show_table(
            ("running", "video", "worker", "since", "done", "speed"),
            [
                (*(t[name] for name in ("task_type", "video_id", "worker", "started_at")), _share(told), speed_of(told))
                for t in running
                for told in [t["progress"]]
            ],
        )
    if waiting:
        print()
        show_table(
            ("tried again", "video", "not before", "why", "what to do"),
            [
                tuple(t[name] for name in ("task_type", "video_id", "next_try_at", "last_error", "remedy"))
                for t in waiting
            ],
        )
    if wrong:
        print()
        show_table(("not done", "videos", "state", "why", "what to do"), _by_reason(wrong))


def _by_reason(tasks: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """A row for each reason, with one video and how many others share it: a missing model stops all of a library."""
    videos: dict[tuple[Any, ...], list[str]] = {}
    for task in tasks:
        reason = tuple(task[name] for name in ("task_type", "status", "error", "remedy"))
        videos.setdefault(reason, []).append(task["video_id"])
    return [
        (task_type, f"{first} and {len(others)} more" if others else first, state, why, remedy)
        for (task_type, state, why, remedy), (first, *others) in videos.items()
    ]


def _share(progress: dict[str, Any] | None) -> str:
    return f"{progress['done_ms'] / progress['total_ms']:.0%}" if progress and progress["total_ms"] else ""


def _count_videos(client: Client) -> str:
    count = sum(1 for _ in zip(client.pages("/v1/videos", "videos", limit=100), range(_COUNT_UP_TO), strict=False))
    return str(count) if count < _COUNT_UP_TO else f"{_COUNT_UP_TO}+"


def search(client: Client, words: str, *, limit: int, as_json: bool) -> bool:
    """First hits of each kind; whether there was any."""
    asked: tuple[tuple[str, dict[str, Any]], ...] = (
        ("transcript", {"query": words}),
        ("ocr", {"query": words}),
        ("object", {"label": words.lower()}),
        ("place", {"label": words.lower()}),
        ("location", {"query": words}),
    )
    found = {
        kind: client.get("/v1/jump/global", kind=kind, direction="next", limit=limit, **query)["results"]
        for kind, query in asked
    }
    if as_json:
        show_json(found)
    else:
        _hits([(kind, hit) for kind, hits in found.items() for hit in hits])
    return any(found.values())


def jump(client: Client, query: dict[str, Any], *, as_json: bool) -> bool:
    """The hits of one global jump; whether there was any."""
    answer = client.get("/v1/jump/global", **query)
    if as_json:
        show_json(answer)
    else:
        _hits([(query["kind"], hit) for hit in answer["results"]])
    return bool(answer["results"])


def _hits(hits: list[tuple[str, dict[str, Any]]]) -> None:
    if not hits:
        Console().say("Nothing found.")
        return
    show_table(
        ("kind", "captured", "video", "at", "what", "video id"),
        [
            (
                kind,
                (hit["file_created_at"] or "")[:19].replace("T", " "),
                hit["video_filename"],
                clock(hit["jump_to"]["start_ms"]),
                preview(hit["preview"]),
                hit["video_id"],
            )
            for kind, hit in hits
        ],
    )


def preview(found: dict[str, Any]) -> str:
    """A hit's preview in a few words."""
    if "text" in found:
        return str(found["text"]).strip()
    if "label" in found:
        return f"{found['label']} {found['confidence']:.2f}"
    if "city" in found:
        return ", ".join(str(found[key]) for key in ("city", "state", "country") if found.get(key))
    return " ".join(f"{key} {value}" for key, value in found.items() if value is not None)


def doctor(settings: Settings, *, with_load: bool, as_json: bool) -> bool:
    """All findings and producers; whether there is no problem among them."""
    from eioku.doctor import examine, finding_of, proofs

    findings, producers = list(examine(settings)), []
    for proof in proofs(settings, with_load=with_load):
        producers.append(proof)
        if with_load and sys.stderr.isatty():
            print(f"{proof.task_type}: {'loads' if proof.loads else proof.reason}", file=sys.stderr)
    findings += [finding_of(proof) for proof in producers if with_load]
    if as_json:
        used = {name: value if value is None else str(value) for name, value in settings.shown().items()}
        show_json({"settings": used, "findings": findings, "producers": producers})
    else:
        show_table(
            ("", "what", "found", "what to do"), [(_MARK[f.level], f.topic, f.text, f.remedy) for f in findings]
        )
    return all(finding.level != "problem" for finding in findings)

