"""`eioku rerun`: a task done again, or for the first time, on every video that fits."""

import json
import sys
from typing import Any

import click

from domain.errors import InvalidParameter
from eioku import options


@click.command()
@click.option("--task", "task_type", required=True, help="Task type, such as ocr.")
@click.option("--where", default="", help='Which videos, such as "profile<balanced or missing"; default: all.')
@click.option("--profile", help="fast, balanced or high_quality.")
@click.option("--language", help="Language to force, such as de.")
@click.option("--config", help='Parameters laid over the profile\'s, as JSON: {"every_ms": 1000}.')
@click.option("--priority", type=click.Choice(("hi", "std", "bulk")), default="bulk", show_default=True, help="Class.")
@click.option("--limit", type=click.IntRange(min=1), help="Videos at most.")
@click.option("--force", is_flag=True, help="Compute also what is known already.")
@click.option("--dry-run", is_flag=True, help="Only say how many, how long, and what is kept.")
@click.option("--yes", is_flag=True, help="Do not ask back.")
@options.data
@options.api
@options.as_json
def rerun(
    *, config: str | None, limit: int | None, dry_run: bool, yes: bool, as_json: bool, data: Any, api_url: Any,
    **wish: Any,
) -> None:  # fmt: skip
    """Ask for a task on every video that fits. New runs come beside the old ones; nothing is deleted."""
    client = options.client_of({"data": data, "api_url": api_url})
    body = {name: value for name, value in wish.items() if value is not None} | {"config": _parsed(config)}
    found = client.post("/v1/rerun", body | {"dry_run": True})
    most = found["tasks"] if limit is None else min(limit, found["tasks"])
    if not as_json:
        _tell(found, most)
    if dry_run or not most:
        asked: list[str] = []
    else:
        if not (yes or as_json):
            click.confirm(f"Ask for {most} tasks?", abort=True, err=True)
        asked = _ask(client, body, most)
    if as_json:
        from eioku.console import show_json

        show_json(found | {"dry_run": dry_run, "asked": asked})
    elif asked:
        click.echo(f"{len(asked)} tasks asked for; `eioku status` shows how far they are.")


def _parsed(config: str | None) -> dict[str, Any] | None:
    if config is None:
        return None
    try:
        found = json.loads(config)
    except ValueError as error:
        raise InvalidParameter("EIOKU_RERUN_CONFIG", f"{config!r} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidParameter("EIOKU_RERUN_CONFIG", f"{config!r} is no JSON object")
    return found


def _tell(found: dict[str, Any], most: int) -> None:
    from eioku.console import span

    scope = found["scope"]
    share = most / found["tasks"] if found["tasks"] else 0
    media_s = scope["media_ms"] / 1000 * share
    lines = [
        f"{scope['videos']} videos fit; for {scope['already_asked']} of them it was asked already.",
        f"{most} tasks {found['task_type']} ({found['profile']}), {span(media_s)} of media.",
    ]
    if not most:
        pass
    elif found["rate"] is None:
        lines.append("How long it takes is not known: no such task was measured yet.")
    else:
        lines.append(
            f"About {span(media_s / found['rate'])} for one worker, at {found['rate']:.1f} × real time as measured."
        )
    lines.append(f"Kept: {scope['kept_runs']} earlier runs with {scope['kept_artifacts']} artifacts; nothing is deleted.")
    click.echo("\n".join(lines))


def _ask(client: Any, body: dict[str, Any], most: int) -> list[str]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from eioku.console import Console

    asked: list[str] = []
    after: str | None = None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console().rich, transient=True, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("asking", total=most)
        while len(asked) < most:
            part = {"dry_run": False, "limit": min(200, most - len(asked)), "after": after}
            answer = client.post("/v1/rerun", body | part)
            asked += answer["asked"]
            progress.update(bar, completed=len(asked))
            after = answer["next"]
            if after is None:
                break
    return asked
