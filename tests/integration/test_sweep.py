"""Pictures go with the last video that shows their content."""

from uuid import UUID, uuid4

import pytest

from application.handle import handle
from domain.errors import PositionNotReached
from domain.event import Meta
from domain.video import DeleteVideo, RecordFingerprint, RegisterVideo
from eioku.sweep import KINDS, sweep
from infrastructure.event_store.log import PostgresEventLog
from infrastructure.media.pictures import Pictures
from projectors.videos import Videos
from tests.support.following import following, reached
from tests.support.given import AT

OLD, NEW = "a" * 64, "b" * 64


class Library:
    def __init__(self, log, database, root):
        self.log, self.database, self.root = log, database, root

    def order(self, kind, video_id, tenant_id="default", **fields):
        meta = Meta(at=AT, tenant_id=tenant_id, actor="user:test", correlation_id=uuid4())
        handle(self.log, kind(stream_id=video_id, meta=meta, **fields))

    def video(self, blake3, tenant_id="default") -> UUID:
        video_id = uuid4()
        self.order(RegisterVideo, video_id, tenant_id, source=f"/films/{video_id}.mp4", filename="a.mp4")
        self.order(RecordFingerprint, video_id, tenant_id, blake3=blake3, size_bytes=1)
        folder = Pictures(self.root, blake3).folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "0.webp").write_bytes(b"picture")
        return video_id

    def swept(self) -> set[str]:
        """Whose pictures are there when everything was looked at; looking again changes nothing."""
        with following(self.database, [Videos]):
            reached(self.database, self.log.head(), [Videos])
        for record in self.log.read(0, kinds=KINDS) * 2:
            sweep(self.log, self.database, self.root, record)
        return {blake3 for blake3 in (OLD, NEW) if Pictures(self.root, blake3).thumbnail(0).exists()}


@pytest.fixture
def library(database, tmp_path):
    with PostgresEventLog(database) as log:
        yield Library(log, database, tmp_path)


def test_pictures_go_with_the_last_video_that_shows_them(library):
    first, copy, foreign = library.video(OLD), library.video(OLD), library.video(OLD, "other")
    assert library.swept() == {OLD}
    for video_id, tenant_id in ((first, "default"), (copy, "default")):
        library.order(DeleteVideo, video_id, tenant_id)
        assert library.swept() == {OLD}
    library.order(DeleteVideo, foreign, "other")
    assert library.swept() == set()


def test_pictures_of_what_a_file_was_before_go_too(library):
    video_id = library.video(OLD)
    library.video(NEW)
    library.order(RecordFingerprint, video_id, blake3=NEW, size_bytes=2)
    assert library.swept() == {NEW}


def test_nothing_is_removed_as_long_as_the_videos_are_not_known(library):
    library.order(DeleteVideo, library.video(OLD))
    (*_, deleted) = library.log.read(0, kinds=KINDS)
    with pytest.raises(PositionNotReached):
        sweep(library.log, library.database, library.root, deleted)
    assert Pictures(library.root, OLD).thumbnail(0).exists()
