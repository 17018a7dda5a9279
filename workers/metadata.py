"""Fingerprint, container facts, capture time and place of a file."""

from collections.abc import Iterator
from datetime import UTC, tzinfo
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from application.messages import Fault
from domain.artifacts.video_metadata import VideoMetadataV1
from domain.errors import InvalidParameter, ModelUnavailable
from domain.video import FileFacts
from infrastructure.media.fingerprint import fingerprint
from infrastructure.media.places import NamedPlace, place_at
from infrastructure.media.probe import Probe, probe
from workers.producer import Context, Description, Found, Job, Outcome, Producer


class MetadataExtraction(Producer):
    """Reads what the file says about itself. Config: `timezone` (IANA name) for capture times without a zone."""

    task_type = "metadata_extraction"
    name = "eioku.probe"
    version = "4"

    def __init__(self) -> None:
        self._outcome = Outcome(metrics={})

    def describe(self, job: Job) -> Description:
        """Needs no model."""
        _zone(job)
        return Description(device="cpu", artifact_types=(VideoMetadataV1.NAME,))

    def produce(self, job: Job, context: Context) -> Iterator[Found]:
        """One `video.metadata` over the whole video."""
        source = job.message.source
        file_name = unquote(urlsplit(source).path if "://" in source else source).rsplit("/", 1)[-1]
        found = probe(job.path, zone=_zone(job), file_name=file_name, track=job.track)
        # The bytes are hashed, but progress is told in ms of media; a still clip counts as a second.
        total_ms = max(found.facts.duration_ms, 1000)
        blake3, size_bytes = fingerprint(
            job.path, on_bytes=lambda done, total: context.progress(total_ms * done // total, total_ms)
        )
        yield Found(VideoMetadataV1.NAME, 0, found.facts.duration_ms, _payload(found, blake3, size_bytes))
        self._outcome = Outcome(
            metrics={"bytes_hashed": float(size_bytes)},
            blake3=blake3,
            size_bytes=size_bytes,
            facts=found.facts,
            flaw=Fault(code=flaw.code, error=str(flaw), remedy=flaw.remedy) if (flaw := found.flaw) else None,
        )

    def outcome(self) -> Outcome:
        """With fingerprint, size and facts."""
        return self._outcome


def _zone(job: Job) -> tzinfo:
    name = job.config.get("timezone")
    if name is None:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError) as error:
        raise InvalidParameter(
            "config.timezone", f"{name!r} is no IANA time zone, e.g. Europe/Paris"
        ) from error


def _payload(found: Probe, blake3: str, size_bytes: int) -> VideoMetadataV1:
    facts: FileFacts = found.facts
    place = found.place
    named = _named(place.latitude, place.longitude) if place else None
    return VideoMetadataV1(
        latitude=place.latitude if place else None,
        longitude=place.longitude if place else None,
        altitude=place.altitude if place else None,
        country=named.country if named else None,
        state=named.state if named else None,
        city=named.city if named else None,
        district=named.district if named else None,
        city_distance_km=named.distance_km if named else None,
        duration_ms=facts.duration_ms,
        width=facts.width,
        height=facts.height,
        rotation=facts.rotation if facts.has_video else None,
        is_mirrored=facts.is_mirrored or None,
        frame_rate=facts.frame_rate,
        video_codec=facts.video_codec,
        audio_codec=facts.audio_codec,
        audio_channels=found.audio_channels,
        sample_rate=found.sample_rate,
        bit_rate=facts.bit_rate,
        file_size=size_bytes,
        container=facts.container,
        camera_make=found.camera_make,
        camera_model=found.camera_model,
        captured_at=facts.file_created_at,
        captured_at_source=found.captured_at_source,
        captured_at_precision=None if found.captured_at_precision == "second" else found.captured_at_precision,
        captured_at_offset_min=found.captured_at_offset_min,
        lens=found.lens,
        hdr=found.hdr,
        streams=found.streams,
        blake3=blake3,
    )


def _named(latitude: float, longitude: float) -> NamedPlace | None:
    try:
        return place_at(latitude, longitude)
    except ModelUnavailable:
        return None  # coordinates without names are still worth having
