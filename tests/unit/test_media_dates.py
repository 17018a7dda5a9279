"""When a video was filmed."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from infrastructure.media.dates import CaptureTime, capture_time, parse

NOON = datetime(2024, 5, 4, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2024-05-04T12:00:00.000000Z", NOON),
        ("2024-05-04T14:00:00+0200", NOON),
        ("2024-05-04T14:00:00+02:00", NOON),
        ("2024-05-04 12:00:00", NOON),
        ("2024:05:04 12:00:00", NOON),
        ("2024:05:04 14:00:00+02:00", NOON),
        ("2024-05-04", datetime(2024, 5, 4, tzinfo=UTC)),
        ("2024", None),
        ("1904-01-01T00:00:00.000000Z", None),
        ("1970-01-01T00:00:00.000000Z", None),
        ("0000:00:00 00:00:00", None),
        ("yesterday afternoon", None),
        ("", None),
    ],
)
def test_dates_are_read_as_utc(text: str, at: datetime | None) -> None:
    assert parse(text) == at


def test_a_time_without_a_zone_is_read_in_the_zone_given() -> None:
    assert parse("2024:05:04 14:00:00", zone=ZoneInfo("Europe/Paris")) == NOON


def test_the_phones_own_date_beats_the_containers() -> None:
    tags = {
        "creation_time": "2024-06-01T00:00:00Z",
        "com.apple.quicktime.creationdate": "2024-05-04T14:00:00+0200",
    }
    assert capture_time(tags) == CaptureTime(NOON, "com.apple.quicktime.creationdate", 120)


@pytest.mark.parametrize(
    ("tags", "exif", "source", "offset_min"),
    [
        ({"com.apple.quicktime.creationdate": "2024-05-04T07:00:00-0500"}, None, "com.apple.quicktime.creationdate", -300),
        ({}, "2024:05:04 17:30:00+05:30", "exif", 330),
        ({}, "2024:05:04 12:00:00", "exif", None),
        ({"creation_time": "2024-05-04T12:00:00.000000Z"}, None, "creation_time", None),
        (
            {"creation_time": "2024-05-04T12:00:00.000000Z", "com.samsung.android.utc_offset": "+0200"},
            None,
            "creation_time",
            120,
        ),
        ({"creation_time": "2024-05-04T12:00:00Z", "com.samsung.android.utc_offset": "soon"}, None, "creation_time", None),
        ({"date": "2024-05-04T14:00:00+0200"}, None, "date", 120),
    ],
)
def test_the_offset_of_the_place_is_kept_where_the_file_has_it(tags, exif, source, offset_min) -> None:
    assert capture_time(tags, exif=exif) == CaptureTime(NOON, source, offset_min)


def test_an_unset_container_date_gives_way_to_the_tracks() -> None:
    found = capture_time(
        {"creation_time": "1904-01-01T00:00:00.000000Z"},
        track_tags=[{}, {"creation_time": "2024-05-04T12:00:00Z"}],
    )
    assert found == CaptureTime(NOON, "creation_time")


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("VID_20240504_120000.mp4", NOON),
        ("PXL_20240504_120000123.mp4", NOON),
        ("2024-05-04 12.00.00.mov", NOON),
        ("DJI_20240504120000_0001.MP4", NOON),
        ("20240504_120000.mp4", NOON),
        ("signal-2024-05-04-12-00-00.mp4", NOON),
        ("WhatsApp Video 2024-05-04 at 12.00.00.mp4", NOON),
        ("Screen Recording 2024-05-04 at 12.00.00.mov", NOON),
        ("screen-20240504-120000.mp4", NOON),
        ("holiday 2024.mp4", None),
        ("IMG_1234.MOV", None),
        ("VID_20241304_120000.mp4", None),
    ],
)
def test_camera_names_are_the_last_resort(name: str, at: datetime | None) -> None:
    found = capture_time({}, file_name=name)
    assert (found and found.at) == at
    assert capture_time({"creation_time": "2020-01-01T00:00:00Z"}, file_name=name).source == "creation_time"


def test_local_camera_names_are_read_in_the_zone_and_google_names_in_utc() -> None:
    paris = ZoneInfo("Europe/Paris")
    assert capture_time({}, file_name="VID_20240504_140000.mp4", zone=paris).at == NOON
    assert capture_time({}, file_name="PXL_20240504_120000123.mp4", zone=paris).at == NOON


def test_a_file_that_says_nothing_has_no_date() -> None:
    assert capture_time({}, file_name="film.mp4") is None
