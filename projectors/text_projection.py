"""What the two read models of text share."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
import psycopg
from sqlalchemy import Column, Computed, Double, Index, Integer, PrimaryKeyConstraint, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import TSVECTOR

from application.ports import Recorded
from domain.artifacts.envelope import ArtifactBatch
from domain.run import RunCompleted
from domain.words import fold
from projectors.cut import words_of
from projectors.metadata import metadata
from projectors.projection import escape
from projectors.text import CONFIGS, config_of
from projectors.timeline import Escaped, Found, TimelineProjection, timeline_table


# By name in a CASE: a column of type regconfig would forbid pg_upgrade, and a cast from text is not immutable.
def _tsvector(column: str) -> str:
    configs = " ".join(
        f"WHEN '{config}' THEN to_tsvector('pg_catalog.{config}'::regconfig, {column})"
        for config in CONFIGS
        if config != "simple"
    )
    return f"CASE config {configs} ELSE to_tsvector('pg_catalog.simple'::regconfig, {column}) END"


# Each word without its accents, and those with accents once more under a weight of their own, see `hits.matching`. Those
# come first, since Postgres keeps 255 places a word.
_TSV = (
    f"CASE WHEN accented = '' THEN ''::tsvector ELSE setweight({_tsvector('accented')}, 'B') END"
    f" || {_tsvector('words')}"
)


def text_table(name: str) -> Table:
    """The table of a text read model.

    `words` and `accented` are what `cut.words_of` makes of the text; `folded` is `words.fold(text)`, NULL where that is
    the text in lower case, as all of ASCII is.
    """
    table = timeline_table(
        name,
        # What is counted by comes first: rows are wide, and counting reads only their beginning.
        Column("config", Text, nullable=False),
        Column("confidence", Double),
        Column("text", Text, nullable=False),
        Column("words", Text, nullable=False),
        Column("language", Text),
        Column("speaker", Text),
        Column("accented", Text, nullable=False),
        Column("folded", Text),
        Column("tsv", TSVECTOR, Computed(_TSV, persisted=True), nullable=False),
    )
    # No pending list: searches would read all of it.
    Index(f"{name}_tsv", table.c.tsv, postgresql_using="gin", postgresql_with={"fastupdate": "off"})
    return table


def configs_table(name: str) -> Table:
    """The text search configurations that a tenant's texts use; a query is stemmed by each of them."""
    return Table(
        f"{name}_configs",
        metadata,
        Column("tenant_id", Text, nullable=False),
        Column("config", Text, nullable=False),
        PrimaryKeyConstraint("tenant_id", "config", name=f"{name}_configs_pkey"),
    )


def words_table(name: str) -> Table:
    """How many rows of a completed run have a word: totals without reading the rows, which are wide."""
    return Table(
        f"{name}_words",
        metadata,
        Column("tenant_id", Text, nullable=False),
        Column("config", Text, nullable=False),
        Column("lexeme", Text(collation="C"), nullable=False),
        Column("run_id", Uuid, nullable=False),
        Column("n", Integer, nullable=False),
        # Not unique, though the rows are: only an index with equal keys stays small, a tenth of a unique one.
        Index(f"{name}_words_lexeme", "tenant_id", "config", "lexeme"),
        Index(f"{name}_words_run", "run_id"),
    )


class _Payload(msgspec.Struct, gc=False):
    text: str
    language: str | None = None
    confidence: float | None = None
    speaker: str | None = None


class Line(Found, gc=False):
    """A transcript segment or a line of on-screen text."""

    payload: _Payload


class TextProjection(TimelineProjection[Line]):
    """One row for each piece of text, and the number of rows for each word of a completed run."""

    topics = TimelineProjection.topics | {RunCompleted.TOPIC}
    decoder = msgspec.json.Decoder(list[Line])
    version = 2
    own_columns = ("config", "confidence", "text", "words", "accented", "folded", "language", "speaker")

    def apply(self, connection: psycopg.Connection, records: Sequence[Recorded]) -> None:
        """A run is counted as it was when it completed: what came later, against the rules, begins a new piece."""
        completed: set[UUID] = set()
        begin = 0
        for at, record in enumerate(records):
            match record.item:
                case RunCompleted(originator_id=run_id):
                    completed.add(run_id)
                case ArtifactBatch(head=head) if head.run_id in completed:
                    super().apply(connection, records[begin:at])
                    completed.clear()
                    begin = at
                case _:
                    pass
        super().apply(connection, records[begin:])

    def lines(self, found: Sequence[Line]) -> list[str]:
        """The rows."""
        known = Escaped()
        rows = []
        for f in found:
            payload = f.payload
            folded = fold(payload.text)
            words, accented = words_of(folded)
            kept = "\\N" if folded.isascii() and folded == payload.text.lower() else escape(folded)
            confidence = "\\N" if payload.confidence is None else repr(payload.confidence)
            rows.append(
                f"{f.start_ms}\t{f.end_ms}\t{f.artifact_id}\t{config_of(payload.language)}\t{confidence}\t"
                f"{escape(payload.text)}\t{words}\t{accented}\t{kept}\t"
                f"{known[payload.language]}\t{known[payload.speaker]}"
            )
        return rows

    def note(self, tenant_id: str, found: Sequence[Line]) -> set[tuple[str, str]]:
        """The configurations in use."""
        return {(tenant_id, config_of(language)) for language in {f.payload.language for f in found}}

    def write_noted(self, connection: psycopg.Connection, noted: set[tuple[str, str]]) -> None:
        """Add them to the tenant's."""
        connection.execute(
            f"INSERT INTO {self.name}_configs SELECT * FROM unnest(%s::text[], %s::text[]) ON CONFLICT DO NOTHING",
            [list(column) for column in zip(*sorted(noted), strict=True)],
        )

    def sum_up(
        self, connection: psycopg.Connection, completed: Sequence[tuple[str, UUID, datetime | None, UUID]]
    ) -> None:
        """Count the rows of each word."""
        connection.execute(
            f"""INSERT INTO {self.name}_words (tenant_id, config, lexeme, run_id, n)
            SELECT t.tenant_id, t.config, w.lexeme, t.run_id, count(*)
            FROM unnest(%s::text[], %s::uuid[], %s::timestamptz[], %s::uuid[]) c (tenant_id, video_id, at, run_id)
                JOIN {self.name} t ON t.tenant_id = c.tenant_id AND t.captured_at = coalesce(c.at, 'infinity')
                    AND t.video_id = c.video_id AND t.run_id = c.run_id
                CROSS JOIN LATERAL unnest(t.tsv) w
            GROUP BY t.tenant_id, t.config, w.lexeme, t.run_id""",
            [list(column) for column in zip(*completed, strict=True)],
        )

    def _forget(
        self, connection: psycopg.Connection, gone: Sequence[tuple[str, UUID, datetime | None]]
    ) -> None:
        if gone:
            connection.execute(
                f"""DELETE FROM {self.name}_words WHERE run_id IN (
                    SELECT t.run_id FROM {self.name} t
                        JOIN unnest(%s::text[], %s::uuid[], %s::timestamptz[]) g (tenant_id, video_id, at)
                            ON t.tenant_id = g.tenant_id AND t.captured_at = coalesce(g.at, 'infinity')
                                AND t.video_id = g.video_id)""",
                [list(column) for column in zip(*gone, strict=True)],
            )
        super()._forget(connection, gone)
