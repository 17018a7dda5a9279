"""Read model: where each object label occurs."""

from collections.abc import Iterable, Sequence

import msgspec
import psycopg
from sqlalchemy import Column, Double, Text

from projectors.timeline import (
    Escaped,
    Found,
    TimelineProjection,
    counts_table,
    spellings_table,
    timeline_table,
    videos_table,
    write_spellings,
)


class _Payload(msgspec.Struct, gc=False):
    label: str
    confidence: float


class _Detection(Found, gc=False):
    payload: _Payload


class ObjectLabels(TimelineProjection[_Detection]):
    """One row for each object in each frame."""

    name = "object_labels"
    artifact_type = "object.detection"
    tables = (
        timeline_table(
            name,
            Column("label", Text(collation="C"), nullable=False),
            Column("confidence", Double, nullable=False),
            label="label",
        ),
        videos_table(name),
        counts_table(name),
        spellings_table(name),
    )
    version = 2
    decoder = msgspec.json.Decoder(list[_Detection])
    own_columns = ("label", "confidence")
    has_counts = True

    def lines(self, found: Sequence[_Detection]) -> list[str]:
        """The rows."""
        labels = Escaped()
        return [
            f"{f.start_ms}\t{f.end_ms}\t{f.artifact_id}\t{labels[f.payload.label]}\t{f.payload.confidence!r}"
            for f in found
        ]

    def labels(self, found: Sequence[_Detection]) -> Iterable[str]:
        """What was seen."""
        return (f.payload.label for f in found)

    def note(self, tenant_id: str, found: Sequence[_Detection]) -> set[tuple[str, str]]:
        """How labels are spelled."""
        return {(tenant_id, label.replace("\0", "")) for label in {f.payload.label for f in found}}

    def write_noted(self, connection: psycopg.Connection, noted: set[tuple[str, str]]) -> None:
        """Add them to the tenant's."""
        write_spellings(connection, self.name, noted)
