"""What a frame shows, as a point among others."""

from typing import ClassVar

from domain.artifacts.embedding import Digest, Dim, ModelName, Vector, packed, vector_flaw
from domain.artifacts.envelope import Payload
from domain.artifacts.fields import Index


class FrameEmbeddingV1(Payload, frozen=True):
    """The vector of one frame, by a model that knows pictures and words; the span is the frame's moment. Vectors of
    different weights say nothing about each other: compare `model_digest`. Made by `workers.frame_embedding`.
    """

    NAME: ClassVar[str] = "frame.embedding"
    VERSION: ClassVar[int] = 1

    model: ModelName
    model_digest: Digest
    dim: Dim
    frame_index: Index
    vector: Vector

    def flaw(self) -> str | None:
        """A vector that is none."""
        return vector_flaw(self.vector, self.dim)

    @classmethod
    def example(cls) -> "FrameEmbeddingV1":
        """A valid payload."""
        return cls(
            model="openai/clip-vit-base-patch32",
            model_digest="a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f",
            dim=4,
            frame_index=75,
            vector=packed((0.5, -0.5, 0.5, 0.5)),
        )
