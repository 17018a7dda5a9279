"""The command line. Commands are thin: each imports what it needs when it runs, so that `--help` is there at once."""

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from eioku import options
from eioku.failures import FAILED, INTERRUPTED, NOTHING_FOUND, described
from eioku.pipelines import pipeline
from eioku.queues import queue
from eioku.rerun import rerun

F = TypeVar("F", bound=Callable[..., Any])

_data, _as_json, _api, _client = options.data, options.as_json, options.api, options.client_of
_media = click.option(
    "--media", multiple=True, type=click.Path(), help="Folder or URL prefix whose files may be registered; repeatable."
)
_workers = click.option("--workers", envvar="EIOKU_WORKERS", help="auto, none, or families and task types: light,asr.")


@click.group(context_settings={"auto_envvar_prefix": "EIOKU", "help_option_names": ["-h", "--help"]})
@click.version_option(package_name="eioku", prog_name="eioku")
def cli() -> None:
    """You film it, Eioku indexes it, you find it.

    Start with `eioku up`, then `eioku ingest PATH` and `eioku search WORDS` in another terminal.
    """


@cli.command()
@_data
@click.option("--host", envvar="EIOKU_HOST", help="Address the API listens on.")
@click.option("--port", type=int, envvar="EIOKU_PORT", help="Port of the API; 0 takes a free one.")
@_workers
@click.option("--api-processes", type=int, envvar="EIOKU_API_PROCESSES", help="API processes that share the port.")
@_media
def up(media: tuple[str, ...], **flags: Any) -> None:
    """Run everything in one process tree until Ctrl-C."""
    from eioku.console import Console
    from eioku.settings import load
    from eioku.supervisor import Tree, stop_signals

    console = Console()
    settings = load(media_roots=list(media) or None, **flags)
    with stop_signals() as stop, Tree(settings, console) as tree:
        console.say(f"[bold]Eioku runs at {tree.api_url}[/] (docs: {tree.api_url}/docs, logs: {settings.data}/logs)")
        if not settings.media_roots:
            console.say("No file may be registered yet: name folders with --media or EIOKU_MEDIA_ROOTS; uploads work.")
        console.say("Ctrl-C stops it.")
        stop.wait()
        console.say("Stopping…")


