"""When a file was recorded, by the name that its camera, phone, messenger or screen recorder gave it.

Names hold local time; the exceptions are known by their beginning or end (`_IS_UTC`) or name their offset. A name with a
day and no time gives the first instant of that day, one without seconds the first of that minute. What is no date on
the calendar, before there were such cameras, or still to come is no date; nor are numbers that happen to be long: sizes,
ids, telephone numbers. Of several dates the first counts: the start of a recording stands before its end.
"""

import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Literal, NamedTuple

Precision = Literal["second", "minute", "day"]

LONGEST = 255
"""Characters of a name that are looked at; file systems allow no more."""
FIRST_YEAR, FIRST_WRITTEN_YEAR = 1990, 1970
"""Of a date that is one number, which a size or id may be too; of one with separators, which old films also get."""
_TOMORROW = timedelta(days=1)
"""Clocks and zones may be wrong by so much."""

_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_IS_UTC = re.compile(r"^(?:PXL_|GMT\d)|-Meeting (?:Recording|Transcript)", re.IGNORECASE)
"""Google's camera, Zoom's cloud, Teams."""
_EPOCH = re.compile(
    r"^(?:RPReplay_Final|mmexport|wx_camera_|LINE_MOVIE_|FB_VID_|VID_|video[-_]|screen-?recording[-_]|\d\dM\d\dS_)"
    r"(\d{10})(\d{3})?(?!\d)",
    re.IGNORECASE,
)
"""Seconds or milliseconds since 1970: iOS replays, WeChat, LINE, Facebook, Xiaomi's cameras."""
_TWO_DIGIT_YEAR = re.compile(
    r"^(?:FILE)?(?P<year>\d\d)(?P<month>\d\d)(?P<day>\d\d)[-_](?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)"
    r"(?:_\d{3}_[A-Z]{2}|[FR])(?![A-Z\d])"
)
"""Dashcams: Nextbase `240504_122030_001_FH`, Mio `FILE240504-122030F`."""
_AMERICAN = re.compile(
    r"(?:^ScreenRecording_|[ _](?=\d{1,2}_\d{1,2}_\d{4} \d{1,2}_\d\d_\d\d [AP]M))"
    r"(?P<month>\d{1,2})[-_](?P<day>\d{1,2})[-_](?P<year>\d{4})(?!\d)",
    re.IGNORECASE,
)
"""iOS 17 and the Xbox Game Bar."""
_DOTTED = re.compile(r"(?<!\d)(?P<day>\d\d)\.(?P<month>\d\d)\.(?P<year>(?:19|20)\d\d)(?!\d)")
"""With dots the day comes first everywhere."""
_WRITTEN = re.compile(r"(?<!\d)(?P<year>(?:19|20)\d\d)(?P<sep>[-_. ])(?P<month>\d\d)(?P=sep)(?P<day>\d\d)(?!\d)")
_ASIAN = re.compile(r"(?<!\d)(?P<year>(?:19|20)\d\d)年(?P<month>\d{1,2})月(?P<day>\d{1,2})日")
_HALF = re.compile(r"(?<!\d)(?P<year>(?:19|20)\d\d)_(?P<month>\d\d)(?P<day>\d\d)(?=_\d{6}(?!\d))")
"""Dashcams: Viofo and Transcend `2024_0504_122030_001`."""
_NUMBER = re.compile(r"(?<!\d)(?P<year>(?:19|20)\d\d)(?P<month>\d\d)(?P<day>\d\d)(?=\d{6}(?:\d{3})?(?!\d)|(?!\d))")
_DATES = (_AMERICAN, _DOTTED, _WRITTEN, _ASIAN, _HALF, _NUMBER)

_HALF_OF_DAY = r"(?P<{}>[ap]\.? ?m\b|上午|下午|午前|午後|오전|오후)"
_TIME = re.compile(
    r"(?P<gap>\D{0,20}?)" + _HALF_OF_DAY.format("before") + r"?\s?"
    r"(?P<hour>\d{1,2})(?P<sep>[-_.:h])(?P<minute>\d\d)(?:[-_.:m](?P<second>\d\d))?(?!\d)"
    r"(?:[-_.]\d{1,6})?\s?" + _HALF_OF_DAY.format("after") + "?",
    re.IGNORECASE,
)
_DIGITS = re.compile(r"(?P<gap>[-_ T]{0,3}(?:at )?)(?P<hour>\d\d)(?P<minute>\d\d)(?:(?P<second>\d\d)(?:\d{3})?)?(?!\d)")
_IS_PLAIN = re.compile(r"[^\w]*|[-_ ]*(?:T|at|um|à|às|om|kl|o|в|u|alle|a las?|klo)?[-_. ]*", re.IGNORECASE)
"""Between a day and a time without seconds there are no other words: these would be numbers of something else."""
_OFFSET = re.compile(
    r"\s?(?:Z(?![A-Za-z])|(?:GMT|UTC)(?:(?P<sign>[+-])(?P<hours>\d\d?)(?::?(?P<minutes>\d\d))?)?(?![\dA-Za-z])"
    r"|(?P<plus>\+)(?P<h>\d\d):?(?P<m>\d\d)(?!\d))"
)
"""A minus without GMT before it is a dash, and a number begins."""
_AFTERNOON, _MORNING = ("p", "下午", "午後", "오후"), ("a", "上午", "午前", "오전")
_FARTHEST_OFFSET_MIN = 14 * 60


