"""What the read model `videos` knows, made from the log: for tests of rules that need no database."""

from collections.abc import Iterator, Sequence

from application.handle import present
from application.ports import EventLog, KnownVideo
from domain import video
from domain.scan import ScanRequested
from domain.video import VideoRegistered


class MemoryVideos:
    """`application.ports.VideoIndex` that knows the whole log."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def position(self) -> int:
        return self._log.head()

    def at(self, tenant_id: str, sources: Sequence[str]) -> Sequence[KnownVideo]:
        return [one for one in self._known(tenant_id) if one.source in sources]

    def of_sizes(self, tenant_id: str, sizes: Sequence[int]) -> Sequence[KnownVideo]:
        return [one for one in self._known(tenant_id) if one.size_bytes in sizes]

    def under(self, tenant_id: str, folder: str) -> Iterator[KnownVideo]:
        for one in list(self._known(tenant_id)):
            if one.source.startswith(folder.rstrip("/") + "/") and not (one.is_missing or one.is_deleted):
                yield one

    def scan_roots(self, tenant_id: str) -> Sequence[str]:
        asked = [record.item for record in self._log.read(0, limit=10**9, kinds=[ScanRequested.TOPIC])]
        roots = [e.root for e in asked if isinstance(e, ScanRequested) and e.tenant_id == tenant_id]
        return list(dict.fromkeys(reversed(roots)))

    def _known(self, tenant_id: str) -> Iterator[KnownVideo]:
        asked = self._log.read(0, limit=10**9, kinds=[VideoRegistered.TOPIC])
        for video_id in dict.fromkeys(r.item.originator_id for r in asked if isinstance(r.item, VideoRegistered)):
            state = present(self._log, video, video_id)
            if state.tenant_id == tenant_id and state.merged_into is None:
                yield KnownVideo(
                    video_id=video_id, source=state.source, size_bytes=state.size_bytes, mtime_ms=state.mtime_ms,
                    blake3=state.blake3, is_missing=state.is_missing, is_deleted=state.is_deleted,
                )  # fmt: skip