@cli.command()
@click.option("--video", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Your own file.")
@click.option("--keep", is_flag=True, help="Leave it running until Ctrl-C.")
@click.option("--data", type=click.Path(path_type=Path), default=Path("demo-data"), show_default=True, help="Where.")
@click.option("--port", type=int, default=0, help="Port of the API; default: a free one.")
def demo(video: Path | None, *, keep: bool, data: Path, port: int) -> None:
    """Make films, index them, ask, check the answers."""
    from eioku.demo import run

    sys.exit(run(data, video=video, keep=keep, port=port))


@cli.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@_data
@_api
@click.option("--collection", help="Collection to put the videos into.")
@click.option("--pipeline", help="Task types to run, separated by commas; default: all the usual ones.")
@click.option("--wait/--no-wait", default=True, help="Wait until all their tasks have ended.")
@_as_json
def ingest(
    paths: tuple[Path, ...],
    *,
    collection: str | None,
    pipeline: str | None,
    wait: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Register files and folders, and show how far their tasks are.

    Goes through the API that runs on the data folder; when none does, everything is started for as long as it takes.
    """
    from eioku.ingest import run
    from eioku.settings import load

    about: dict[str, Any] = {"collection": collection}
    if pipeline is not None:
        about["pipeline"] = [name.strip() for name in pipeline.split(",") if name.strip()]
    sys.exit(run(load(**flags), paths, about, wait=wait, as_json=as_json))


@cli.command()
@_data
@_api
@_as_json
def status(*, as_json: bool, **flags: Any) -> None:
    """What is in the library, what runs, what failed."""
    from eioku import show

    show.status(_client(flags), as_json=as_json)


@cli.command()
@click.argument("words", nargs=-1, required=True)
@_data
@_api
@click.option("--limit", type=click.IntRange(1, 50), default=10, show_default=True, help="Hits of each kind.")
@_as_json
def search(words: tuple[str, ...], *, limit: int, as_json: bool, **flags: Any) -> None:
    """Find words, on-screen text, labels and places across the library."""
    from eioku import show

    if not show.search(_client(flags), " ".join(words), limit=limit, as_json=as_json):
        sys.exit(NOTHING_FOUND)


KINDS = ("scene", "transcript", "object", "face", "place", "ocr", "location")


@cli.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("what", nargs=-1)
@_data
@_api
@click.option("--prev", "direction", flag_value="prev", help="Backwards.")
@click.option("--next", "direction", flag_value="next", default=True, help="Forwards (default).")
@click.option("--from-video", "from_video_id", help="Video to start in; default: the end of the timeline.")
@click.option("--from-ms", type=click.IntRange(0, 2**53), help="Milliseconds in that video.")
@click.option("--min-confidence", type=click.FloatRange(0, 1), help="Least confidence.")
@click.option("--limit", type=click.IntRange(1, 50), default=1, show_default=True, help="How many, one after the other.")
@_as_json
def jump(
    kind: str, what: tuple[str, ...], *, as_json: bool, data: Path | None, api_url: str | None, **query: Any
) -> None:
    """The next or previous place in the library that matches WHAT.

    WHAT is words for transcript, ocr and location, a label for object and place, nothing for scene.
    """
    from eioku import show

    words = " ".join(what) or None
    key = "query" if kind in ("transcript", "ocr", "location") else "label"
    client = _client({"data": data, "api_url": api_url})
    if not show.jump(client, {"kind": kind, key: words, **query}, as_json=as_json):
        sys.exit(NOTHING_FOUND)


# ---- how work is asked for and steered

cli.add_command(queue)
cli.add_command(rerun)
cli.add_command(pipeline)


# ---- roles: `eioku up` starts these, and so does compose.yaml ----------------------------------------------------


@cli.command()
@_data
@click.option("--host", envvar="EIOKU_HOST", help="Address to listen on.")
@click.option("--port", type=int, envvar="EIOKU_PORT", help="Port to listen on.")
@click.option("--fd", type=int, help="Take this open socket instead; for `eioku up`.")
def api(*, fd: int | None, **flags: Any) -> None:
    """The API alone."""
    from eioku import roles
    from eioku.settings import load

    roles.api(load(**flags), fd=fd)


@cli.command()
@_data
@click.option("--family", type=click.Choice(("light", "asr", "ocr", "torch")), help="Take all tasks of this family.")
@click.option("--tasks", help="Take only these task types, separated by commas.")
def worker(family: str | None, tasks: str | None, **flags: Any) -> None:
    """One process that works on tasks of one family."""
    from eioku import roles
    from eioku.settings import load

    roles.worker(load(**flags), family=family, tasks=tasks)


def _role(name: str, about: str) -> None:
    @cli.command(name, help=about)
    @_data
    def start(**flags: Any) -> None:
        from eioku import roles
        from eioku.settings import load

        getattr(roles, name)(load(**flags))


_role("relay", "Policies, relay, reconciler and folder scans: what follows from events.")
_role("ingester", "Writes results of workers into the log.")
_role("projector", "Keeps the read models current.")


# ---- upkeep ------------------------------------------------------------------------------------------------------


@cli.command()
@_data
def migrate(**flags: Any) -> None:
    """Bring the database to the newest schema."""
    import migrations
    from eioku.console import Console
    from eioku.settings import load
    from eioku.supervisor import reachable
    from infrastructure.redaction import redacted

    console = Console()
    with reachable(load(**flags), console) as settings:
        assert settings.database_url is not None
        migrations.upgrade(settings.database_url)
        console.say(f"{redacted(settings.database_url)} is current")


@cli.group()
def projections() -> None:
    """The read models: list, rebuild, what is parked."""


@projections.command("list")
@_data
@_as_json
def list_projections(*, as_json: bool, **flags: Any) -> None:
    """Each read model: how far it is, its rows, what is parked."""
    from eioku import upkeep
    from eioku.settings import load

    upkeep.list_projections(load(**flags), as_json=as_json)


@projections.command()
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option("--force", is_flag=True, help="Swap even when live and rebuilt differ.")
@_data
def rebuild(names: tuple[str, ...], *, everything: bool, force: bool, **flags: Any) -> None:
    """Build read models again from the log beside the live ones, compare, swap."""
    from eioku import upkeep
    from eioku.settings import load

    if bool(names) == everything:
        raise click.UsageError("name read models, or say --all")
    if not upkeep.rebuild(load(**flags), names, force=force):
        sys.exit(FAILED)


@projections.command()
@click.option("--retry", is_flag=True, help="Give them another chance first.")
@_data
@_as_json
def parked(*, retry: bool, as_json: bool, **flags: Any) -> None:
    """Events that a read model could not apply."""
    from eioku import upkeep
    from eioku.settings import load

    if upkeep.parked(load(**flags), retry=retry, as_json=as_json):
        sys.exit(FAILED)


@cli.group()
def events() -> None:
    """The log."""


@events.command()
@click.option(
    "--from",
    "after",
    type=click.IntRange(0, 2**63 - 1),
    help="Start after this position; default: the newest 20 events.",
)
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@_data
@_as_json
def tail(*, after: int | None, follow: bool, as_json: bool, **flags: Any) -> None:
    """Events, decoded; batches of artifacts as one line each. --json: one JSON object a line."""
    from eioku import upkeep
    from eioku.settings import load

    upkeep.tail(load(**flags), after=after, follow=follow, as_json=as_json)


@cli.group()
def faces() -> None:
    """Whose faces are whose."""


@faces.command()
@_data
def recluster(**flags: Any) -> None:
    """Look at all faces again, together; people keep their ids where they can. It happens where the relay runs."""
    from eioku import upkeep
    from eioku.settings import load

    upkeep.recluster(load(**flags))


@cli.command()
@click.option("--load/--no-load", "with_load", default=True, help="Load every producer's library and model (default).")
@_data
@_as_json
def doctor(*, with_load: bool, as_json: bool, **flags: Any) -> None:
    """What is here, what is missing, what to do about it."""
    from eioku import show
    from eioku.settings import load

    if not show.doctor(load(**flags), with_load=with_load, as_json=as_json):
        sys.exit(FAILED)


def main() -> None:
    """Run a command; what goes wrong is one sentence without secrets, not a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # File names need not be UTF-8, and the terminal's encoding need not be either.
            stream.reconfigure(errors="backslashreplace")
    if not {"-h", "--help", "--version"} & set(sys.argv):
        from infrastructure.logs import configure_command

        configure_command()
    try:
        cli(prog_name="eioku")
    except BrokenPipeError:  # `eioku events tail | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        if os.environ.get("EIOKU_LOG_LEVEL") == "debug":
            raise
        sentence, code = described(error)
        click.echo(f"eioku: {sentence}", err=True)
        sys.exit(code)