class NameDate(NamedTuple):
    """What a name says."""

    at: datetime
    """With its zone if the name tells one; else local time, naive."""
    precision: Precision


class _Time(NamedTuple):
    hour: int
    minute: int
    second: int | None
    rest: str
    """Of the name, behind it."""


def date_in(name: str, *, now: datetime) -> NameDate | None:
    """The date that a file's name holds; None when it holds none. `now`, UTC: what is later than that is no date."""
    # Blanks of all widths become plain ones: macOS puts a narrow one before PM.
    name = unicodedata.normalize("NFKC", name[:LONGEST])
    stem = _UUID.sub("", name.rpartition(".")[0] or name)
    latest = now + _TOMORROW
    candidates = (_epoch(stem), _two_digit_year(stem), *_written(stem))
    dates = [
        date
        for date in candidates
        if date is not None and (date.at if date.at.tzinfo else date.at.replace(tzinfo=UTC)) <= latest
    ]
    # A day alone is often that of an export or a backup, which a file with a time of its own went through.
    return min(dates, key=lambda date: date.precision == "day", default=None)


def _epoch(stem: str) -> NameDate | None:
    match = _EPOCH.match(stem)
    at = datetime.fromtimestamp(int(match[1]), UTC) if match else None
    return NameDate(at, "second") if at is not None and at.year >= FIRST_YEAR else None


def _two_digit_year(stem: str) -> NameDate | None:
    match = _TWO_DIGIT_YEAR.match(stem)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups())
    at = _moment((2000 + year, month, day), _Time(hour, minute, second, ""))
    return NameDate(at, "second") if at is not None else None


def _written(stem: str) -> Iterator[NameDate]:
    """All dates, the most telling forms first."""
    zone = UTC if _IS_UTC.search(stem) else None
    for form in _DATES:
        for match in form.finditer(stem):
            day = (int(match["year"]), int(match["month"]), int(match["day"]))
            if day[0] < (FIRST_YEAR if form in {_HALF, _NUMBER} else FIRST_WRITTEN_YEAR):
                continue
            rest = stem[match.end() :]
            time = _time(rest)
            at = _moment(day, time) if time is not None else None
            if time is not None and at is not None:
                own = zone or _offset(time.rest)
                yield NameDate(at.replace(tzinfo=own), "minute" if time.second is None else "second")
            elif form is _NUMBER and not _is_alone(stem, match):
                continue  # part of a longer number or of an id
            elif (first := _moment(day, _Time(0, 0, 0, ""))) is not None:
                yield NameDate(first, "day")


def _is_alone(stem: str, match: re.Match[str]) -> bool:
    around = stem[match.start() - 1 : match.start()] + stem[match.end() : match.end() + 1]
    return not any(char.isascii() and char.isalnum() for char in around)


def _time(rest: str) -> _Time | None:
    """The time that stands right behind a date."""
    match = _DIGITS.match(rest)
    if match is None or (match["second"] is None and not match["gap"].strip("-_")):
        match = _TIME.match(rest)
        if match is None or (match["second"] is None and not _IS_PLAIN.fullmatch(match["gap"])):
            return None
    parts = match.groupdict()
    hour = int(parts["hour"])
    half = (parts.get("before") or parts.get("after") or "").lower()
    if half:
        if not 0 <= hour <= 12:  # noqa: PLR2004 - hours of a clock
            return None
        hour = hour % 12 + (12 if half.startswith(_AFTERNOON) else 0)
    second = int(parts["second"]) if parts["second"] else None
    return _Time(hour, int(parts["minute"]), second, rest[match.end() :])


def _moment(day: tuple[int, int, int], time: _Time) -> datetime | None:
    try:
        return datetime(*day, time.hour, time.minute, time.second or 0)  # noqa: DTZ001 - the zone comes later
    except ValueError:
        return None


def _offset(rest: str) -> timezone | None:
    """The zone that stands right behind a time: `Z`, `+0200`, `GMT+2`."""
    match = _OFFSET.match(rest)
    if match is None:
        return None
    minutes = int(match["hours"] or match["h"] or 0) * 60 + int(match["minutes"] or match["m"] or 0)
    if minutes > _FARTHEST_OFFSET_MIN:
        return None
    return timezone(timedelta(minutes=-minutes if match["sign"] == "-" else minutes))
