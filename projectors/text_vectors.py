"""Read model: what texts mean, as vectors of pgvector."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Column, Index, Text, Uuid

from migrations.vectors import DIM
from projectors.projection import escape
from projectors.timeline import Escaped, Found, timeline_table, videos_table
from projectors.vectors import HalfVec, VectorProjection


class _Payload(msgspec.Struct, gc=False):
    model: str
    model_digest: str
    dim: int
    source_id: str
    source_type: str
    excerpt: str
    vector: str


class _Embedding(Found, gc=False):
    payload: _Payload


_vectors = timeline_table(
    "text_vectors",
    Column("source_id", Uuid, nullable=False),
    Column("source_type", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("model_digest", Text, nullable=False),
    Column("excerpt", Text, nullable=False),
    Column("vector", HalfVec(DIM), nullable=False),
)
Index(
    "text_vectors_vector",
    _vectors.c.vector,
    postgresql_using="hnsw",
    postgresql_ops={"vector": "halfvec_cosine_ops"},
)


class TextVectors(VectorProjection[_Embedding]):
    """One row for each embedding of the width that the column has; others stay artifacts only."""

    name = "text_vectors"
    artifact_type = "embedding"
    tables = (_vectors, videos_table(name))
    decoder = msgspec.json.Decoder(list[_Embedding])
    own_columns = ("source_id", "source_type", "model", "model_digest", "excerpt", "vector")

    def lines(self, found: Sequence[_Embedding]) -> list[str]:
        """The rows."""
        known = Escaped()
        rows = []
        for f in found:
            payload = f.payload
            if payload.dim != DIM:
                continue
            rows.append(
                f"{f.start_ms}\t{f.end_ms}\t{f.artifact_id}\t{payload.source_id}\t{payload.source_type}\t"
                f"{known[payload.model]}\t{payload.model_digest}\t{escape(payload.excerpt)}\t"
                f"{self.written(payload.vector)}"
            )
        return rows
