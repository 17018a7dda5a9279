"""Constructs what the roles stand on; nothing else does."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from domain.errors import InvalidParameter
from eioku.settings import Settings

if TYPE_CHECKING:
    from api.services import ApiServices
    from infrastructure.event_store.log import PostgresEventLog
    from infrastructure.media.source_cache import SourceCache
    from workers.producer import ModelPlaces

_MOST_VIDEOS = 4


def now() -> datetime:
    """The clock of every role."""
    return datetime.now(UTC)


def start_logging(settings: Settings, role: str) -> None:
    """Set up logging of a role's process."""
    from infrastructure.logs import LogStyle, configure

    is_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    configure(LogStyle(role, settings.log_level, is_json))


def database_url(settings: Settings) -> str:
    """The URL of the database; a role that runs alone needs it.

    Raises:
        InvalidParameter: it is not set.
    """
    if settings.database_url is None:
        raise InvalidParameter("EIOKU_DATABASE_URL", "a role that runs alone needs it; `eioku up` runs everything")
    return settings.database_url


def nats_url(settings: Settings) -> str:
    """The URL of NATS; a role that runs alone needs it.

    Raises:
        InvalidParameter: it is not set.
    """
    if settings.nats_url is None:
        raise InvalidParameter("EIOKU_NATS_URL", "a role that runs alone needs it; `eioku up` runs everything")
    return settings.nats_url


@contextmanager
def event_log(settings: Settings, *, pool_size: int = 5) -> "Iterator[PostgresEventLog]":
    """The log, closed at the end."""
    from infrastructure.event_store.log import PostgresEventLog

    with PostgresEventLog(database_url(settings), pool_size=pool_size) as log:
        yield log


def api_services(settings: Settings, log: "PostgresEventLog") -> "ApiServices":
    """What the API stands on."""
    from api.services import ApiServices
    from application import faces, policies
    from eioku.pipeline_file import load_plans
    from infrastructure.nats import relay

    return ApiServices(
        log=log,
        database_url=database_url(settings),
        data_dir=settings.data,
        media_roots=settings.media_roots,
        hosts=(*settings.hosts, *_own_name(settings.host)),
        cors_origins=settings.cors_origins,
        nats_url=settings.nats_url,
        max_upload_bytes=settings.max_upload_bytes,
        source_cache_bytes=settings.source_cache_bytes,
        deployment=settings.deployment,
        off_peak=settings.window(),
        plans=load_plans(settings),
        # Not the sweeper of pictures: it rightly waits for a read model that is halted.
        followers=(relay.FOLLOWER, policies.FOLLOWER, faces.FOLLOWER),
    )


def _own_name(address: str) -> tuple[str, ...]:
    """The address that the API listens on, as a client would name it; nobody's name is `0.0.0.0`."""
    if address in ("0.0.0.0", "::"):  # noqa: S104
        return ()
    return (f"[{address}]" if ":" in address else address,)


def model_places(settings: Settings) -> "ModelPlaces":
    """Where workers look for weights."""
    from workers.producer import ModelPlaces

    return ModelPlaces(
        detector_weights=settings.detector_weights,
        whisper_model=settings.whisper_model,
        places_model=settings.places_model,
        text_embedder=settings.text_embedder,
        image_embedder=settings.image_embedder,
        face_detector=settings.face_detector,
        ocr_models=settings.ocr_models,
        models_dir=settings.models_dir or settings.data / "models",
        is_offline=settings.offline,
        hub_timeout_s=settings.hub_timeout_s,
        device=settings.device,
        threads=settings.threads,
        vram_bytes=settings.vram_bytes,
        ram_bytes=settings.model_ram_bytes,
    )


def videos_together(settings: Settings) -> int:
    """How many videos a worker may do at once; without a word in the settings one, several with a GPU (ADR-0024)."""
    from infrastructure.devices import visible_gpus

    if settings.videos_together != "auto":
        return settings.videos_together
    if settings.device == "cpu" or not visible_gpus():
        return 1
    # Each video is decoded by a pass of its own; the other half is for the models and the other families.
    return max(1, min(_MOST_VIDEOS, (os.cpu_count() or 1) // 2))


def source_cache(settings: Settings) -> "SourceCache":
    """Where workers copy files to that lie elsewhere; the same place as the API's."""
    from infrastructure.media.source_cache import SourceCache

    return SourceCache(folder=settings.data / "sources", max_bytes=settings.source_cache_bytes)


def media_folders(settings: Settings) -> tuple[str, ...] | None:
    """The only folders in which workers open files: the media roots, uploads, and copies of what lies elsewhere.

    None without media roots: a worker on another machine may be told nothing but where NATS is.
    """
    if not settings.media_roots:
        return None
    local = (root for root in settings.media_roots if "://" not in root)
    return (*local, str(settings.data / "uploads"), str(settings.data / "sources"))


def pictures(settings: Settings) -> Path:
    """Where workers leave thumbnails, posters and sprite sheets, and the API looks for them."""
    return settings.data / "thumbnails"
