"""What the read models of vectors share: pgvector's column type, and how vectors are written."""

from collections.abc import Sequence
from typing import Any

import psycopg
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.types import UserDefinedType

from application.ports import Recorded
from domain.artifacts.embedding import unpacked
from projectors.timeline import F, TimelineProjection


class HalfVec(UserDefinedType[str]):
    """The column type halfvec(n) of pgvector; without n, rows may be of different width."""

    cache_ok = True

    def __init__(self, dim: int | None = None) -> None:
        self.dim = dim

    def get_col_spec(self, **_: Any) -> str:
        """As DDL writes it."""
        return "halfvec" if self.dim is None else f"halfvec({self.dim})"


# As Postgres names it where its schema is not on the search path.
ischema_names["public.halfvec"] = HalfVec


class VectorProjection(TimelineProjection[F]):
    """Rows whose last column is a vector, named `vector`."""

    def __init__(self) -> None:
        self._shape = "[]"

    def apply(self, connection: psycopg.Connection, records: Sequence[Recorded]) -> None:
        """As ever; without pgvector the column is an array, which is written in braces."""
        row = connection.execute(
            "SELECT atttypid = 'real[]'::regtype FROM pg_attribute"
            " WHERE attrelid = %s::regclass AND attname = 'vector'",
            (self.name,),
        ).fetchone()
        self._shape = "{}" if row and row[0] else "[]"
        super().apply(connection, records)

    def written(self, vector: str) -> str:
        """A packed vector as its column takes it."""
        numbers = ",".join(map(repr, unpacked(vector)))
        return f"{self._shape[0]}{numbers}{self._shape[1]}"
