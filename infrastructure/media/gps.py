"""Where a video was filmed, as cameras write it."""

import re
from collections.abc import Mapping
from math import nan
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
_SIXTY = 60
_ISO6709 = re.compile(
    r"\s{0,9}(?P<lat>[+-]\d{1,8}(?:[.,]\d{0,12})?)(?P<lon>[+-]\d{1,9}(?:[.,]\d{0,12})?)"
    r"(?P<alt>[+-]\d{1,8}(?:[.,]\d{0,12})?)?\s{0,9}(?:CRS[^/]{0,100})?(?:/|\0|\s|$)"
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

    `+48.8577+002.2950+035.000/` `+4851.46+00217.70/` `+485127.7+0021742.0/`, and degrees without leading zeros, as many
    devices write them: `+5.6037-0.1870+61CRSWGS_84/`.
    """
    match = _ISO6709.match(text)
    if match is None:
        return None
    latitude = _degrees(match["lat"])
    longitude = _degrees(match["lon"])
    altitude = float(match["alt"].replace(",", ".")) if match["alt"] else None
    return _place(latitude, longitude, altitude)


def _degrees(text: str) -> float:
    """Signed degrees from ±D…, ±DDMM… or ±DDMMSS…: minutes and seconds have two digits, and come with four in all."""
    sign = -1 if text[0] == "-" else 1
    number, _, fraction = text[1:].replace(",", ".").partition(".")
    tail = f".{fraction}" if fraction else ""
    match len(number):
        case 1 | 2 | 3:
            return sign * float(number + tail)
        case 4 | 5:
            degrees, minutes, seconds = number[:-2], float(number[-2:] + tail), 0.0
        case 6 | 7:
            degrees, minutes, seconds = number[:-4], float(number[-4:-2]), float(number[-2:] + tail)
        case _:
            return nan
    if minutes >= _SIXTY or seconds >= _SIXTY:
        return nan
    return sign * (float(degrees) + minutes / 60 + seconds / 3600)


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
