"""What the program says to people: sentences on standard error, tables or JSON on standard output."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from rich.console import Console as Rich
from rich.table import Table

_LOUD = {"warning": "yellow", "error": "red", "critical": "red"}


class Console:
    """Speaks for a process tree: its own sentences, and of its programs only what an operator must see."""

    def __init__(self) -> None:
        self.rich = Rich(stderr=True, highlight=False)

    def say(self, text: str) -> None:
        """One sentence; may have rich markup."""
        self.rich.print(text, soft_wrap=True)

    def line(self, program: str, text: str) -> None:
        """Show a program's structured line if it is a warning or worse; all lines are in its log file."""
        if not text.startswith("{"):
            return
        try:
            record = json.loads(text)
        except ValueError:
            return
        colour = _LOUD.get(record.pop("level", ""))
        if colour is None:
            return
        event = record.pop("event", "")
        fields = " ".join(f"{k}={v}" for k, v in record.items() if k not in ("timestamp", "role", "exception"))
        self.rich.print(f"{program}: {event} {fields}".rstrip(), style=colour, markup=False, soft_wrap=True)

    def restarted(self, program: str, code: int, pause_s: float) -> None:
        """Say that a program ended by itself."""
        text = f"{program} ended with {code}; starting it again in {pause_s:g} s"
        self.rich.print(text, style="yellow", markup=False)


def show_json(value: Any) -> None:
    """A value on standard output; structs and plain values alike."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")
    sys.stdout.flush()


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> None:
    """A table on standard output, as wide as it needs when that is no terminal."""
    table = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    Rich(highlight=False, markup=False, width=None if sys.stdout.isatty() else 200).print(table)


def clock(ms: int | None) -> str:
    """Milliseconds as a player shows them: 1:02:03.450."""
    if ms is None:
        return ""
    seconds, rest = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}:{minutes:02}" if hours else str(minutes)) + f":{seconds:02}.{rest:03}"


def span(seconds: float | None) -> str:
    """How long something takes, in words; for None that nobody knows."""
    if seconds is None:
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def speed_of(progress: dict[str, Any] | None) -> str:
    """How quick a running task is and when it will have ended, as far as that is known."""
    if not progress or not progress.get("rate"):
        return ""
    return f"{progress['rate']:.1f}×, {span(progress['eta_s'])} to go"
