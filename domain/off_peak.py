"""The off-peak window: when work that can wait is done."""

import re
from collections.abc import Collection
from datetime import UTC, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

import msgspec

from domain.errors import InvalidParameter
from domain.pipeline import BY_NAME
from domain.task import Priority

_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]|24):([0-5]\d)")
_MINUTE = timedelta(minutes=1)
_LOOK_AHEAD = timedelta(days=2)
"""Every window opens once a day, or twice; a day with a change of the clock has up to 25 hours."""


class OffPeak(msgspec.Struct, frozen=True, kw_only=True):
    """Windows of wall-clock time, and what is worked on only inside them.

    A window is judged by what the clock on the wall shows: in the hour that a change of the clock repeats it is open
    twice, in the one that is left out it is not open.
    """

    windows: tuple[tuple[time, time], ...]
    """Half-open [from, to); one that ends before it begins goes on after midnight; equal = the whole day."""
    zone: tzinfo | None = None
    """None = that of the machine."""
    task_types: frozenset[str] = frozenset()
    """What waits for the window, in every class but `hi`; empty = every task of class `bulk`."""

    def holds(self, task_type: str, priority: Priority) -> bool:
        """Whether tasks of this type and class wait for the window."""
        if self.task_types:
            return task_type in self.task_types and priority != "hi"
        return priority == "bulk"

    def is_open(self, at: datetime) -> bool:
        """Whether `at` is inside a window."""
        wall = at.astimezone(self.zone).time()
        return any(
            start <= wall < end if start < end else wall >= start or wall < end for start, end in self.windows
        )

    def opens_at(self, at: datetime) -> datetime:
        """The next whole minute, UTC, that is inside a window."""
        minute = at.astimezone(UTC).replace(second=0, microsecond=0) + _MINUTE
        last = minute + _LOOK_AHEAD
        while not self.is_open(minute) and minute < last:
            minute += _MINUTE
        return minute


def off_peak(windows: str, zone: str | None, task_types: Collection[str]) -> OffPeak:
    """`22:00-06:00,12:30-13:30`, a zone such as `Europe/Berlin`, and task types.

    Raises:
        InvalidParameter: names the setting.
    """
    found = []
    for word in windows.split(","):
        match = _WINDOW.fullmatch(word.strip())
        if match is None or (match[3] == "24" and match[4] != "00"):
            raise InvalidParameter("EIOKU_OFF_PEAK", f"{word.strip()!r} is no window such as 22:00-06:00")
        end = time(0) if match[3] == "24" else time(int(match[3]), int(match[4]))
        found.append((time(int(match[1]), int(match[2])), end))
    for name in task_types:
        if name not in BY_NAME:
            raise InvalidParameter("EIOKU_OFF_PEAK_TASKS", f"{name!r} is none of {', '.join(BY_NAME)}")
    try:
        place = None if zone is None else ZoneInfo(zone)
    except (OSError, ValueError, KeyError) as error:
        raise InvalidParameter("EIOKU_OFF_PEAK_ZONE", f"{zone!r} is no time zone such as Europe/Berlin") from error
    return OffPeak(windows=tuple(found), zone=place, task_types=frozenset(task_types))
