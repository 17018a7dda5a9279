"""Small pictures of a video, and where they are."""

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from domain.artifacts.envelope import Payload
from domain.artifacts.fields import Index

Pixels = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=1)]


class SpriteSheet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Small pictures in one file, in rows from the top left, at equal distances in time."""

    index: Index
    """Place among the sheets of the run, from 0; tile i of all is tile i − index × columns × rows of this one."""
    every_ms: Annotated[int, Meta(ge=1)]
    """From one tile to the next; a sheet's first tile is at the start of its span."""
    columns: Count
    rows: Count
    """Of a full sheet; the last one has only as many as it needs."""
    count: Count
    """Tiles on this sheet."""
    tile_width: Pixels
    tile_height: Pixels


class ThumbnailV1(Payload, frozen=True):
    """One WebP file. Its span is the moment it shows; a sheet's, what it covers. Produced by `workers.thumbnails`.

    `thumbnail`: GET /v1/thumbnails/{video_id}/{span_start_ms}. `sprite`: GET /v1/videos/{video_id}/sprites/{index}.
    `poster`: GET /v1/videos/{video_id}/poster.
    """

    NAME: ClassVar[str] = "thumbnail"
    VERSION: ClassVar[int] = 1

    kind: Literal["thumbnail", "sprite", "poster"]
    width: Pixels
    """Of the file."""
    height: Pixels
    sheet: SpriteSheet | None = None
    """Of a sprite only."""

    def flaw(self) -> str | None:
        """A sheet that is none, or a sprite without one."""
        if (self.kind == "sprite") != (self.sheet is not None):
            return "a sprite has a sheet, and nothing else has"
        if self.sheet is not None and self.sheet.count > self.sheet.columns * self.sheet.rows:
            return "the sheet has more tiles than places"
        return None

    @classmethod
    def example(cls) -> "ThumbnailV1":
        """A valid payload."""
        return cls(
            kind="sprite",
            width=1600,
            height=900,
            sheet=SpriteSheet(
                index=0, every_ms=2_000, columns=10, rows=10, count=100, tile_width=160, tile_height=90
            ),
        )
