"""Stream video: a file that somebody wants indexed."""

from collections.abc import Sequence
from datetime import datetime
from typing import assert_never
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec

from domain.errors import IdTaken, VideoNotFound
from domain.event import Command, DomainEvent, head


def video_id_of(tenant_id: str, source: str) -> UUID:
    """The id of the first video at a place: the same file made known twice is the same video."""
    return uuid5(NAMESPACE_URL, f"eioku:{tenant_id}:{source}")


def later_id_of(tenant_id: str, source: str, *file: int | None) -> UUID:
    """The id of a video at a place whose first video moved away; `file` tells its files apart: size, time, a number."""
    return uuid5(NAMESPACE_URL, f"eioku:{tenant_id}:{source}\0{file}")


class FileFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the container says. Sizes in pixels as displayed (pixel shape and rotation applied)."""

    duration_ms: int
    container: str
    has_video: bool
    has_audio: bool
    width: int | None = None
    height: int | None = None
    rotation: int = 0
    """Clockwise degrees that were applied: 0, 90, 180, 270."""
    is_mirrored: bool = False
    """Left and right changed places before that."""
    frame_rate: float | None = None
    video_codec: str | None = None
    audio_codec: str | None = None
    bit_rate: int | None = None
    file_created_at: datetime | None = None
    """Capture time, UTC; None when the file does not say."""


# ---- events ------------------------------------------------------------------------------------------------------


class VideoEvent(DomainEvent, frozen=True, kw_only=True):
    """Base of the stream's events."""


class VideoRegistered(VideoEvent, frozen=True, kw_only=True):
    """A video was made known. The file has not been opened yet."""

    TOPIC = "video.registered"
    source: str
    """Absolute path or URL."""
    filename: str
    file_created_at: datetime | None = None
    """Given by the client; overrides what the container says."""
    collection: str | None = None
    pipeline: tuple[str, ...] | None = None
    """Task types to run; None = the default pipeline, empty = none."""
    size_bytes: int | None = None
    mtime_ms: int | None = None
    inode: int | None = None
    """The file's number on its file system, which a renamed file keeps."""


class VideoChanged(VideoEvent, frozen=True, kw_only=True):
    """The file's size or modification time is not what it was; its content is read again."""

    TOPIC = "video.changed"
    size_bytes: int
    mtime_ms: int
    inode: int | None = None


class VideoFingerprinted(VideoEvent, frozen=True, kw_only=True):
    """The content was hashed."""

    TOPIC = "video.fingerprinted"
    blake3: str
    """Hex, 64 characters."""
    size_bytes: int


class VideoProbed(VideoEvent, frozen=True, kw_only=True):
    """The container was read."""

    TOPIC = "video.probed"
    facts: FileFacts


class VideoDuplicateFound(VideoEvent, frozen=True, kw_only=True):
    """Another video of the tenant has the same bytes; its tasks are not run again."""

    TOPIC = "video.duplicate_found"
    duplicate_of: UUID


class VideoPromoted(VideoEvent, frozen=True, kw_only=True):
    """The video that it was a duplicate of is gone or has changed: it is analysed itself."""

    TOPIC = "video.promoted"


class VideoRelocated(VideoEvent, frozen=True, kw_only=True):
    """The same content now lies elsewhere."""

    TOPIC = "video.relocated"
    source: str
    size_bytes: int | None = None
    mtime_ms: int | None = None
    inode: int | None = None


class VideoMissing(VideoEvent, frozen=True, kw_only=True):
    """The file is not where it was. Nothing that was found in it is lost."""

    TOPIC = "video.missing"


class VideoRestored(VideoEvent, frozen=True, kw_only=True):
    """A missing file is back."""

    TOPIC = "video.restored"


class VideoDeleted(VideoEvent, frozen=True, kw_only=True):
    """Somebody removed the video from the library; the file itself is never touched."""

    TOPIC = "video.deleted"
    merged_into: UUID | None = None
    """Nobody removed it: its file was found to be that of this video."""


