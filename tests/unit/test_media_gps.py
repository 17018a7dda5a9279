"""Coordinates as cameras write them, and the names of places."""

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from infrastructure.media.gps import Place, exif_place, iso6709, place_in
from infrastructure.media.places import FARTHEST_KM, place_at


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("+48.8577+002.2950+035.000/", Place(48.8577, 2.295, 35.0)),
        ("+48.8577+002.2950/", Place(48.8577, 2.295, None)),
        ("-33.8568+151.2153/", Place(-33.8568, 151.2153, None)),
        ("+37.4219-122.0840", Place(37.4219, -122.084, None)),
        ("+4851.462+00217.700+35/", Place(48.8577, 2.295, 35.0)),
        ("+485127.72+0021742.0+035/CRSWGS_84/", Place(48.8577, 2.295, 35.0)),
        ("-0.5000+030.0000/", Place(-0.5, 30.0, None)),
        ("+51.5074-0.1278/", Place(51.5074, -0.1278, None)),
        ("+5.6037-0.1870+61/", Place(5.6037, -0.187, 61.0)),
        ("+38.7223-9.1393+100.5/", Place(38.7223, -9.1393, 100.5)),
        ("-1.2921+36.8219/", Place(-1.2921, 36.8219, None)),
        ("+52.5200+13.4050+034.000CRSWGS_84/", Place(52.52, 13.405, 34.0)),
        ("+1+103/", Place(1.0, 103.0, None)),
        ("-9.-77.5/", Place(-9.0, -77.5, None)),
        ("+0130+00100/", Place(1.5, 1.0, None)),
        ("+5130.44-00007.67/", Place(51.5073333, -0.1278333, None)),
        ("+5130.44-0007.67/", Place(51.5073333, -0.1278333, None)),
        ("+048.8577+002.295/", Place(48.8577, 2.295, None)),
        ("+4860.00+00217.00/", None),
        ("+485160.0+0021742.0/", None),
        ("+48.8577+002.2950x", None),
        ("+nan+nan/", None),
        ("+90+180/", Place(90.0, 180.0, None)),
        ("+90.0001+0/", None),
        ("-0.0-0.0/", None),
        ("-00.5000-078.0000+2850/", Place(-0.5, -78.0, 2850.0)),
        ("+00.0000+000.0000/", None),
        ("+91.0000+000.0000/", None),
        ("+48.8577+181.0000/", None),
        ("+488+002/", None),
        ("48.8577, 2.295", None),
        ("", None),
        ("somewhere nice", None),
    ],
)
def test_iso6709_is_read_in_all_its_forms_and_nothing_else(text: str, place: Place | None) -> None:
    assert iso6709(text) == place


def test_an_impossible_altitude_does_not_cost_the_place() -> None:
    assert iso6709("+48.8577+002.2950+999999/") == Place(48.8577, 2.295, None)


def test_exif_blocks_give_signed_degrees() -> None:
    south_west = {1: "S", 2: (22, 54, 30.0), 3: "W", 4: (43, 11, 47.0), 5: b"\x01", 6: 3.0}
    place = exif_place(south_west)
    assert place is not None
    assert place.latitude == pytest.approx(-22.908333)
    assert place.longitude == pytest.approx(-43.196389)
    assert place.altitude == -3.0


@pytest.mark.parametrize("block", [{}, {2: (1, 2)}, {2: "x", 4: "y"}, {2: (math.nan,) * 3, 4: (1, 2, 3)}])
def test_a_broken_exif_block_is_no_place(block: dict) -> None:
    assert exif_place(block) is None


def test_apples_tag_goes_before_the_plain_one() -> None:
    tags = {"location": "+01.0000+001.0000/", "com.apple.quicktime.location.iso6709": "+48.8577+002.2950/"}
    assert place_in(tags) == Place(48.8577, 2.295, None)


