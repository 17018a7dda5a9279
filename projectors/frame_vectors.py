"""Read model: what frames show, as vectors of pgvector."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Column, Index, Integer, Text, literal_column

from migrations.vectors import INDEXED_DIMS
from projectors.timeline import Escaped, Found, timeline_table, videos_table
from projectors.vectors import HalfVec, VectorProjection


class _Payload(msgspec.Struct, gc=False):
    model: str
    model_digest: str
    dim: int
    vector: str


class _Frame(Found, gc=False):
    payload: _Payload


_vectors = timeline_table(
    "frame_vectors",
    Column("model", Text, nullable=False),
    Column("model_digest", Text, nullable=False),
    Column("dim", Integer, nullable=False),
    Column("vector", HalfVec(), nullable=False),
)
for _dim in INDEXED_DIMS:
    Index(
        f"frame_vectors_vector_{_dim}",
        literal_column(f"(vector::public.halfvec({_dim}))").label("as_wide"),
        postgresql_using="hnsw",
        postgresql_ops={"as_wide": "halfvec_cosine_ops"},
        postgresql_where=_vectors.c.dim == _dim,
        _table=_vectors,
    )


class FrameVectors(VectorProjection[_Frame]):
    """One row for each embedded frame, of whatever model and width."""

    name = "frame_vectors"
    artifact_type = "frame.embedding"
    tables = (_vectors, videos_table(name))
    decoder = msgspec.json.Decoder(list[_Frame])
    own_columns = ("model", "model_digest", "dim", "vector")

    def lines(self, found: Sequence[_Frame]) -> list[str]:
        """The rows."""
        known = Escaped()
        return [
            f"{f.start_ms}\t{f.end_ms}\t{f.artifact_id}\t{known[f.payload.model]}\t{f.payload.model_digest}\t"
            f"{f.payload.dim}\t{self.written(f.payload.vector)}"
            for f in found
        ]
