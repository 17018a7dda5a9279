"""What the API stands on. `eioku.bootstrap` fills it; nothing else in this package constructs an adapter of the log."""

from pathlib import Path

import msgspec

from application.ports import EventLog
from domain.off_peak import OffPeak
from domain.plan import Plans
from infrastructure.media.source_cache import MAX_BYTES, SourceCache

MIB = 1024 * 1024


class ApiServices(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `create_app` needs. The log is the caller's: it is not closed here."""

    log: EventLog
    database_url: str
    data_dir: Path
    """Uploads go to `uploads/`, thumbnails to `thumbnails/`, copies of URL sources to `sources/` below it."""
    media_roots: tuple[str | Path, ...] = ()
    """Folders, or URL prefixes such as `s3://bucket/films/`, from which sources are accepted."""
    hosts: tuple[str, ...] = ()
    """Names of this server beyond those of the loopback; what is asked for under another name is refused."""
    cors_origins: tuple[str, ...] = ()
    """Origins of other sites' pages that may use this API."""
    nats_url: str | None = None
    """Without it there is no live progress; everything else works."""
    max_upload_bytes: int = 64 * 1024 * MIB
    source_cache_bytes: int = MAX_BYTES
    max_body_bytes: int = 32 * MIB
    """Of everything that is no upload."""
    max_clip_ms: int = 10 * 60 * 1000
    deployment: str = "single"
    """Shown by `/health/ready`."""
    off_peak: OffPeak | None = None
    """When work that can wait is done; None = at any time."""
    plans: Plans = Plans()
    """What is done with new videos."""
    followers: tuple[str, ...] = ()
    """Followers of the log that must get on for this API to be ready."""
    read_timeout_s: float = 15.0
    """How long Postgres may work on one statement of a read."""
    read_connections: int = 8
    """Most Postgres connections for reads in this process."""

    @property
    def sources(self) -> SourceCache:
        """Copies of files that lie elsewhere; workers of this machine share them."""
        return SourceCache(folder=self.data_dir / "sources", max_bytes=self.source_cache_bytes)

    @property
    def folders(self) -> tuple[str | Path, ...]:
        """Where files of videos may lie: the roots, uploads, and copies of what lies elsewhere."""
        return (*self.media_roots, self.data_dir / "uploads", self.data_dir / "sources")

    @property
    def pictures(self) -> Path:
        """Thumbnails, posters and sprite sheets; workers leave them there too."""
        return self.data_dir / "thumbnails"