@pytest.mark.parametrize(
    ("latitude", "longitude", "country", "city", "district"),
    [
        (48.8566, 2.3522, "France", "Paris", "Paris 04 Hôtel-de-Ville"),
        (48.8577, 2.2950, "France", "Paris", "Paris 16 Passy"),  # the Eiffel Tower: Neuilly's centre is nearer
        (48.8846, 2.2697, "France", "Neuilly-sur-Seine", None),
        (48.8049, 2.1204, "France", "Versailles", None),
        (47.5767, 18.8796, "Hungary", "Nagykovácsi", None),
        (51.81126, 5.79792, "Netherlands", "Nijmegen", "Lindenholt"),
        (51.8327, 5.7934, "Netherlands", "Nijmegen", "Lindenholt"),
        (47.2660, 11.3940, "Austria", "Innsbruck", None),
        (-33.8688, 151.2093, "Australia", "Sydney", None),
        (51.5074, -0.1278, "United Kingdom", "London", None),
        (51.5390, -0.1426, "United Kingdom", "London", "Camden Town"),
        (52.4986, 13.4033, "Germany", "Berlin", "Kreuzberg"),
        (52.3900, 13.0600, "Germany", "Potsdam", None),
        (40.6782, -73.9442, "United States", "New York City", "Brooklyn"),
        (34.0983, -118.3267, "United States", "Los Angeles", "Hollywood"),
        (37.7456, -119.5936, "United States", "Yosemite Valley", None),
        (35.6580, 139.7016, "Japan", "Tokyo", "Shibuya"),
        (-22.9711, -43.1822, "Brazil", "Rio de Janeiro", "Copacabana"),
        (5.6037, -0.1870, "Ghana", "Accra", None),
        (46.0207, 7.7491, "Switzerland", "Zermatt", None),
    ],
)
def test_a_place_is_named_by_the_town_that_it_is_in(
    latitude: float, longitude: float, country: str, city: str, district: str | None
) -> None:
    place = place_at(latitude, longitude)
    assert place is not None
    assert (place.country, place.city, place.district) == (country, city, district)
    assert place.distance_km <= 12


@pytest.mark.parametrize(
    ("latitude", "longitude"),
    [(0.5, 0.5), (-48.9, -123.4), (30, -40), (23, 10), (90, 0), (-90, 0), (0, 180), (0, -180), (75, -40)],
)
def test_the_open_sea_the_poles_and_the_desert_are_in_no_town(latitude: float, longitude: float) -> None:
    assert place_at(latitude, longitude) is None


def test_the_states_of_the_same_river_bank_are_told_apart() -> None:
    towns = {(40.758, -73.9855): "New York", (40.728, -74.0776): "New Jersey", (38.9072, -77.0369): "Washington, D.C."}
    for point, state in towns.items():
        place = place_at(*point)
        assert place is not None
        assert place.state == state


@settings(deadline=None)  # the first call reads the tables
@given(latitude=st.floats(-90, 90), longitude=st.floats(-180, 180))
def test_every_point_on_earth_has_a_town_within_reach_or_none(latitude: float, longitude: float) -> None:
    place = place_at(latitude, longitude)
    assert place is None or (0 <= place.distance_km <= FARTHEST_KM and place.city and place.country)


@given(
    latitude=st.floats(-90, 90).filter(bool),
    longitude=st.floats(-180, 180),
    altitude=st.none() | st.floats(-400, 9_000),
    form=st.sampled_from(["{:+010.6f}{:+011.6f}", "{:+.6f}{:+.6f}"]),
    end=st.sampled_from(["/", "CRSWGS_84/", "", "/\0"]),
)
def test_degrees_of_every_width_are_read_back(latitude, longitude, altitude, form, end) -> None:
    text = form.format(latitude, longitude) + ("" if altitude is None else f"{altitude:+.3f}") + end
    assume(abs(latitude) > 1e-6)
    place = iso6709(text)
    assert place is not None
    assert (place.latitude, place.longitude) == pytest.approx((latitude, longitude), abs=1e-6)
    assert place.altitude == (None if altitude is None else pytest.approx(altitude, abs=1e-3))


@given(latitude=st.floats(-89, 89), longitude=st.floats(-179, 179))
def test_minutes_and_seconds_are_read_back(latitude: float, longitude: float) -> None:
    def written(value: float, digits: int) -> str:
        hundredths = round(abs(value) * 360_000)
        degrees, rest = divmod(hundredths, 360_000)
        minutes, seconds = divmod(rest, 6_000)
        return f"{'-' if value < 0 else '+'}{degrees:0{digits}d}{minutes:02d}{seconds // 100:02d}.{seconds % 100:02d}"

    assume(abs(latitude) > 0.001)
    place = iso6709(written(latitude, 2) + written(longitude, 3) + "/")
    assert place is not None
    assert (place.latitude, place.longitude) == pytest.approx((latitude, longitude), abs=1e-5)


@given(st.text(max_size=300) | st.text("+-.,0123456789/CRS", max_size=300))
def test_any_text_is_a_place_on_earth_or_none(text: str) -> None:
    place = iso6709(text)
    assert place is None or (abs(place.latitude) <= 90 and abs(place.longitude) <= 180)


def test_a_long_text_is_read_at_once() -> None:
    for text in ("+1" * 500_000, "+" + "1" * 1_000_000, "+1+1CRS" + "x" * 1_000_000, " " * 1_000_000):
        assert iso6709(text) is None
