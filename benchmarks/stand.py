"""What a benchmark stands on: embedded services in a folder that goes away, roles as processes, a table at the end."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
import structlog
from rich.console import Console
from rich.table import Table

from eioku.console import Console as Told
from eioku.settings import Settings, load
from eioku.supervisor import Tree

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))  # warnings and worse


@contextmanager
def tree(*, with_roles: bool, **settings: object) -> Iterator[Tree]:
    """Embedded services in a folder of their own, and with `with_roles` the whole program around them."""
    folder = Path(tempfile.mkdtemp(prefix="eioku-bench-"))
    folder.chmod(0o755)
    try:
        with Tree(load({}, data=folder, port=0, **settings), Told(), with_roles=with_roles) as made:
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def services() -> Iterator[Settings]:
    """Postgres and NATS, migrated; the settings with their URLs."""
    with tree(with_roles=False) as made:
        yield made.settings


@contextmanager
def role(settings: Settings, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """One role as a process of its own, ended afterwards."""
    log = (settings.data / f"bench-{arguments[0]}.log").open("ab")
    process = subprocess.Popen(
        [sys.executable, "-m", "eioku", *arguments],
        env=os.environ | settings.environment() | {"EIOKU_LOG_LEVEL": "warning"},
        stdout=log,
        stderr=log,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
        log.close()


def connect(settings: Settings) -> psycopg.Connection[tuple[object, ...]]:
    """An autocommit connection that reads the read models."""
    assert settings.database_url is not None
    return psycopg.connect(settings.database_url, autocommit=True, options="-c search_path=read")


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print figures as a table."""
    table = Table(title=title, title_justify="left")
    for n, column in enumerate(columns):
        table.add_column(column, justify="left" if n == 0 else "right")
    for row in rows:
        table.add_row(*(f"{cell:,.2f}" if isinstance(cell, float) else f"{cell:,}" if isinstance(cell, int) else str(cell)
                        for cell in row))
    Console(width=150).print(table)
