"""Looks through folders in tests: over any log, with the disk as it is."""

from pathlib import Path

from application.look import Tally, look_through
from application.ports import EventLog
from application.whereabouts import Whereabouts
from domain.event import Meta
from infrastructure.media.fingerprint import fingerprint
from tests.support.given import META
from tests.support.memory_videos import MemoryVideos


def look(log: EventLog, root: Path, *, meta: Meta = META, roots: list[Path] | None = None, **options) -> Tally | None:
    """What one look found. `roots`: where media may lie; the folder itself unless said."""
    where = Whereabouts(log, MemoryVideos(log), [str(one) for one in roots or [root]])
    return look_through(log, str(root), meta, where=where, fingerprint=hashed, **{"recursive": True, **options})


def hashed(path: Path, on_bytes) -> tuple[str, int]:
    """As the scanner asks for it."""
    return fingerprint(path, on_bytes=on_bytes)
