"""What searches find, and how they show it."""

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from application.ports import Recorded
from domain.artifacts.envelope import BatchHead, Item, pack
from domain.errors import ConflictingFilters, InvalidParameter
from domain.run import RunCompleted, RunStarted
from domain.video import VideoRegistered
from projectors import PROJECTIONS
from projectors.facets import facets
from projectors.find import FindFilter, find
from projectors.gallery import GalleryFilter, gallery
from projectors.jump import JumpFilter, jump_global
from projectors.transcript import segments
from tests.support.timeline_model import BOX, READ, START

VIDEO = UUID(int=0xA001)


class Desk:
    """One video in one database, and questions about it."""

    def __init__(self, database: str, runner: asyncio.Runner) -> None:
        options = "-c search_path=read"
        self.run = runner.run
        self.writing = psycopg.connect(database, autocommit=True, options=options)
        self.asking = self.run(psycopg.AsyncConnection.connect(database, autocommit=True, options=options))
        self._position = 0
        given = {"source": "/a.mp4", "filename": "Beach 100%.mp4", "file_created_at": START}
        self._apply(VideoRegistered(**self._head(VIDEO), **given))

    def close(self) -> None:
        self.writing.close()
        self.run(self.asking.close())

    def say(self, *texts: str, language: str | None = "en", kind: str = "transcript.segment") -> None:
        """Store texts, a second each, as a run of their own."""
        found = []
        for n, text in enumerate(texts):
            payload: dict[str, Any] = {"text": text, "language": language}
            found.append((n * 1000, payload if language else {"text": text}))
        self.store(kind, found)

    def store(self, kind: str, found: list[tuple[int, dict[str, Any]]], video_id: UUID = VIDEO) -> None:
        """Store payloads with their starts as a completed run."""
        run_id = uuid4()
        common = {"task_id": run_id, "video_id": video_id}
        started = RunStarted(
            **self._head(run_id), **common, task_type="import", producer="p", producer_version="1",
            profile="balanced", config={}, config_hash="", input_hash="", attempt=1, worker="w", device="cpu",
            created_at=START, artifact_types=(kind,),
        )  # fmt: skip
        head = BatchHead(
            run_id=run_id, video_id=video_id, tenant_id="default", artifact_type=kind, schema_version=1, producer="p",
            producer_version="1", model_profile="balanced", config_hash="", input_hash="", created_at=START,
            actor="api", correlation_id=run_id,
        )  # fmt: skip
        items = [Item(artifact_id=uuid4(), start_ms=at, end_ms=at, payload=payload) for at, payload in found]
        self._apply(started)
        self._apply(pack(head, 1, items))
        self._apply(RunCompleted(**self._head(run_id, 2), **common, counts={kind: len(items)}, metrics={}))

    def found(self, q: str, **more: Any) -> list[tuple[str, int]]:
        """(source, second) of each match, by find, which must agree with the gallery."""
        page = self.run(
            find(self.asking, VIDEO, FindFilter(tenant_id="default", q=q, direction="next", **more))
        )
        listed = self.run(
            gallery(self.asking, GalleryFilter(tenant_id="default", kind="transcript", query=q))
        )
        spoken = [match.jump_to.start_ms for match in page.matches if match.source == "transcript"]
        assert spoken == [hit.start_ms for hit in listed.results]
        return [(match.source, match.jump_to.start_ms // 1000) for match in page.matches]

    def seconds(self, q: str) -> list[int]:
        """The seconds at which the transcript matches."""
        return [second for _, second in self.found(q)]

    def snippets(self, q: str) -> list[str]:
        """How the matches are shown."""
        asked = FindFilter(tenant_id="default", q=q, direction="next")
        return [match.snippet for match in self.run(find(self.asking, VIDEO, asked)).matches]

    def _head(self, stream: UUID, version: int = 1) -> dict[str, Any]:
        return {
            "originator_id": stream, "originator_version": version, "recorded_at": START, "tenant_id": "default",
            "actor": "api", "correlation_id": stream,
        }  # fmt: skip

    def _apply(self, item: Any) -> None:
        self._position += getattr(item, "count", 1)
        record = Recorded(position=self._position, item=item)
        for projection in PROJECTIONS:
            if projection.name in READ and projection.wants(record):
                with self.writing.transaction():
                    projection().apply(self.writing, [record])


@pytest.fixture
def desk(database: str) -> Iterator[Desk]:
    with asyncio.Runner() as runner:
        desk = Desk(database, runner)
        yield desk
        desk.close()


def test_words_are_stemmed_by_the_language_of_the_segment(desk: Desk) -> None:
    desk.say("two cats", "die Häuser am Fluss", language="en")
    assert desk.seconds("cat") == [0]
    assert desk.seconds("Haus") == []
    desk.say("two cats", "die Häuser am Fluss", language="de-AT")
    assert desk.seconds("Haus") == [1]
    desk.say("two cats", language=None)
    assert desk.seconds("cat") == []


def test_a_part_of_an_address_is_a_word(desk: Desk) -> None:
    desk.say("mail email@example.com now", "see https://example.org/path", "well-known")
    assert desk.seconds("email") == [0]
    assert desk.seconds("EXAMPLE") == [0, 1]
    assert desk.seconds("known") == [2]


@pytest.mark.parametrize(
    "q", ["a | b", "!cat", "cat:*", "(", "cat & dog", "'", '"', "\\", "<->", "a\tb", "'; DROP"]
)
def test_no_character_is_an_operator(desk: Desk, q: str) -> None:
    desk.say("the cat sat", "dog and catalogue")
    assert set(desk.seconds(q)) <= {0}


def test_signs_are_matched_as_they_stand(desk: Desk) -> None:
    desk.say("100% sure", "100 sure", "a_b", "ab", "back\\slash")
    assert desk.seconds("%") == [0]
    assert desk.seconds("_") == [2]
    assert desk.seconds("\\") == [4]


def test_stop_words_alone_are_matched_as_letters_in_any_case(desk: Desk) -> None:
    desk.say("Who is THERE", "nobody", "don't", "ÉTÉ")
    assert desk.seconds("the") == [0]
    assert desk.seconds("don't") == [2]
    desk.say("ÉTÉ comme hiver", language="fr")
    assert desk.seconds("été") == [0]


def test_each_language_decides_for_itself_what_is_a_word(desk: Desk) -> None:
    desk.say("the other thing", "nothing", language="en")
    desk.say("the tea", "other", language=None, kind="ocr.text")
    assert desk.found("the") == [("transcript", 0), ("ocr", 0)]


def test_scripts_without_blanks_are_found_by_their_characters(desk: Desk) -> None:
    desk.say("今日は東京に行きます", "大阪です", language="ja")
    assert desk.seconds("東京") == [0]


def test_letters_match_however_they_are_composed(desk: Desk) -> None:
    desk.say("cafe\u0301 noir", language=None)
    assert desk.seconds("caf\u00e9") == [0]


def test_words_that_were_read_as_one_are_found_by_its_parts_together(desk: Desk) -> None:
    seen = ("CHAPTERONE", "CHAPTER ONE", "CHAPTER TWO", "CHAPTERONE THE END", "Chapters, ones")
    desk.store(
        "ocr.text",
        [
            (n * 1000, {"text": text, "language": "en", "confidence": 0.9, "polygon": [[0, 0], [1, 0], [1, 1]]})
            for n, text in enumerate(seen)
        ],
    )
    desk.say("chapterone", "chapter one")
    assert desk.found("chapter one", limit=20) == [("ocr", 0), ("transcript", 1), ("ocr", 1), ("ocr", 3), ("ocr", 4)]
    assert desk.found("chapterone") == [("transcript", 0), ("ocr", 0), ("ocr", 3)]
    asked = FindFilter(tenant_id="default", q="chapter one", direction="next", source="ocr")
    shown = [match.snippet for match in desk.run(find(desk.asking, VIDEO, asked)).matches]
    assert shown[:2] == ["<b>CHAPTERONE</b>", "<b>CHAPTER</b> <b>ONE</b>"]
    for filters in ({}, {"min_confidence": 0.5}):
        listed = desk.run(
            gallery(desk.asking, GalleryFilter(tenant_id="default", kind="ocr", query="chapter one", **filters))
        )
        assert (listed.total, [hit.start_ms for hit in listed.results]) == (4, [0, 1000, 3000, 4000])
        listed = desk.run(
            gallery(desk.asking, GalleryFilter(tenant_id="default", kind="ocr", query="the chapters", **filters))
        )
        assert (listed.total, [hit.start_ms for hit in listed.results]) == (3, [1000, 2000, 4000])
    jumps = JumpFilter(tenant_id="default", kind="ocr", direction="next", query="chapter one")
    results = desk.run(jump_global(desk.asking, jumps, limit=50)).results
    assert [hit.jump_to.start_ms for hit in results] == [0, 1000, 3000, 4000]


def test_snippets_are_html_with_the_hits_in_bold(desk: Desk) -> None:
    desk.say("the <b>bold</b> & the brave", "Email: email@example.com", "日本の家")
    assert desk.snippets("BRAVE bold") == ["the &lt;b&gt;<b>bold</b>&lt;/b&gt; &amp; the <b>brave</b>"]
    assert desk.snippets("email") == ["<b>Email</b>: <b>email</b>@example.com"]
    assert desk.snippets("&") == ["the &lt;b&gt;bold&lt;/b&gt; <b>&amp;</b> the brave"]
    assert desk.snippets("家") == ["日本の<b>家</b>"]


def test_nul_characters_are_refused_in_questions_and_dropped_from_answers(desk: Desk) -> None:
    desk.say("nul\0byte")
    assert desk.snippets("nulbyte") == ["<b>nulbyte</b>"]
    for filters in ({"kind": "object", "label": "a\0"}, {"kind": "transcript", "query": "a\0"}):
        with pytest.raises(InvalidParameter):
            desk.run(jump_global(desk.asking, JumpFilter(tenant_id="default", direction="next", **filters)))


@pytest.mark.parametrize(
    "cursor", ["", "not-a-cursor", "é", "WzEsInRpbWVsaW5lIixbXV0", "WzEsImZpbmQiLFswLCJvY3IiXV0", "A" * 5000]
)
def test_a_garbled_cursor_is_named(desk: Desk, cursor: str) -> None:
    asked = JumpFilter(tenant_id="default", kind="object", direction="next", cursor=cursor)
    with pytest.raises(InvalidParameter) as refused:
        desk.run(jump_global(desk.asking, asked))
    assert refused.value.parameter == "cursor"


@pytest.mark.parametrize(
    ("filters", "parameter"),
    [
        ({"kind": "zzz"}, "kind"),
        ({"direction": "up"}, "direction"),
        ({"kind": "ocr"}, "query"),
        ({"from_ms": 5}, "from_ms"),
    ],
)
def test_a_senseless_jump_names_its_parameter(desk: Desk, filters: dict[str, Any], parameter: str) -> None:
    asked = JumpFilter(**{"tenant_id": "default", "kind": "object", "direction": "next"} | filters)
    with pytest.raises(InvalidParameter) as refused:
        desk.run(jump_global(desk.asking, asked))
    assert refused.value.parameter == parameter


def test_label_and_query_exclude_each_other(desk: Desk) -> None:
    asked = JumpFilter(tenant_id="default", kind="object", direction="next", label="a", query="b")
    with pytest.raises(ConflictingFilters):
        desk.run(jump_global(desk.asking, asked))


def test_a_box_may_cross_the_180th_meridian(desk: Desk) -> None:
    desk.store("video.metadata", [(0, {"latitude": -17.0, "longitude": 179.5, "country": "Fiji"})])
    for west, east, count in ((170.0, -170.0, 1), (-170.0, 170.0, 0), (-179.0, -170.0, 0), (170.0, 180.0, 1)):
        asked = JumpFilter(tenant_id="default", kind="location", direction="next", min_lon=west, max_lon=east)
        assert len(desk.run(jump_global(desk.asking, asked)).results) == count


def test_a_video_without_a_place_is_no_hit(desk: Desk) -> None:
    desk.store("video.metadata", [(0, {"duration_ms": 5})])
    asked = JumpFilter(tenant_id="default", kind="location", direction="next")
    assert desk.run(jump_global(desk.asking, asked)).results == []


def test_facets_count_hits_and_videos(desk: Desk) -> None:
    seen = [(at, {"label": label, "confidence": 0.9, "box": BOX, "frame_index": 0}) for at, label in
            ((0, "dog"), (1, "Dog_2"), (1, "dog"), (2, "cat"))]  # fmt: skip
    desk.store("object.detection", seen)
    shown = desk.run(facets(desk.asking, "default", "object")).facets
    assert [(f.value, f.count, f.video_count) for f in shown] == [
        ("dog", 2, 1),
        ("Dog_2", 1, 1),
        ("cat", 1, 1),
    ]
    assert [f.value for f in desk.run(facets(desk.asking, "default", "object", prefix="DO")).facets] == [
        "dog",
        "Dog_2",
    ]
    assert [f.value for f in desk.run(facets(desk.asking, "default", "object", prefix="dog_")).facets] == [
        "Dog_2"
    ]


def test_the_gallery_finds_part_of_a_file_name_as_it_stands(desk: Desk) -> None:
    desk.say("hello")
    for filename, total in (("BEACH", 1), ("100%", 1), ("1%", 0), ("_", 0)):
        asked = GalleryFilter(tenant_id="default", kind="transcript", filename=filename)
        assert desk.run(gallery(desk.asking, asked)).total == total


def test_the_transcript_comes_in_order(desk: Desk) -> None:
    desk.say("one", "two", "three")
    assert [s.text for s in desk.run(segments(desk.asking, "default", VIDEO))] == ["one", "two", "three"]
    assert desk.run(segments(desk.asking, "default", VIDEO, language="de")) == []
