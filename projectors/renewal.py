"""Brings read models that an older version of this program built to this version, by themselves, after an upgrade."""

import threading

import psycopg
import structlog

from domain.errors import Conflict, ServiceUnavailable
from projectors.overview import list_projections
from projectors.rebuild import Progress, rebuild

_AGAIN_S = 5.0

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

    while not stop.is_set():
        try:
            outdated = _outdated(database_url)
            if not outdated:
                return
            log.info("projection.outdated", projections=outdated)
            rebuild(database_url, outdated[0], unless_stopped)
        except _Stopped:
            return
        except Conflict:  # another process is at it
            stop.wait(_AGAIN_S)
        except (psycopg.Error, ServiceUnavailable) as error:
            log.warning("projection.renewal_interrupted", error=str(error), again_in_s=_AGAIN_S)
            stop.wait(_AGAIN_S)


def _outdated(database_url: str) -> list[str]:
    return [
        status.name
        for status in list_projections(database_url)
        if status.built_version is not None and status.built_version < status.version
    ]
