"""Which queues are held back now, and why: what people paused, and what waits for the off-peak window."""

from collections.abc import Mapping
from datetime import datetime

from application.handle import present
from application.ports import EventLog
from domain import queue
from domain.off_peak import OffPeak
from domain.pipeline import BY_NAME
from domain.queue import Pause, Queue, queue_id_of
from domain.task import PRIORITIES, Priority


def pauses_of(
    log: EventLog, task_type: str, window: OffPeak | None, now: datetime, *, tenant_id: str
) -> Mapping[Priority, Pause]:
    """Why tasks of this type wait, for each class that does, as the tenant may see it.

    What people paused goes before the window.
    """
    state: Queue | None = present(log, queue, queue_id_of(task_type))
    return _waiting_for(window, task_type, now) | (state.seen_by(tenant_id) if state is not None else {})


def pauses(
    log: EventLog, window: OffPeak | None, now: datetime, *, tenant_id: str = ""
) -> dict[tuple[Priority, str], Pause]:
    """The same for all task types, by class and type."""
    return {
        (priority, task_type): pause
        for task_type in BY_NAME
        for priority, pause in pauses_of(log, task_type, window, now, tenant_id=tenant_id).items()
    }


def _waiting_for(window: OffPeak | None, task_type: str, now: datetime) -> dict[Priority, Pause]:
    held = [priority for priority in PRIORITIES if window is not None and window.holds(task_type, priority)]
    if window is None or not held or window.is_open(now):
        return {}
    opens = window.opens_at(now)
    reason = f"waits for the off-peak window, which opens at {opens:%Y-%m-%d %H:%M} UTC"
    pause = Pause(reason=reason, by="system:off-peak", until=opens)
    return dict.fromkeys(held, pause)
