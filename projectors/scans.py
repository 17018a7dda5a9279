"""Read model: looks through folders."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
import psycopg
from sqlalchemy import BigInteger, Boolean, Column, DateTime, Index, Integer, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from application.ports import Recorded
from domain.errors import ScanNotFound
from domain.scan import EVENTS, PassedOver, ScanCompleted, ScanEvent, ScanProblem, ScanRequested, ScanStopped
from projectors.metadata import metadata
from projectors.projection import Projection
from projectors.rows import Row, Rows

scans = Table(
    "scans",
    metadata,
    Column("scan_id", Uuid, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("root", Text, nullable=False),
    Column("recursive", Boolean, nullable=False),
    Column("watch", Boolean, nullable=False),
    Column("status", Text, nullable=False),
    Column("requested_at", DateTime(timezone=True), nullable=False),
    Column("completed_at", DateTime(timezone=True)),
    Column("stopped_at", DateTime(timezone=True)),
    Column("looks", Integer, nullable=False),
    Column("found", Integer, nullable=False),
    Column("registered", Integer, nullable=False),
    Column("changed", Integer, nullable=False),
    Column("relocated", Integer, nullable=False),
    Column("missing", Integer, nullable=False),
    Column("problem_count", Integer, nullable=False),
    Column("problems", JSONB, nullable=False),
    Column("passed_over_count", Integer, nullable=False),
    Column("passed_over", JSONB, nullable=False),
    Column("position", BigInteger, nullable=False),
    Index("scans_requested", "tenant_id", "requested_at", "position"),
)


class Scans(Projection):
    """Every scan that was asked for, and what its looks found in sum."""

    name = "scans"
    tables = (scans,)
    topics = frozenset(event.TOPIC for event in EVENTS)

    def apply(self, connection: psycopg.Connection, records: Sequence[Recorded]) -> None:
        """One row a scan."""
        rows = Rows(
            connection, scans, (r.item.originator_id for r in records if isinstance(r.item, ScanEvent))
        )
        for record in records:
            match record.item:
                case ScanRequested() as event:
                    rows.put(event.originator_id, _requested(event, record.position))
                case ScanEvent() as event if (row := rows.get(event.originator_id)) is not None:
                    _change(row, event)
        rows.save()


def _requested(event: ScanRequested, position: int) -> Row:
    return {
        "tenant_id": event.tenant_id,
        "root": event.root,
        "recursive": event.recursive,
        "watch": event.watch,
        "status": "running",
        "requested_at": event.recorded_at,
        "looks": 0,
        "found": 0,
        "registered": 0,
        "changed": 0,
        "relocated": 0,
        "missing": 0,
        "problem_count": 0,
        "problems": [],
        "passed_over_count": 0,
        "passed_over": [],
        "position": position,
    }


def _change(row: Row, event: ScanEvent) -> None:
    match event:
        case ScanCompleted():
            row |= {
                "status": "stopped"
                if row["status"] == "stopped"
                else "watching"
                if row["watch"]
                else "completed",
                "completed_at": event.recorded_at,
                "looks": row["looks"] + 1,
                "found": event.found,
                "registered": row["registered"] + event.registered,
                "changed": row["changed"] + event.changed,
                "relocated": row["relocated"] + event.relocated,
                "missing": row["missing"] + event.missing,
                "problem_count": event.problem_count,
                "problems": event.problems,
                "passed_over_count": event.passed_over_count,
                "passed_over": event.passed_over,
            }
        case ScanStopped():
            row |= {"status": "stopped", "watch": False, "stopped_at": event.recorded_at}
        case _:
            raise TypeError(event)


# ---- queries ------------------------------------------------------------------------------------------------------


class ScanView(msgspec.Struct, frozen=True, kw_only=True):
    """A scan and what it found."""

    scan_id: UUID
    root: str
    recursive: bool
    watch: bool
    status: Literal["running", "completed", "watching", "stopped"]
    requested_at: datetime
    completed_at: datetime | None
    """Of the newest look."""
    stopped_at: datetime | None
    looks: int
    found: int
    """Files in the newest look."""
    registered: int
    """In all looks."""
    changed: int
    """In all looks."""
    relocated: int
    """Videos whose file was found at another place, in all looks."""
    missing: int
    """Videos whose file was no longer there, in all looks."""
    problem_count: int
    """In the newest look."""
    problems: list[ScanProblem]
    """The first 100 of them."""
    passed_over_count: int
    """What looks like a video and was not taken in on purpose, in the newest look."""
    passed_over: list[PassedOver]
    """The first 100 of them."""
    position: int


_FIELDS = ScanView.__struct_fields__
_COLUMNS = ", ".join(_FIELDS)


async def get_scan(connection: psycopg.AsyncConnection, *, tenant_id: str, scan_id: UUID) -> ScanView:
    """One scan.

    Raises:
        ScanNotFound: no such scan for this tenant.
    """
    rows = await connection.execute(
        f"SELECT {_COLUMNS} FROM scans WHERE tenant_id = %s AND scan_id = %s", (tenant_id, scan_id)
    )
    row = await rows.fetchone()
    if row is None:
        raise ScanNotFound(scan_id)
    return _view(row)


async def list_scans(
    connection: psycopg.AsyncConnection, *, tenant_id: str, limit: int = 50
) -> list[ScanView]:
    """The newest scans, newest first."""
    rows = await connection.execute(
        f"SELECT {_COLUMNS} FROM scans WHERE tenant_id = %s ORDER BY requested_at DESC, position DESC LIMIT %s",
        (tenant_id, limit),
    )
    return [_view(row) for row in await rows.fetchall()]


def _view(row: tuple[Any, ...]) -> ScanView:
    scan = dict(zip(_FIELDS, row, strict=True))
    scan["problems"] = [ScanProblem(**problem) for problem in scan["problems"]]
    scan["passed_over"] = [PassedOver(**one) for one in scan["passed_over"]]
    return ScanView(**scan)
