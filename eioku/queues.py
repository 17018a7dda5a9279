"""`eioku queue`: what waits for workers, and holding it back."""

from typing import Any

import click

from eioku import options

PRIORITIES = ("hi", "std", "bulk")
_which = click.argument("task_type")
_classes = click.option(
    "--class", "classes", multiple=True, type=click.Choice(PRIORITIES), help="Only this class; repeatable."
)


@click.group()
def queue() -> None:
    """What waits for workers: list it, pause it, resume it."""


@queue.command("list")
@options.data
@options.api
@options.as_json
def list_queues(*, as_json: bool, **flags: Any) -> None:
    """Each task type: what waits and runs, what is paused and why, how long it will take."""
    _show(options.client_of(flags).get("/v1/queues"), as_json=as_json)


@queue.command()
@_which
@_classes
@click.option("--reason", default="", help="Why; shown to whoever wonders.")
@options.data
@options.api
@options.as_json
def pause(task_type: str, *, classes: tuple[str, ...], reason: str, as_json: bool, **flags: Any) -> None:
    """Hold back the waiting tasks of TASK_TYPE, or of all; what runs goes on."""
    body = {"priorities": classes or PRIORITIES, "reason": reason}
    _show(options.client_of(flags).post(f"/v1/queues/{task_type}/pause", body), as_json=as_json)


@queue.command()
@_which
@_classes
@options.data
@options.api
@options.as_json
def resume(task_type: str, *, classes: tuple[str, ...], as_json: bool, **flags: Any) -> None:
    """Hand out the waiting tasks of TASK_TYPE, or of all, again."""
    body = {"priorities": classes or PRIORITIES}
    _show(options.client_of(flags).post(f"/v1/queues/{task_type}/resume", body), as_json=as_json)


def _show(answer: dict[str, Any], *, as_json: bool) -> None:
    from eioku.console import show_json, show_table, span

    if as_json:
        show_json(answer)
        return
    rows = []
    for one in answer["queues"]:
        figures: list[str] = []
        for name in ("pending", "running"):
            parts = [f"{c['priority']} {c[name]}" for c in one["classes"] if c[name]]
            figures.append(", ".join(parts) or "0")
        held: dict[str, list[str]] = {}
        for c in one["classes"]:
            if c["paused"]:
                why = c["paused"]["reason"] or f"paused by {c['paused']['by']}"
                held.setdefault(why, []).append(c["priority"])
        why = "; ".join(f"{'all' if len(c) == len(PRIORITIES) else ', '.join(c)}: {w}" for w, c in held.items())
        rate = "" if one["rate"] is None else f"{one['rate']:.1f}×"
        rows.append((one["task_type"], *figures, rate, span(one["eta_s"]) if one["open_ms"] else "", why))
    show_table(("task type", "waiting", "running", "speed", "to go", "paused"), rows)
