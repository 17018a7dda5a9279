"""Read model: the stored selection policies. Written by the projection `run_types`, whose flags follow from them."""

from datetime import datetime
from uuid import UUID

import msgspec
import psycopg
from sqlalchemy import Column, DateTime, PrimaryKeyConstraint, Table, Text, Uuid

from domain.selection import Mode
from projectors.metadata import metadata

selection_policies = Table(
    "selection_policies",
    metadata,
    Column("tenant_id", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("artifact_type", Text, nullable=False),
    Column("video_id", Uuid),
    Column("mode", Text, nullable=False),
    Column("profile", Text),
    Column("run_id", Uuid),
    Column("set_at", DateTime(timezone=True), nullable=False),
    Column("set_by", Text, nullable=False),
    PrimaryKeyConstraint("tenant_id", "scope", "artifact_type"),
)
"""`scope` is the video's id, or 'library'; `video_id` is null for the library."""


class SelectionPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """A stored policy."""

    artifact_type: str
    video_id: UUID | None
    """None = library-wide."""
    mode: Mode
    profile: str | None
    run_id: UUID | None
    set_at: datetime
    set_by: str


_COLUMNS = ", ".join(SelectionPolicy.__struct_fields__)


async def get_policy(
    connection: psycopg.AsyncConnection, *, tenant_id: str, artifact_type: str, video_id: UUID | None
) -> SelectionPolicy | None:
    """The policy of the video, or library-wide; None when none is stored there."""
    scope = "library" if video_id is None else str(video_id)
    rows = await connection.execute(
        f"SELECT {_COLUMNS} FROM selection_policies WHERE (tenant_id, scope, artifact_type) = (%s, %s, %s)",
        (tenant_id, scope, artifact_type),
    )
    row = await rows.fetchone()
    return (
        None
        if row is None
        else SelectionPolicy(**dict(zip(SelectionPolicy.__struct_fields__, row, strict=True)))
    )
