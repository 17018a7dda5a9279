"""When a video was filmed, as cameras write it.

In this order, the first that says something wins:

1. `com.apple.quicktime.creationdate`: local time with its zone, written by iPhones.
2. EXIF `DateTimeOriginal` of an MJPEG picture, with `OffsetTimeOriginal` when it is there; the notes of an AVCHD camera
   (`mdpm`), with the zone that its clock was set to.
3. `creation_time` of the container, then of its tracks: UTC by definition (some cameras put local time there all the
   same; nothing tells them apart). The epochs of QuickTime (1904) and Unix (1970) mean "not set".
4. Tags `date_recorded`, `datetimeoriginal`, `date`, `icrd`: a year alone is not enough.
5. The file's name when it is one that cameras, phones, messengers and screen recorders give, see `name_dates`.

Times without a zone are read in the zone given, UTC by default; a day without a time is its first instant there. The
file's modification time is never used: it tells when the file was copied. The offset of the place is known when 1, 2, 4
or 5 has one, or beside 3 when a Samsung phone wrote `com.samsung.android.utc_offset`.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

from infrastructure.media.name_dates import Precision, date_in

_EXIF = re.compile(r"^(\d{4}):(\d{2}):(\d{2}) (\d{2}:\d{2}:\d{2})(.*)$")
_NOT_SET = (datetime(1904, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC))
_DATE_TAGS = ("date_recorded", "datetimeoriginal", "date", "icrd")
_SHORTEST = len("2024-05-04")


_UTC_OFFSET = "com.samsung.android.utc_offset"


class CaptureTime(NamedTuple):
    """When, and which tag said so."""

    at: datetime
    """UTC."""
    source: str
    offset_min: int | None = None
    """Minutes that clocks there were ahead of UTC, when the file says so."""
    precision: Precision = "second"
    """How much of the time was said: of a day alone, `at` is its first instant."""


def capture_time(
    tags: Mapping[str, str],
    *,
    track_tags: Iterable[Mapping[str, str]] = (),
    exif: str | None = None,
    exif_source: str = "exif",
    file_name: str = "",
    zone: tzinfo = UTC,
    now: datetime | None = None,
) -> CaptureTime | None:
    """When it was filmed; keys of tags lower case, `exif` = DateTimeOriginal followed by its offset if known."""
    candidates = [
        ("com.apple.quicktime.creationdate", tags.get("com.apple.quicktime.creationdate")),
        (exif_source, exif),
        ("creation_time", tags.get("creation_time")),
        *(("creation_time", track.get("creation_time")) for track in track_tags),
        *((tag, tags.get(tag)) for tag in _DATE_TAGS),
    ]
    for source, text in candidates:
        if text and (at := parse(text, zone=zone)):
            # `creation_time` is UTC whatever the clocks said.
            local = f"{at.date()}T00:00:00{tags.get(_UTC_OFFSET, '')}" if source == "creation_time" else text
            is_day = len(text.strip("\0 ")) == _SHORTEST
            return CaptureTime(at, source, _offset_min(local), "day" if is_day else "second")
    if named := date_in(file_name, now=now or datetime.now(UTC)):
        at = named.at if named.at.tzinfo else named.at.replace(tzinfo=zone)
        # Of what is known to be UTC nobody knows what the clocks there said.
        offset_min = None if named.at.tzinfo in {None, UTC} else _offset_min(named.at.isoformat())
        return CaptureTime(at.astimezone(UTC), "filename", offset_min, named.precision)
    return None


def parse(text: str, *, zone: tzinfo = UTC) -> datetime | None:
    """A date in ISO 8601 or EXIF form as UTC; None when it is none, or an epoch that means "not set"."""
    at = _written(text)
    if at is None:
        return None
    try:
        at = (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    if any(abs(at - epoch) < timedelta(days=1) for epoch in _NOT_SET):
        return None
    return at


def _written(text: str) -> datetime | None:
    """The date as it stands there, with its offset if it has one."""
    text = text.strip().strip("\0")
    if match := _EXIF.match(text):
        text = f"{match[1]}-{match[2]}-{match[3]}T{match[4]}{match[5].strip()}"
    try:
        return datetime.fromisoformat(text) if len(text) >= _SHORTEST else None
    except ValueError:
        return None


def _offset_min(text: str) -> int | None:
    """Minutes that a date is ahead of UTC, if it says so."""
    written = _written(text)
    offset = written.utcoffset() if written is not None else None
    return None if offset is None else round(offset.total_seconds() / 60)
