"""When a video was filmed, as cameras write it.

In this order, the first that says something wins:

1. `com.apple.quicktime.creationdate`: local time with its zone, written by iPhones.
2. EXIF `DateTimeOriginal` of an MJPEG picture, with `OffsetTimeOriginal` when it is there.
3. `creation_time` of the container, then of its tracks: UTC by definition (some cameras put local time there all the
   same; nothing tells them apart). The epochs of QuickTime (1904) and Unix (1970) mean "not set".
4. Tags `date_recorded`, `datetimeoriginal`, `date`, `icrd`: a year alone is not enough.
5. The file's name when it is one that cameras and phones give: `VID_20240504_122030.mp4`, `PXL_…`, `WhatsApp Video …`.

Times without a zone are read in the zone given, UTC by default. The file's modification time is never used: it tells
when the file was copied. The offset of the place is known when 1, 2 or 4 has one, or beside 3 when a Samsung phone wrote
`com.samsung.android.utc_offset`.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

_EXIF = re.compile(r"^(\d{4}):(\d{2}):(\d{2}) (\d{2}:\d{2}:\d{2})(.*)$")
_CAMERA_NAME = re.compile(
    r"^(?:VID|IMG|MOV|PXL|MVI|DJI|GX|TRIM|Screenrecorder|Screen Recording|screen|signal|WhatsApp Video|video)?[-_ ]?"
    r"((?:19|20)\d{2})[-_.]?(\d{2})[-_.]?(\d{2})[-_ T]+(?:at[ _])?(\d{2})[-_.:]?(\d{2})[-_.:]?(\d{2})(?!\d{4})",
    re.IGNORECASE,
)
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


def capture_time(
    tags: Mapping[str, str],
    *,
    track_tags: Iterable[Mapping[str, str]] = (),
    exif: str | None = None,
    file_name: str = "",
    zone: tzinfo = UTC,
) -> CaptureTime | None:
    """When it was filmed; keys of tags lower case, `exif` = DateTimeOriginal followed by its offset if known."""
    candidates = [
        ("com.apple.quicktime.creationdate", tags.get("com.apple.quicktime.creationdate")),
        ("exif", exif),
        ("creation_time", tags.get("creation_time")),
        *(("creation_time", track.get("creation_time")) for track in track_tags),
        *((tag, tags.get(tag)) for tag in _DATE_TAGS),
    ]
    for source, text in candidates:
        if text and (at := parse(text, zone=zone)):
            # `creation_time` is UTC whatever the clocks said.
            local = f"{at.date()}T00:00:00{tags.get(_UTC_OFFSET, '')}" if source == "creation_time" else text
            return CaptureTime(at, source, _offset_min(local))
    if match := _CAMERA_NAME.match(file_name):
        year, month, day, hour, minute, second = match.groups()
        # Google's camera writes UTC into names, the others local time.
        own_zone = UTC if file_name.upper().startswith("PXL") else zone
        if at := parse(f"{year}-{month}-{day}T{hour}:{minute}:{second}", zone=own_zone):
            return CaptureTime(at, "filename")
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
