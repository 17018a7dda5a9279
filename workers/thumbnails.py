"""Thumbnails, sprite sheets and a poster, made in one pass through the video."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from domain.artifacts.thumbnail import SpriteSheet, ThumbnailV1
from domain.errors import InvalidParameter, MediaUnreadable
from infrastructure.media.fingerprint import fingerprint
from infrastructure.media.frames import Decoding
from infrastructure.media.pictures import POSTER_WIDTH, THUMBNAIL_WIDTH, Pictures, is_kept, keep
from infrastructure.media.poster import best_of, candidates
from infrastructure.media.probe import probe
from infrastructure.media.stills import MOST_SIDE, Size, fitted, still_at, stills_at
from workers import sprites
from workers.producer import Context, Description, Found, Job, Outcome, Producer

if TYPE_CHECKING:
    from PIL.Image import Image

BEAT_MS = 5_000
"""Between two stills at most, also where none is wanted: so the job is seen to move, and can be stopped."""
MOST_BEATS = 10_000
"""A header that lies may promise years."""


class ThumbnailConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the task."""

    most: Annotated[int, Meta(ge=0, le=100_000)] = 5_000
    """Thumbnails of a video; if artifacts begin at more moments, the first in each of so many equal stretches."""
    every_ms: Annotated[int, Meta(ge=100)] = 2_000
    """From one tile of the sprite sheets to the next, unless `sheets` would not do."""
    sheets: Annotated[int, Meta(ge=0, le=100)] = 10
    """Sprite sheets of a video, at most."""
    columns: Annotated[int, Meta(ge=1, le=50)] = 10
    rows: Annotated[int, Meta(ge=1, le=50)] = 10
    tile: Annotated[int, Meta(ge=16, le=THUMBNAIL_WIDTH)] = 160
    """Longer side of a tile, pixels."""


class _Plan(NamedTuple):
    """What there shall be of one video."""

    pictures: Pictures
    duration_ms: int
    moments: list[int]
    """Of thumbnails, ascending."""
    size: Size
    """Of thumbnails."""
    sheets: tuple[SpriteSheet, ...]


class Thumbnails(Producer):
    """Pictures of the moments where something was found. Those that are there already are not made again."""

    task_type = "thumbnails"
    name = "eioku.thumbnails"
    version = "2"
    needs_spans = (
        "scene",
        "object.detection",
        "object.track",
        "face.detection",
        "ocr.text",
        "place.classification",
        "transcript.segment",
    )

    def __init__(self) -> None:
        self._outcome = Outcome(metrics={})

    def describe(self, job: Job) -> Description:
        """Needs no model."""
        _config(job)
        return Description(device="cpu", artifact_types=(ThumbnailV1.NAME,))

    def produce(self, job: Job, context: Context) -> Iterator[Found]:
        """A `thumbnail` for each file: pictures, sheets and the poster; none for a file without pictures.

        Raises:
            StorageFailed: the disk is full, say; what was written before stays.
        """
        config = _config(job)
        track, facts = job.picture_track(), probe(job.path, track=job.track).facts
        if track is None or facts.width is None or facts.height is None:
            self._outcome = Outcome(metrics={"has_video": 0.0})
            return
        duration_ms, screen = facts.duration_ms, (facts.width, facts.height)
        context.progress(0, duration_ms)
        scenes = [(span.start_ms, span.end_ms) for span in job.spans if span.artifact_type == "scene"]
        choice = candidates(scenes, duration_ms)
        starts = thinned((span.start_ms for span in job.spans), config.most, duration_ms)
        plan = _Plan(
            Pictures(job.pictures, job.message.blake3 or fingerprint(job.path)[0]),
            duration_ms,
            sorted({*starts, *choice}),
            fitted(screen, width=THUMBNAIL_WIDTH),
            sprites.plan(
                duration_ms,
                every_ms=config.every_ms,
                most_sheets=config.sheets,
                columns=config.columns,
                rows=config.rows,
                tile=fitted(screen, side=config.tile),
            ),
        )
        plan.pictures.keep_to(job.track)
        decoding = Decoding()
        made, without = _make(job, context, plan, decoding)
        poster_ms = best_of([(at_ms, plan.pictures.thumbnail(at_ms)) for at_ms in choice])
        poster, poster_size = plan.pictures.poster(poster_ms), fitted(screen, width=POSTER_WIDTH)
        if not is_kept(poster):
            keep(_large(job, poster_ms, poster_size), poster)
            made += 1
        context.progress(duration_ms, duration_ms)
        found = [
            *(_picture("thumbnail", at_ms, plan.size) for at_ms in plan.moments),
            *(_sheet(sheet, duration_ms) for sheet in plan.sheets),
            _picture("poster", poster_ms, poster_size),
        ]
        yield from sorted(found, key=lambda each: each.start_ms)
        self._outcome = Outcome(
            metrics={
                "has_video": 1.0,
                "track": float(track),
                "thumbnails": float(len(plan.moments)),
                "without_picture": float(without),
                "sheets": float(len(plan.sheets)),
                "files_made": float(made),
                "frames": float(decoding.decoded),
                "damaged_packets": float(decoding.damaged),
            }
        )

    def outcome(self) -> Outcome:
        """Pictures, how many of them were not there before, and at how many moments the film shows nothing."""
        return self._outcome


