"""What a text means, as a point among others."""

import binascii
import struct
from base64 import b64decode, b64encode
from collections.abc import Sequence
from math import isfinite
from typing import Annotated, ClassVar, Literal
from uuid import UUID

from msgspec import Meta

from domain.artifacts.envelope import Payload

MOST_DIM = 4_096
EXCERPT_CHARS = 120
ModelName = Annotated[str, Meta(min_length=1, max_length=200)]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="SHA-256 of the weights.")]
Dim = Annotated[int, Meta(ge=1, le=MOST_DIM)]
Vector = Annotated[
    str,
    Meta(
        max_length=4 * MOST_DIM,
        description="`dim` little-endian float16 of length 1 together, in base64.",
    ),
]


class EmbeddingV1(Payload, frozen=True):
    """The vector of one transcript segment or line of on-screen text. Vectors of different weights say nothing about
    each other: compare `model_digest`. Made by `workers.embedding`.
    """

    NAME: ClassVar[str] = "embedding"
    VERSION: ClassVar[int] = 1

    model: ModelName
    model_digest: Digest
    dim: Dim
    source_id: UUID
    """The artifact whose text it is."""
    source_type: Literal["transcript.segment", "ocr.text"]
    excerpt: Annotated[str, Meta(min_length=1, max_length=EXCERPT_CHARS)]
    """How the text begins."""
    vector: Vector

    def flaw(self) -> str | None:
        """A vector that is none."""
        return vector_flaw(self.vector, self.dim)

    @classmethod
    def example(cls) -> "EmbeddingV1":
        """A valid payload."""
        return cls(
            model="all-MiniLM-L6-v2",
            model_digest="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            dim=4,
            source_id=UUID(int=1),
            source_type="transcript.segment",
            excerpt="ask not what your country can do for you",
            vector=packed((0.5, -0.5, 0.5, 0.5)),
        )


def vector_flaw(vector: str, dim: int) -> str | None:
    """Why a packed vector is none; None when it is one of `dim` numbers."""
    try:
        numbers = unpacked(vector)
    except (binascii.Error, struct.error, ValueError) as error:
        return f"vector: {error}"
    if len(numbers) != dim:
        return f"vector has {len(numbers)} numbers, dim says {dim}"
    if not all(map(isfinite, numbers)):
        return "vector holds what is no finite number"
    return None if any(numbers) else "vector is zero, which points nowhere"


def packed(numbers: Sequence[float]) -> str:
    """A vector as its payload holds it."""
    return b64encode(struct.pack(f"<{len(numbers)}e", *numbers)).decode()


def unpacked(vector: str) -> tuple[float, ...]:
    """The numbers of a packed vector; raises ValueError or struct.error for what is none."""
    body = b64decode(vector, validate=True)
    return struct.unpack(f"<{len(body) // 2}e", body)
