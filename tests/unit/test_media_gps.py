"""Coordinates as cameras write them, and the names of places."""

import math

import pytest

from infrastructure.media.gps import Place, exif_place, iso6709, place_in
from infrastructure.media.places import nearest_place


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("+48.8577+002.2950+035.000/", Place(48.8577, 2.295, 35.0)),
        ("+48.8577+002.2950/", Place(48.8577, 2.295, None)),
        ("-33.8568+151.2153/", Place(-33.8568, 151.2153, None)),
        ("+37.4219-122.0840", Place(37.4219, -122.084, None)),
        ("+4851.462+00217.700+35/", Place(48.8577, 2.295, 35.0)),
        ("+485127.72+0021742.0+035/CRSWGS_84/", Place(48.8577, 2.295, 35.0)),
        ("-0.5000+030.0000/", None),
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
    ("latitude", "longitude", "country", "city", "at_most_km"),
    [
        (48.8566, 2.3522, "France", "Paris", 1),
        (47.2660, 11.3940, "Austria", "Innsbruck", 1),
        (-33.8688, 151.2093, "Australia", "Sydney", 2),
        (51.5074, -0.1278, "United Kingdom", "London", 2),
        (-16.80, -179.99, "Fiji", "Lambasa", 120),  # just across the date line from the nearest town
    ],
)
def test_the_nearest_place_is_named(
    latitude: float, longitude: float, country: str, city: str, at_most_km: float
) -> None:
    place = nearest_place(latitude, longitude)
    assert (place.country, place.city) == (country, city)
    assert place.distance_km <= at_most_km


def test_the_middle_of_an_ocean_is_far_from_everything() -> None:
    assert nearest_place(-48.9, -123.4).distance_km > 2000
