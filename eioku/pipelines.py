"""`eioku pipeline`: the file that says what is done with new videos."""

from pathlib import Path
from typing import Any

import click

from domain.errors import InvalidParameter
from eioku import options


@click.group()
def pipeline() -> None:
    """What is done with new videos: show, check and write the pipeline file."""


@pipeline.command()
@options.data
@options.as_json
def show(*, as_json: bool, **flags: Any) -> None:
    """Each plan: task types with profile, language and parameters."""
    from domain.pipeline import full_config
    from eioku.console import show_json, show_table
    from eioku.pipeline_file import load_plans, path_of
    from eioku.settings import load

    settings = load(**flags)
    plans, path = load_plans(settings), path_of(settings)
    if as_json:
        show_json({"file": str(path) if path.exists() else None, "plans": plans})
        return
    rows = []
    named = [(" ".join(part for part in (rule.collection, rule.filename) if part), rule.plan) for rule in plans.rules]
    for name, plan in (*named, ("all others" if named else "all", plans.usual)):
        for task_type in plan.run:
            step = plan.step(task_type)
            profile, config = full_config(task_type, step.profile, step.config)
            shown = ", ".join(f"{key}={value}" for key, value in config.items())
            rows.append((name, task_type, profile, step.language, shown))
    title = str(path) if path.exists() else f"the usual plan; there is no {path}"
    show_table(("videos", "task type", "profile", "language", "parameters"), rows, title=title)


@pipeline.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@options.data
def check(*, file: Path | None, **flags: Any) -> None:
    """Whether FILE, or the one that would be used, can be read; what is wrong with which line if not."""
    from eioku.pipeline_file import path_of, read
    from eioku.settings import load

    path = file or path_of(load(**flags))
    plans = read(path)
    click.echo(f"{path}: {len(plans.usual.run)} task types, {len(plans.rules)} rules")


@pipeline.command()
@options.data
def init(**flags: Any) -> None:
    """Write a commented file with what is done now; an existing one is left alone."""
    from eioku.pipeline_file import VARIABLE, default_text, path_of
    from eioku.settings import load

    path = path_of(load(**flags))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x") as file:
            file.write(default_text())
    except FileExistsError as error:
        raise InvalidParameter(VARIABLE, f"{path} is there already: edit it, or move it away first") from error
    except OSError as error:
        raise InvalidParameter(VARIABLE, f"{path} cannot be written: {error}") from error
    click.echo(f"{path} written; it counts from the next start")
