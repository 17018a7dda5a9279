"""Stretches between hard cuts."""

from typing import ClassVar

from domain.artifacts.envelope import Payload
from domain.artifacts.fields import Index


class SceneV1(Payload, frozen=True):
    """One scene. The stretch before the first cut is scene 0. Produced by `workers.scene_detection`."""

    NAME: ClassVar[str] = "scene"
    VERSION: ClassVar[int] = 1

    scene_index: Index
    method: str
    """Detector, e.g. "content"."""
    score: float | None = None
    """Detector's own measure at the cut that opens the scene; None for scene 0."""

    @classmethod
    def example(cls) -> "SceneV1":
        """A valid payload."""
        return cls(scene_index=1, method="content", score=41.5)
