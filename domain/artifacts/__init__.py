"""Artifact types: one file each, listed once in ARTIFACT_TYPES."""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Annotated, Any
from uuid import UUID

import msgspec

from domain.artifacts.embedding import EmbeddingV1
from domain.artifacts.envelope import ArtifactBatch, Item, Payload, unpack
from domain.artifacts.face_detection import FaceDetectionV1
from domain.artifacts.frame_embedding import FrameEmbeddingV1
from domain.artifacts.object_detection import ObjectDetectionV1
from domain.artifacts.object_track import ObjectTrackV1
from domain.artifacts.ocr_text import OcrTextV1
from domain.artifacts.place_classification import PlaceClassificationV1
from domain.artifacts.scene import SceneV1
from domain.artifacts.thumbnail import ThumbnailV1
from domain.artifacts.transcript_segment import TranscriptSegmentV1
from domain.artifacts.video_metadata import VideoMetadataV1
from domain.errors import InvalidArtifact, SchemaNotFound
from domain.timeline import MAX_MS

ARTIFACT_TYPES: tuple[type[Payload], ...] = (
    TranscriptSegmentV1,
    SceneV1,
    ObjectDetectionV1,
    ObjectTrackV1,
    FaceDetectionV1,
    PlaceClassificationV1,
    OcrTextV1,
    VideoMetadataV1,
    EmbeddingV1,
    ThumbnailV1,
    FrameEmbeddingV1,
)

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
UPCASTERS: dict[tuple[str, int], Upcaster] = {}
"""(artifact type, version n) → the payload at version n + 1. They live beside their type."""

LATEST: dict[str, type[Payload]] = {}
_BY_VERSION: dict[tuple[str, int], type[Payload]] = {}
for _type in ARTIFACT_TYPES:
    _BY_VERSION[_type.NAME, _type.VERSION] = _type
    if _type.NAME not in LATEST or LATEST[_type.NAME].VERSION < _type.VERSION:
        LATEST[_type.NAME] = _type


def payload_type(artifact_type: str, version: int | None = None) -> type[Payload]:
    """The payload struct of a type, the latest version by default; raises SchemaNotFound."""
    found = LATEST.get(artifact_type) if version is None else _BY_VERSION.get((artifact_type, version))
    if found is None:
        raise SchemaNotFound(artifact_type, version)
    return found


def upcast(artifact_type: str, version: int, payload: Any) -> Any:
    """A stored payload of `version`, brought to the latest version; plain JSON values in and out."""
    latest = payload_type(artifact_type).VERSION
    while version < latest:
        payload = UPCASTERS[artifact_type, version](payload)
        version += 1
    return payload


def check(artifact_type: str, version: int, items: Iterable[Item]) -> None:
    """Check spans and payloads of a batch against the schema.

    Raises:
        SchemaNotFound: nobody knows this type and version.
        InvalidArtifact: the first artifact that is wrong, with its index and the reason.
    """
    struct = payload_type(artifact_type, version)
    for index, item in enumerate(items):
        if not 0 <= item.start_ms <= item.end_ms <= MAX_MS:
            raise InvalidArtifact(
                f"span {item.start_ms}..{item.end_ms} must be 0 ≤ start ≤ end ≤ {MAX_MS}", index=index
            )
        try:
            payload = msgspec.convert(item.payload, struct)
        except msgspec.ValidationError as error:
            raise InvalidArtifact(f"{artifact_type} payload: {error}", index=index) from error
        flaw = payload.flaw() or ("text holds a NUL character" if _has_nul(item.payload) else None)
        if flaw:
            raise InvalidArtifact(f"{artifact_type} payload: {flaw}", index=index)


def check_batch(batch: ArtifactBatch) -> None:
    """Check a packed batch as `check` does, without making plain values of it: 1 to 2 µs an artifact.

    Raises:
        SchemaNotFound, InvalidArtifact: as `check`; also when the items are not JSON, or not as many as said.
    """
    head = batch.head
    has_flaws, decoder = _typed_items(head.artifact_type, head.schema_version)
    try:
        items = decoder.decode(batch.items)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _explain(batch)
        raise InvalidArtifact(f"{head.artifact_type} batch: {error}") from error
    if len(items) != batch.count or not items:
        raise InvalidArtifact(f"{head.artifact_type} batch: holds {len(items)} artifacts, says {batch.count}")
    if (
        _NUL in bytes(batch.items)
        or any(item.start_ms > item.end_ms for item in items)
        or (has_flaws and any(item.payload.flaw() for item in items))
    ):
        _explain(batch)


_NUL = b"\\u0000"
"""Postgres stores no NUL in text. An escaped backslash before u0000 looks the same: what is found is looked at again."""


def _explain(batch: ArtifactBatch) -> None:
    """Find the artifact that is wrong and say why, if it is."""
    try:
        items = unpack(batch)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArtifact(f"{batch.head.artifact_type} batch: {error}") from error
    check(batch.head.artifact_type, batch.head.schema_version, items)


@cache
def _typed_items(artifact_type: str, version: int) -> tuple[bool, msgspec.json.Decoder[Any]]:
    """(whether the payload may have flaws beyond its types, decoder of a list of items with that payload)."""
    struct = payload_type(artifact_type, version)
    span = Annotated[int, msgspec.Meta(ge=0, le=MAX_MS)]
    item = msgspec.defstruct(
        f"{struct.__name__}Item",
        [("artifact_id", UUID), ("start_ms", span), ("end_ms", span), ("payload", struct)],
        frozen=True,
        gc=False,
    )
    return struct.flaw is not Payload.flaw, msgspec.json.Decoder(list[item])  # type: ignore[valid-type]  # made here


def _has_nul(value: Any) -> bool:
    match value:
        case str():
            return "\0" in value
        case dict():
            return any(_has_nul(part) for part in value.values())
        case list() | tuple():
            return any(_has_nul(part) for part in value)
        case _:
            return False
