"""Where pictures made of videos are kept: below a folder each for what content they show (ADR-0020)."""

import os
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

import msgspec

from domain.artifacts.thumbnail import SpriteSheet
from domain.errors import StorageFailed

if TYPE_CHECKING:
    from PIL import Image

THUMBNAIL_WIDTH, POSTER_WIDTH = 320, 640
"""Pixels; never more than the picture has."""
QUALITY, METHOD = 80, 0
"""Of WebP: method 0 takes a third of the time of the default, and half as many bytes again."""


class Pictures(msgspec.Struct, frozen=True):
    """Pictures of one content. Named for what they show, so that a changed file never shows old ones."""

    root: Path
    blake3: str
    """Of the video's file, hex."""

    @property
    def folder(self) -> Path:
        """May not be there yet."""
        return self.root / self.blake3[:2] / self.blake3

    def thumbnail(self, at_ms: int) -> Path:
        """What is on screen then, at most `THUMBNAIL_WIDTH` wide."""
        return self.folder / f"{at_ms}.webp"

    def poster(self, at_ms: int | None = None) -> Path:
        """What is on screen then, at most `POSTER_WIDTH` wide; without a time, one chosen before scenes were known."""
        return self.folder / ("poster.webp" if at_ms is None else f"poster-{at_ms}.webp")

    def keep_to(self, track: int | None) -> None:
        """From now on they are of this picture track, None: the one that is chosen for all. Those of another one go.

        Raises:
            StorageFailed: the disk is full, or the folder may not be written to.
        """
        note, wanted = self.folder / "track", "" if track is None else str(track)
        try:
            if wanted == (note.read_text() if note.exists() else ""):
                return
            for picture in self.folder.glob("*.webp"):
                picture.unlink(missing_ok=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            note.write_text(wanted)
        except OSError as error:
            raise StorageFailed(f"{note} cannot be stored: {error.strerror or error}") from error

    def sheet(self, sheet: SpriteSheet) -> Path:
        """A sprite sheet; other tiles at other times have another name."""
        tiles = f"{sheet.columns}x{sheet.rows}-{sheet.tile_width}x{sheet.tile_height}-{sheet.count}"
        return self.folder / f"sprite-{sheet.every_ms}-{tiles}-{sheet.index}.webp"


def read(path: Path) -> bytes | None:
    """The picture; None when it is not there."""
    try:
        return path.read_bytes() or None  # an empty one: the power went before it was on disk
    except OSError:
        return None


def is_kept(path: Path) -> bool:
    """Whether the picture is there."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def keep(image: "Image.Image", path: Path) -> None:
    """Write `image` as WebP; it appears whole or not at all.

    Raises:
        StorageFailed: the disk is full, or the folder may not be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            try:
                image.save(file, "WEBP", quality=QUALITY, method=METHOD)
                file.flush()
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except (OSError, ValueError) as error:  # ValueError: the size is none that WebP can hold
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise StorageFailed(f"{path} cannot be stored: {why}") from error