EVENTS: tuple[type[VideoEvent], ...] = (
    VideoRegistered,
    VideoChanged,
    VideoFingerprinted,
    VideoProbed,
    VideoDuplicateFound,
    VideoPromoted,
    VideoRelocated,
    VideoMissing,
    VideoRestored,
    VideoDeleted,
)


# ---- commands ----------------------------------------------------------------------------------------------------


class RegisterVideo(Command, frozen=True, kw_only=True):
    """Make a video known. The same again changes nothing."""

    source: str
    filename: str
    file_created_at: datetime | None = None
    collection: str | None = None
    pipeline: tuple[str, ...] | None = None
    size_bytes: int | None = None
    mtime_ms: int | None = None
    inode: int | None = None


class NoticeFile(Command, frozen=True, kw_only=True):
    """A scan saw the file at this size and time: changed, restored, or nothing new."""

    size_bytes: int
    mtime_ms: int
    inode: int | None = None


class RecordFingerprint(Command, frozen=True, kw_only=True):
    """Note the content hash."""

    blake3: str
    size_bytes: int


class RecordProbe(Command, frozen=True, kw_only=True):
    """Note what the container says."""

    facts: FileFacts


class MarkDuplicate(Command, frozen=True, kw_only=True):
    """Note that another video has the same content."""

    duplicate_of: UUID


class PromoteVideo(Command, frozen=True, kw_only=True):
    """Note that it is no duplicate any more."""


class RelocateVideo(Command, frozen=True, kw_only=True):
    """The content moved. That of a deleted video too: it stays deleted where it lies now."""

    source: str
    size_bytes: int | None = None
    mtime_ms: int | None = None
    inode: int | None = None


class MarkMissing(Command, frozen=True, kw_only=True):
    """The file is gone from its place."""


class DeleteVideo(Command, frozen=True, kw_only=True):
    """Remove the video from the library."""

    merged_into: UUID | None = None


VideoCommand = (
    RegisterVideo
    | NoticeFile
    | RecordFingerprint
    | RecordProbe
    | MarkDuplicate
    | PromoteVideo
    | RelocateVideo
    | MarkMissing
    | DeleteVideo
)


# ---- state -------------------------------------------------------------------------------------------------------


