"""Where a video was filmed, as cameras write it."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

TAGS = (
    "com.apple.quicktime.location.iso6709",
    "location",
    "location-eng",
    "location-und",
    "©xyz",
    "gps_location",
)
"""Container tags that hold ISO 6709, lower case, best first. Matroska and Android write `location`."""

_LAT_REF, _LAT, _LON_REF, _LON, _ALT_REF, _ALT = range(1, 7)  # EXIF GPS tags
_MAX_LATITUDE, _MAX_LONGITUDE = 90, 180
_LOWEST_M, _HIGHEST_M = -500, 100_000
_ISO6709 = re.compile(
    r"""^\s*(?P<lat>[+-]\d{2,6}(?:[.,]\d+)?)(?P<lon>[+-]\d{3,7}(?:[.,]\d+)?)(?P<alt>[+-]\d+(?:[.,]\d+)?)?"""
)


class Place(NamedTuple):
    """A point on earth, WGS 84."""

    latitude: float
    """Degrees, north positive."""
    longitude: float
    """Degrees, east positive."""
    altitude: float | None = None
    """Metres above sea level."""


def place_in(tags: Mapping[str, str]) -> Place | None:
    """The place that container tags name; keys lower case."""
    return next((place for tag in TAGS if (place := iso6709(tags.get(tag, "")))), None)


def iso6709(text: str) -> Place | None:
    """A place from ISO 6709 in degrees, degrees and minutes, or degrees, minutes and seconds; None when it is none.

    `+48.8577+002.2950+035.000/` `+4851.46+00217.70/` `+485127.7+0021742.0/`
    """
    match = _ISO6709.match(text)
    if match is None:
        return None
    latitude = _degrees(match["lat"], whole=2)
    longitude = _degrees(match["lon"], whole=3)
    altitude = float(match["alt"].replace(",", ".")) if match["alt"] else None
    return _place(latitude, longitude, altitude)


def _degrees(text: str, *, whole: int) -> float:
    """Signed degrees from ±DD…, ±DDMM… or ±DDMMSS…; `whole` digits are degrees (2 latitude, 3 longitude)."""
    sign = -1 if text[0] == "-" else 1
    number, _, fraction = text[1:].replace(",", ".").partition(".")
    tail = f".{fraction}" if fraction else ""
    degrees, rest = number[:whole], number[whole:]
    match len(rest):
        case 0:
            return sign * float(degrees + tail)
        case 2:
            return sign * (float(degrees) + float(rest + tail) / 60)
        case 4:
            return sign * (float(degrees) + float(rest[:2]) / 60 + float(rest[2:] + tail) / 3600)
        case _:
            return float("nan")


def exif_place(gps: Mapping[int, Any]) -> Place | None:
    """A place from an EXIF GPS block: {1: "N", 2: (48, 51, 27.7), 3: "E", 4: (2, 17, 42), 5: 0, 6: 35}."""
    try:
        latitude = _sexagesimal(gps[_LAT]) * (
            -1 if str(gps.get(_LAT_REF, "N")).upper().startswith("S") else 1
        )
        longitude = _sexagesimal(gps[_LON]) * (
            -1 if str(gps.get(_LON_REF, "E")).upper().startswith("W") else 1
        )
        altitude = (
            float(gps[_ALT]) * (-1 if gps.get(_ALT_REF) in {b"\x01", 1} else 1) if _ALT in gps else None
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return _place(latitude, longitude, altitude)


def _sexagesimal(parts: Any) -> float:
    degrees, minutes, seconds = (float(part) for part in parts)
    return degrees + minutes / 60 + seconds / 3600


def _place(latitude: float, longitude: float, altitude: float | None) -> Place | None:
    """None when out of range, not a number, or exactly 0, 0: what cameras write before they have a fix."""
    if (
        not (abs(latitude) <= _MAX_LATITUDE and abs(longitude) <= _MAX_LONGITUDE)
        or latitude == longitude == 0
    ):
        return None
    if altitude is not None and not _LOWEST_M <= altitude <= _HIGHEST_M:
        altitude = None
    return Place(round(latitude, 7), round(longitude, 7), altitude)
