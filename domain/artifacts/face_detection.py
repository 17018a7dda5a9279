"""Faces found in a frame."""

from typing import Annotated, ClassVar

from msgspec import Meta

from domain.artifacts.envelope import Payload
from domain.artifacts.fields import Box, Confidence, Index, Label, Point, Unit
from domain.face_vectors import unpack_half

Landmarks = Annotated[
    tuple[Point, ...],
    Meta(
        min_length=3,
        max_length=68,
        description="Eye at the left of the picture, eye at the right, nose, then the corners of the mouth if known; "
        "(x, y) in [0, 1] of the displayed frame.",
    ),
]
Vector = Annotated[
    str,
    Meta(max_length=700, description="128 half-precision floats, little-endian, as base64 (344 characters)."),
]


class FaceDetectionV1(Payload, frozen=True):
    """One face in one frame."""

    NAME: ClassVar[str] = "face.detection"
    VERSION: ClassVar[int] = 1

    confidence: Confidence
    box: Box
    frame_index: Index
    cluster_id: Label | None = None
    """Whose face it is, as far as the producer knows. Without one, clustering across the library may tell."""
    embedding: str | None = None
    """Reference to the face's vector."""
    landmarks: Landmarks | None = None
    quality: Unit | None = None
    """Sharpness × frontality × size: which picture of a person to show."""
    vector: Vector | None = None
    """What the face looks like, as a point in `vector_space`; of the moment before where it has hardly changed."""
    vector_space: Label | None = None
    """Name of the model that made the vector; only vectors of one space can be compared."""

    def flaw(self) -> str | None:
        """A vector that is none, or that nobody can compare."""
        if self.vector is None:
            return None
        if self.vector_space is None:
            return "vector needs vector_space"
        try:
            unpack_half(self.vector)
        except ValueError as error:
            return f"vector: {error}"
        return None

    @classmethod
    def example(cls) -> "FaceDetectionV1":
        """A valid payload."""
        return cls(confidence=0.98, box=(0.4, 0.2, 0.1, 0.15), frame_index=75, cluster_id="person_001")
