"""What `projections`, `events` and `faces` do: straight on the database, whether or not anything runs."""

import sys
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import click
import msgspec
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from application.handle import handle
from application.ports import Recorded
from domain.artifacts.envelope import ArtifactBatch, unpack
from domain.event import DomainEvent, Meta
from domain.face_cluster import RequestRecluster
from eioku.bootstrap import database_url, event_log, now
from eioku.console import Console, show_json, show_table
from eioku.settings import Settings
from eioku.supervisor import reachable, stop_signals

_PAGE = 500
_NEWEST = 20
_ONLY_JSON = (
    "artifacts", "config", "config_hash", "input_hash", "run_id", "tenant_id", "correlation_id", "causation_id",
    "created_at", "schema_version", "actor",
)  # fmt: skip
"""What a line for people leaves out."""
_ENVELOPE = ("originator_id", "originator_version", "recorded_at", "tenant_id", "actor", "correlation_id", "causation_id")


def list_projections(settings: Settings, *, as_json: bool) -> None:
    """How far each read model is."""
    from projectors.overview import list_projections as look

    with reachable(settings, Console()) as usable:
        found = look(database_url(usable))
    if as_json:
        show_json(found)
        return
    show_table(
        ("read model", "version", "position", "behind", "rows, about", "parked", "trouble"),
        [
            (
                p.name,
                p.version if p.built_version in (None, p.version) else f"{p.version}, built by {p.built_version}",
                p.position,
                p.lag,
                p.rows,
                p.parked,
                p.error,
            )
            for p in found
        ],
    )


def rebuild(settings: Settings, names: Sequence[str], *, force: bool) -> bool:
    """Rebuild the named read models, all when none is named; whether all were swapped in."""
    from projectors import PROJECTIONS
    from projectors.rebuild import Progress as Step
    from projectors.rebuild import projection_named
    from projectors.rebuild import rebuild as rebuild_one

    console = Console()
    reports = []
    wanted = [projection_named(name).name for name in names] or [projection.name for projection in PROJECTIONS]
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"), TimeElapsedColumn())
    with reachable(settings, console) as usable, Progress(*columns, console=console.rich) as progress:
        for name in wanted:
            bar = progress.add_task(name, total=1, told="")

            def show(step: Step, bar: Any = bar) -> None:
                left = "" if step.eta_s is None else f", {step.eta_s:.0f} s left"
                told = f"{step.phase}, {step.events_per_s:,.0f} events/s{left}"
                progress.update(bar, completed=step.position, total=max(1, step.goal), told=told)

            report = rebuild_one(database_url(usable), name, show, force=force)
            reports.append(report)
            outcome = "swapped in" if report.is_swapped else "DIFFERS, left as it was"
            progress.update(bar, completed=1, total=1, told=outcome)
    show_table(
        ("read model", "rows", "differences", "parked", "seconds", "events/s", "stood still"),
        [
            (
                r.name,
                sum(table.rows for table in r.rebuilt.values()),
                ", ".join(r.differences),
                r.parked,
                f"{r.seconds:.1f}",
                f"{r.events_per_s:,.0f}",
                f"{r.swap_ms:.0f} ms",
            )
            for r in reports
        ],
    )
    if not all(report.is_swapped for report in reports):
        console.say("Where live and rebuilt differ the live tables stay; --force swaps all the same.")
    return all(report.is_swapped for report in reports)


def parked(settings: Settings, *, retry: bool, as_json: bool) -> bool:
    """What could not be applied, after another try if wished; whether there is anything."""
    from projectors.overview import list_parked, retry_parked

    console = Console()
    with reachable(settings, console) as usable:
        if retry:
            digested, left = retry_parked(database_url(usable))
            console.say(f"{digested} applied, {left} still parked")
        found = list_parked(database_url(usable))
    if as_json:
        show_json(found)
    elif found:
        show_table(
            ("read model", "position", "topic", "stream", "since", "why"),
            [(p.projection, p.position, p.topic, p.stream_id, p.parked_at, p.error) for p in found],
        )
    else:
        console.say("Nothing is parked.")
    return bool(found)


def recluster(settings: Settings) -> None:
    """Ask for a re-clustering of all faces."""
    console = Console()
    request = uuid4()
    meta = Meta(at=now(), actor="user:cli", correlation_id=request)
    with reachable(settings, console) as usable, event_log(usable, pool_size=1) as log:
        position = handle(log, RequestRecluster(stream_id=request, meta=meta))
        console.say(
            f"Asked for at {position}. It is done while Eioku runs (`eioku up`): "
            "`faces.reclustered` in `eioku events tail` says when."
        )


def tail(settings: Settings, *, after: int | None, follow: bool, as_json: bool) -> None:
    """Print the log from after a position, and what comes if `follow`."""
    from infrastructure.event_store.log import CHANNEL
    from infrastructure.postgres.listen import Listener

    with (
        stop_signals() as stop,
        reachable(settings, Console()) as usable,
        event_log(usable, pool_size=1) as log,
        Listener(database_url(usable), CHANNEL) as news,
    ):
        position = max(0, log.head() - _NEWEST) if after is None else after
        while not stop.is_set():
            records = log.read(position, limit=_PAGE)
            for record in records:
                _print(record, as_json=as_json)
                position = record.position
            sys.stdout.flush()
            if records:
                continue
            if not follow:
                return
            news.wait()


def _print(record: Recorded, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(msgspec.json.encode(told(record)).decode() + "\n")
        return
    fields = told(record)
    data = fields.pop("data")
    at = str(fields.get("recorded_at", ""))[:19].replace("T", " ")
    said = " ".join(f"{name}={_short(value)}" for name, value in data.items() if _is_worth_telling(name, value))
    click.echo(
        f"{click.style(str(fields['position']).rjust(8), dim=True)} {at} "
        f"{click.style(fields['topic'], bold=True)} {fields['stream_id']} {said}"
    )


def told(record: Recorded) -> dict[str, Any]:
    """A record as plain values: position, topic, stream, who and when, and the event's own fields under `data`."""
    item = record.item
    if isinstance(item, ArtifactBatch):
        head = item.head
        return {
            "position": record.position,
            "topic": "artifact.produced",
            "stream_id": head.run_id,
            "recorded_at": head.created_at,
            "tenant_id": head.tenant_id,
            "data": {
                "artifact_type": head.artifact_type,
                "count": item.count,
                "first_position": record.first_position,
                **msgspec.to_builtins(head),
                "artifacts": msgspec.to_builtins(unpack(item)),
            },
        }
    return _told_event(record.position, item)


def _told_event(position: int, event: DomainEvent) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(event)
    envelope = {name: fields.pop(name) for name in _ENVELOPE}
    return {
        "position": position,
        "topic": event.TOPIC,
        "stream_id": envelope.pop("originator_id"),
        "version": envelope.pop("originator_version"),
        **envelope,
        "data": fields,
    }


def _is_worth_telling(name: str, value: Any) -> bool:
    return value not in (None, "", [], {}) and name not in _ONLY_JSON


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else text[:57] + "…"  # noqa: PLR2004