def thinned(times_ms: Iterable[int], most: int, duration_ms: int) -> list[int]:
    """The distinct times within the video, ascending; if there are more than `most`, the first of each stretch."""
    distinct = sorted({at_ms for at_ms in times_ms if at_ms < duration_ms})
    if len(distinct) <= most:
        return distinct
    first: dict[int, int] = {}
    for at_ms in distinct if most else ():
        first.setdefault(at_ms * most // duration_ms, at_ms)
    return list(first.values())


def _large(job: Job, at_ms: int, size: Size) -> "Image":
    """By seeking, which is quick; if that finds nothing, by reading the file from its beginning."""
    try:
        return still_at(job.path, at_ms, size, track=job.track)
    except MediaUnreadable:
        return next(stills_at(job.path, [at_ms], size, track=job.track))[1]


def _make(job: Job, context: Context, plan: _Plan, decoding: Decoding) -> tuple[int, int]:
    """Make the thumbnails and sheets that are not there: how many, and for how many moments the nearest picture stands.

    At those the file shows nothing: its first picture comes later, as where a recording was cut, or its last has ended.
    """
    pictures = plan.pictures
    missing = {at_ms for at_ms in plan.moments if not is_kept(pictures.thumbnail(at_ms))}
    missing_sheets = [sheet for sheet in plan.sheets if not is_kept(pictures.sheet(sheet))]
    filling = sprites.Sheets(missing_sheets)
    wanted = missing.union(*(sprites.times_of(sheet) for sheet in missing_sheets))
    if wanted:
        last_ms = max(wanted)
        wanted.update(range(0, last_ms, max(BEAT_MS, last_ms // MOST_BEATS)))
    for at_ms, still in stills_at(job.path, sorted(wanted), plan.size, decoding=decoding, track=job.track):
        context.progress(at_ms, plan.duration_ms)
        if at_ms in missing:
            keep(still, pictures.thumbnail(at_ms))
        for sheet, image in filling.take(at_ms, still):
            keep(image, pictures.sheet(sheet))
    shown = range(round(decoding.begin * 1000), max(round(decoding.end * 1000), 1))
    return len(missing) + len(missing_sheets), sum(at_ms not in shown for at_ms in wanted)


def _picture(kind: Literal["thumbnail", "poster"], at_ms: int, size: Size) -> Found:
    return Found(ThumbnailV1.NAME, at_ms, at_ms, ThumbnailV1(kind=kind, width=size[0], height=size[1]))


def _sheet(sheet: SpriteSheet, duration_ms: int) -> Found:
    times = sprites.times_of(sheet)
    width, height = sprites.size_of(sheet)
    payload = ThumbnailV1(kind="sprite", width=width, height=height, sheet=sheet)
    return Found(ThumbnailV1.NAME, times.start, min(times.stop, duration_ms), payload)


def _config(job: Job) -> ThumbnailConfig:
    try:
        config = msgspec.convert(dict(job.config), ThumbnailConfig)
    except msgspec.ValidationError as error:
        raise InvalidParameter("config", str(error)) from error
    if max(config.columns, config.rows) * config.tile > MOST_SIDE:
        raise InvalidParameter("config", f"a sheet may have at most {MOST_SIDE} pixels a side")
    return config
