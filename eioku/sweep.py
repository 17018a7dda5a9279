"""Pictures of videos that are gone: removed once no video has their content any more (ADR-0020)."""

import shutil
from pathlib import Path
from typing import Final
from uuid import UUID

import psycopg
import structlog

from application.handle import present
from application.ports import EventLog, Recorded
from domain import video
from domain.errors import PositionNotReached, ServiceUnavailable
from domain.video import Video, VideoDeleted, VideoFingerprinted
from infrastructure.media.pictures import Pictures
from infrastructure.postgres.connections import connect
from projectors.checkpoint import follower_of
from projectors.videos import Videos

log = structlog.get_logger()

FOLLOWER: Final = "pictures"
KINDS: Final = (VideoDeleted.TOPIC, VideoFingerprinted.TOPIC)


def sweep(event_log: EventLog, url: str, root: Path, recorded: Recorded) -> None:
    """Remove what a video that was deleted, or has other content now, leaves below `root`.

    Raises:
        PositionNotReached, ServiceUnavailable: do it again.
    """
    event = recorded.item
    if not isinstance(event, VideoDeleted | VideoFingerprinted):
        return
    video_id = event.originator_id
    state: Video | None = present(event_log, video, video_id)
    assert state is not None
    past = {each.blake3 for each in event_log.load(video_id) if isinstance(each, VideoFingerprinted)}
    for blake3 in past if state.is_deleted else past - {state.blake3}:
        folder = Pictures(root, blake3).folder
        if not folder.is_dir() or _is_shown(url, blake3, video_id, recorded.position):
            continue
        try:
            shutil.rmtree(folder)
        except OSError as error:
            log.warning("pictures.not_removed", folder=str(folder), error=str(error))
        else:
            log.info("pictures.removed", folder=str(folder), video_id=str(video_id))


def _is_shown(url: str, blake3: str, but: UUID, position: int) -> bool:
    """Whether a video, of whatever tenant, besides `but` has this content."""
    try:
        with connect(url, application_name="eioku pictures", search_path="read") as connection:
            row = connection.execute(
                "SELECT coalesce((SELECT notification_id FROM es.tracking WHERE application_name = %s), 0),"
                " EXISTS (SELECT FROM videos WHERE blake3 = %s AND video_id <> %s)",
                (follower_of(Videos.name), blake3, but),
            ).fetchone()
    except psycopg.OperationalError as error:
        raise ServiceUnavailable(f"no answer about videos: {error}") from error
    assert row is not None
    known: int
    is_shown: bool
    known, is_shown = row
    if known < position:
        raise PositionNotReached(position, known)
    return is_shown
