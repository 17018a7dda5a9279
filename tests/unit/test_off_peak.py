"""The off-peak window: by the clock on the wall, whatever is done to it."""

from datetime import UTC, datetime, timedelta

import pytest

from application.gate import pauses, pauses_of
from application.handle import handle
from domain.errors import InvalidParameter
from domain.off_peak import off_peak
from domain.queue import PauseQueue, queue_id_of
from eioku.settings import load
from tests.support.given import META
from tests.support.memory_log import MemoryLog

BERLIN = "Europe/Berlin"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("at", "is_open"),
    [
        ("2024-06-01 19:59", False),  # 21:59 in summer
        ("2024-06-01 20:00", True),
        ("2024-06-02 03:59", True),
        ("2024-06-02 04:00", False),
        ("2024-01-01 20:59", False),  # 21:59 in winter
        ("2024-01-01 21:00", True),
        ("2024-01-02 05:00", False),
        ("2024-01-02 11:45", True),  # the second window
    ],
)
def test_a_window_goes_by_the_clock_on_the_wall(at, is_open):
    window = off_peak("22:00-06:00, 12:30-13:00", BERLIN, [])
    assert window.is_open(utc(at)) is is_open


def test_a_window_is_as_long_as_the_clock_makes_it_on_the_days_it_is_changed():
    window = off_peak("01:00-04:00", BERLIN, [])

    def minutes(day: str) -> int:
        start = utc(f"{day} 00:00") - timedelta(hours=3)
        return sum(window.is_open(start + timedelta(minutes=n)) for n in range(24 * 60))

    assert [minutes(day) for day in ("2024-03-30", "2024-03-31", "2024-10-27")] == [180, 120, 240]
    left_out = off_peak("02:00-03:00", BERLIN, [])
    assert left_out.opens_at(utc("2024-03-30 12:00")) == utc("2024-04-01 00:00")


@pytest.mark.parametrize("windows", ["22:00-06:00", "00:00-24:00", "05:00-05:00", "23:59-00:01"])
def test_it_opens_when_it_says(windows):
    window = off_peak(windows, BERLIN, [])
    at = utc("2024-10-26 07:31")
    opens = window.opens_at(at)
    assert window.is_open(opens)
    assert not any(window.is_open(at + timedelta(minutes=n)) for n in range(1, (opens - at) // timedelta(minutes=1)))


def test_bulk_waits_for_the_window_or_the_named_task_types_do():
    by_day, by_night = utc("2024-06-01 12:00"), utc("2024-06-01 23:00")
    everything, some = off_peak("22:00-06:00", BERLIN, []), off_peak("22:00-06:00", BERLIN, ["ocr"])
    log = MemoryLog()
    assert {priority for priority, _ in pauses(log, everything, by_day)} == {"bulk"}
    assert set(pauses(log, some, by_day)) == {("std", "ocr"), ("bulk", "ocr")}
    assert pauses(log, everything, by_night) == pauses(log, None, by_day) == {}
    pause = pauses_of(log, "ocr", everything, by_day, tenant_id="default")["bulk"]
    assert pause.until == utc("2024-06-01 20:00")
    assert "2024-06-01 20:00 UTC" in pause.reason


def test_what_people_paused_goes_before_the_window():
    log = MemoryLog()
    wish = PauseQueue(stream_id=queue_id_of("ocr"), meta=META, task_type="ocr", reason="the disk is full")
    handle(log, wish)
    window = off_peak("22:00-06:00", BERLIN, [])
    for at in ("2024-06-01 12:00", "2024-06-01 23:00"):
        held = pauses_of(log, "ocr", window, utc(at), tenant_id="default")
        assert {priority: pause.reason for priority, pause in held.items()} == dict.fromkeys(
            ("hi", "std", "bulk"), "the disk is full"
        )


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        ({"OFF_PEAK": "22-6"}, "EIOKU_OFF_PEAK: '22-6' is no window"),
        ({"OFF_PEAK": "22:00-06:00,"}, "EIOKU_OFF_PEAK: '' is no window"),
        ({"OFF_PEAK": "22:00-24:30"}, "EIOKU_OFF_PEAK"),
        ({"OFF_PEAK": "22:00-06:00", "OFF_PEAK_ZONE": "Mars/Olympus"}, "EIOKU_OFF_PEAK_ZONE: 'Mars/Olympus'"),
        ({"OFF_PEAK": "22:00-06:00", "OFF_PEAK_ZONE": "../etc"}, "EIOKU_OFF_PEAK_ZONE"),
        ({"OFF_PEAK": "22:00-06:00", "OFF_PEAK_TASKS": "orc"}, "EIOKU_OFF_PEAK_TASKS: 'orc' is none of"),
        ({"OFF_PEAK_TASKS": "ocr"}, "EIOKU_OFF_PEAK: is not set"),
    ],
)
def test_a_wrong_window_is_refused_by_the_name_of_its_variable(variables, names):
    with pytest.raises(InvalidParameter, match=names):
        load({f"EIOKU_{name}": value for name, value in variables.items()})
