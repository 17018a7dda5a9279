"""Brings read models that an older version of this program built to this version, by themselves, after an upgrade."""

import threading
from collections import Counter

import psycopg
import structlog

from domain.errors import Conflict, ServiceUnavailable
from projectors.overview import list_projections
from projectors.rebuild import Progress, rebuild

_AGAIN_S, _LONGEST_PAUSE_S = 5.0, 3_600.0

log = structlog.get_logger(__name__)


class _Stopped(Exception):
    """The program ends; the next one begins again."""


def renew(database_url: str, stop: threading.Event) -> None:
    """Rebuild what is of an older version, one read model after the other, until all is new or `stop` is set.

    Reads and writes go on with the old tables meanwhile. What a newer version built is left alone.
    """

    def unless_stopped(_: Progress) -> None:
        if stop.is_set():
            raise _Stopped

    failures: Counter[str] = Counter()
    while not stop.is_set():
        name, pause_s = "", _AGAIN_S
        try:
            outdated = _outdated(database_url)
            if not outdated:
                return
            log.info("projection.outdated", projections=outdated)
            name = min(outdated, key=lambda one: failures[one])  # one that fails holds up no other
            rebuild(database_url, name, unless_stopped)
            continue
        except _Stopped:
            return
        except Conflict:  # another process is at it
            pass
        except (psycopg.Error, ServiceUnavailable) as error:
            failures[name] += 1
            # A full disk stays full, and each try takes the room of the live tables once more.
            pause_s = min(_LONGEST_PAUSE_S, _AGAIN_S * 2 ** min(failures.values()))
            log.warning(
                "projection.renewal_interrupted", projection=name, error=str(error), again_in_s=pause_s
            )
        except Exception:
            failures[name] += 1
            pause_s = _LONGEST_PAUSE_S
            log.exception("projection.renewal_failed", projection=name, again_in_s=pause_s)
        stop.wait(pause_s)


def _outdated(database_url: str) -> list[str]:
    return [
        status.name
        for status in list_projections(database_url)
        if status.built_version is not None and status.built_version < status.version
    ]
