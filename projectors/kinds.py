"""The kinds of things that can be jumped to and listed, and how they are shown."""

from typing import Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from domain.errors import InvalidParameter
from projectors.query import Query
from projectors.snippet import snippet


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of hit and the read model it lives in."""

    name: str
    artifact_type: str
    table: str
    preview: tuple[str, ...]
    """Columns that a preview shows."""
    label: str | None = None
    """Column that `label` (of a face: its cluster) is compared with; there is a table of counts by it."""
    has_spellings: bool = False
    """A table has each label in the form in which it is looked for by its beginning, in any case."""
    has_confidence: bool = False
    is_text: bool = False
    query: Literal["query", "loose"] = "query"
    """Which column of `hits.configured` texts are compared with. A reader of pictures may lose the blanks between words:
    what it read as one word is found by its parts together."""


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(name="scene", artifact_type="scene", table="scene_ranges", preview=("scene_index",)),
        Kind(
            name="transcript",
            artifact_type="transcript.segment",
            table="transcript_fts",
            preview=("text",),
            has_confidence=True,
            is_text=True,
        ),
        Kind(
            name="object",
            artifact_type="object.detection",
            table="object_labels",
            preview=("label", "confidence"),
            label="label",
            has_spellings=True,
            has_confidence=True,
        ),
        Kind(
            name="face",
            artifact_type="face.detection",
            table="face_clusters",
            preview=("cluster_id", "confidence"),
            label="cluster_id",
            has_confidence=True,
        ),
        Kind(
            name="place",
            artifact_type="place.classification",
            table="places",
            preview=("label", "confidence"),
            label="label",
            has_spellings=True,
            has_confidence=True,
        ),
        Kind(
            name="ocr",
            artifact_type="ocr.text",
            table="ocr_fts",
            preview=("text",),
            has_confidence=True,
            is_text=True,
            query="loose",
        ),
        Kind(
            name="location",
            artifact_type="video.metadata",
            table="video_locations",
            preview=("latitude", "longitude", "altitude", "country", "state", "city"),
        ),
    )
}


def kind_of(name: str, *, among: tuple[str, ...] = tuple(KINDS)) -> Kind:
    """The kind of that name; raises InvalidParameter naming `kind`."""
    if name not in among:
        raise InvalidParameter("kind", f"{name!r} is none of {', '.join(among)}")
    return KINDS[name]


class Span(msgspec.Struct, frozen=True):
    """Where to jump to, in ms of the media's clock; the end is exclusive."""

    start_ms: int
    end_ms: int


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """What a hit shows of itself; only the fields of its kind are there."""

    label: str | UnsetType = UNSET
    confidence: float | UnsetType = UNSET
    cluster_id: str | UnsetType | None = UNSET
    text: str | UnsetType = UNSET
    snippet: str | UnsetType = UNSET
    """The text as HTML, hits in `<b>`."""
    scene_index: int | UnsetType = UNSET
    latitude: float | UnsetType | None = UNSET
    longitude: float | UnsetType | None = UNSET
    altitude: float | UnsetType | None = UNSET
    country: str | UnsetType | None = UNSET
    state: str | UnsetType | None = UNSET
    city: str | UnsetType | None = UNSET


def preview_of(kind: Kind, row: dict[str, Any], query: Query | None) -> Preview:
    """The preview of a row that has `kind.preview`, and for texts the columns of `hits.MARKED`."""
    shown = {column: row[column] for column in kind.preview}
    if kind.is_text:
        shown["snippet"] = snippet(row["text"], query, row["marked_words"], row["marked_accents"])
    return Preview(**shown)


def thumbnail_url(video_id: UUID, start_ms: int) -> str:
    """Where the picture of a hit is."""
    return f"/v1/thumbnails/{video_id}/{start_ms}"
