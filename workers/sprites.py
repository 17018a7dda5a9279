"""Sprite sheets: small pictures at equal distances, many in one file, for the bar of a player."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from domain.artifacts.thumbnail import SpriteSheet
from infrastructure.media.stills import Size

if TYPE_CHECKING:
    from PIL.Image import Image

SECOND = 1_000


def plan(
    duration_ms: int, *, every_ms: int, most_sheets: int, columns: int, rows: int, tile: Size
) -> tuple[SpriteSheet, ...]:
    """The sheets of a whole video, a tile for each `every_ms`; rarer, in whole seconds, if they would be too many."""
    if not duration_ms or not most_sheets:
        return ()
    full = columns * rows
    if duration_ms > every_ms * full * most_sheets:
        every_ms = -(-duration_ms // (full * most_sheets * SECOND)) * SECOND
    tiles = -(-duration_ms // every_ms)
    return tuple(
        SpriteSheet(
            index=index,
            every_ms=every_ms,
            columns=columns,
            rows=rows,
            count=min(full, tiles - index * full),
            tile_width=tile[0],
            tile_height=tile[1],
        )
        for index in range(-(-tiles // full))
    )


def times_of(sheet: SpriteSheet) -> range:
    """The moment each tile shows, ms."""
    first = sheet.index * sheet.columns * sheet.rows
    return range(first * sheet.every_ms, (first + sheet.count) * sheet.every_ms, sheet.every_ms)


def size_of(sheet: SpriteSheet) -> Size:
    """Pixels of the file: a sheet with one row is as wide as its tiles."""
    rows = -(-sheet.count // sheet.columns)
    return min(sheet.count, sheet.columns) * sheet.tile_width, rows * sheet.tile_height


class Sheets:
    """Fills sheets with the stills of one pass; one sheet is in memory at a time."""

    def __init__(self, sheets: Sequence[SpriteSheet]) -> None:
        self._waiting = iter(sheets)
        self._open: SpriteSheet | None = next(self._waiting, None)
        self._canvas: Image | None = None

    def take(self, at_ms: int, still: "Image") -> Iterator[tuple[SpriteSheet, "Image"]]:
        """Put the still where it belongs, if anywhere; the sheet that it completes, if any."""
        sheet = self._open
        if sheet is None or at_ms not in (times := times_of(sheet)):
            return
        from PIL import Image

        if self._canvas is None:
            self._canvas = Image.new("RGB", size_of(sheet))
        row, column = divmod(times.index(at_ms), sheet.columns)
        tile = still.resize((sheet.tile_width, sheet.tile_height), Image.Resampling.BOX)
        self._canvas.paste(tile, (column * sheet.tile_width, row * sheet.tile_height))
        if at_ms == times[-1]:
            yield sheet, self._canvas
            self._open, self._canvas = next(self._waiting, None), None