class Video(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules need to know of a video."""

    version: int
    tenant_id: str
    source: str
    filename: str
    file_created_at: datetime | None
    collection: str | None
    pipeline: tuple[str, ...] | None
    size_bytes: int | None
    mtime_ms: int | None
    inode: int | None = None
    content: int
    """Version of the event that brought the present content; a changed file is analysed anew under its own number."""
    blake3: str | None = None
    facts: FileFacts | None = None
    duplicate_of: UUID | None = None
    is_missing: bool = False
    is_deleted: bool = False
    merged_into: UUID | None = None


def filename_after_move(filename: str, source: str, moved_to: str) -> str:
    """What a video is called after its file moved: its file's name, unless it was given one of its own."""
    return _name(moved_to) if filename == _name(source) else filename


def _name(source: str) -> str:
    return source.rpartition("/")[2]


def evolve(state: Video | None, event: VideoEvent) -> Video:
    """The state after `event`."""
    if isinstance(event, VideoRegistered):
        return Video(
            version=event.originator_version,
            tenant_id=event.tenant_id,
            source=event.source,
            filename=event.filename,
            file_created_at=event.file_created_at,
            collection=event.collection,
            pipeline=event.pipeline,
            size_bytes=event.size_bytes,
            mtime_ms=event.mtime_ms,
            inode=event.inode,
            content=event.originator_version,
        )
    if state is None:
        raise VideoNotFound(event.originator_id)
    change = msgspec.structs.replace
    state = change(state, version=event.originator_version)
    match event:
        case VideoChanged():
            return change(
                state,
                size_bytes=event.size_bytes,
                mtime_ms=event.mtime_ms,
                inode=event.inode,
                content=event.originator_version,
                blake3=None,
                facts=None,
                duplicate_of=None,
                is_missing=False,
            )
        case VideoFingerprinted():
            return change(state, blake3=event.blake3, size_bytes=event.size_bytes)
        case VideoProbed():
            return change(state, facts=event.facts)
        case VideoDuplicateFound():
            return change(state, duplicate_of=event.duplicate_of)
        case VideoPromoted():
            return change(state, duplicate_of=None)
        case VideoRelocated():
            return change(
                state,
                source=event.source,
                filename=filename_after_move(state.filename, state.source, event.source),
                size_bytes=event.size_bytes if event.size_bytes is not None else state.size_bytes,
                mtime_ms=event.mtime_ms if event.mtime_ms is not None else state.mtime_ms,
                inode=event.inode,
                is_missing=False,
            )
        case VideoMissing():
            return change(state, is_missing=True)
        case VideoRestored():
            return change(state, is_missing=False)
        case VideoDeleted():
            return change(state, is_deleted=True, merged_into=event.merged_into)
        case _:
            raise TypeError(event)


def decide(state: Video | None, command: VideoCommand) -> Sequence[VideoEvent]:
    """The events that `command` causes; empty when all is as wished already."""
    if isinstance(command, RegisterVideo):
        return _register(state, command)
    if state is None or state.is_deleted or state.tenant_id != command.meta.tenant_id:
        if isinstance(command, DeleteVideo) or state is None or state.tenant_id != command.meta.tenant_id:
            raise VideoNotFound(command.stream_id)
        if not isinstance(command, RelocateVideo):
            return []
    base = head(command, state.version + 1)
    match command:
        case NoticeFile():
            known = (state.size_bytes, state.mtime_ms)
            if known == (command.size_bytes, command.mtime_ms):
                return [VideoRestored(**base)] if state.is_missing else []
            return [
                VideoChanged(
                    **base, size_bytes=command.size_bytes, mtime_ms=command.mtime_ms, inode=command.inode
                )
            ]
        case RecordFingerprint():
            if state.blake3 == command.blake3:
                return []
            return [VideoFingerprinted(**base, blake3=command.blake3, size_bytes=command.size_bytes)]
        case RecordProbe():
            return [] if state.facts == command.facts else [VideoProbed(**base, facts=command.facts)]
        case MarkDuplicate():
            if command.duplicate_of in (state.duplicate_of, command.stream_id):
                return []
            return [VideoDuplicateFound(**base, duplicate_of=command.duplicate_of)]
        case PromoteVideo():
            return [] if state.duplicate_of is None else [VideoPromoted(**base)]
        case RelocateVideo():
            if state.source == command.source:
                return []
            return [
                VideoRelocated(
                    **base,
                    source=command.source,
                    size_bytes=command.size_bytes,
                    mtime_ms=command.mtime_ms,
                    inode=command.inode,
                )
            ]
        case MarkMissing():
            return [] if state.is_missing else [VideoMissing(**base)]
        case DeleteVideo():
            return [VideoDeleted(**base, merged_into=command.merged_into)]
        case _:
            assert_never(command)


def _register(state: Video | None, command: RegisterVideo) -> Sequence[VideoEvent]:
    if state is None or (state.is_deleted and state.tenant_id == command.meta.tenant_id):
        # A deleted video may come back under its id: it starts anew, its history stays.
        return [
            VideoRegistered(
                **head(command, 1 if state is None else state.version + 1),
                source=command.source,
                filename=command.filename,
                file_created_at=command.file_created_at,
                collection=command.collection,
                pipeline=command.pipeline,
                size_bytes=command.size_bytes,
                mtime_ms=command.mtime_ms,
                inode=command.inode,
            )
        ]
    if state.tenant_id == command.meta.tenant_id and state.source == command.source:
        return []
    raise IdTaken(command.stream_id)
