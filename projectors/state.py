"""How far each projection is, what it could not digest, and whether it is in trouble."""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
)

from projectors.metadata import metadata

projection_state = Table(
    "projection_state",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("built_at", DateTime(timezone=True)),
    Column("error", Text),
    Column("error_at", DateTime(timezone=True)),
)
"""One row for each projection: the version its live tables were made by, and what stops it now, if anything."""

parked = Table(
    "parked",
    metadata,
    Column("projection", Text, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("stream_id", Uuid, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("topic", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("parked_at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("projection", "position"),
)
"""Events and batches that a projection failed on. The projection goes on without them; a person retries them."""
