"""Every example of docs/search-words.md, asked of a real Postgres; and the kinds of inputs that people lost words by."""

import itertools
from operator import itemgetter
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from domain.errors import InvalidParameter
from domain.video import VideoRegistered
from projectors.facets import facets
from projectors.find import FindFilter, find
from projectors.gallery import GalleryFilter, gallery
from projectors.jump import JumpFilter, jump_global
from projectors.videos import list_videos
from projectors.where import parse
from tests.integration.test_timeline_queries import VIDEO, Desk, desk  # noqa: F401 - a fixture
from tests.support.timeline_model import BOX, START

PAGE = Path(__file__).parents[2] / "docs/search-words.md"


def rows(heading: str) -> list[list[str]]:
    """The lines of the first table below a heading."""
    lines = PAGE.read_text(encoding="utf-8").split(f"# {heading}\n", 1)[1].lstrip("\n").splitlines()
    table = []
    for line in lines:
        if not line.startswith("|"):
            break
        table.append([cell.strip(" ") for cell in line.strip("|").split("|")])
    return table[2:]


def everywhere(desk: Desk, query: str, at: int) -> set[bool]:  # noqa: F811
    """What find, jump and gallery say of the text at a time, spoken and shown."""
    said: set[bool] = set()
    for kind in ("transcript", "ocr"):
        asked: dict[str, Any] = {"tenant_id": "default", "direction": "prev"}
        found = desk.run(find(desk.asking, VIDEO, FindFilter(**asked, q=query, source=kind, limit=50))).matches
        jumped = desk.run(jump_global(desk.asking, JumpFilter(**asked, kind=kind, query=query), limit=50)).results
        listed = desk.run(gallery(desk.asking, GalleryFilter(tenant_id="default", kind=kind, query=query, limit=50)))
        assert all("<b>" in match.snippet for match in found), (query, found)
        assert [hit.artifact_id for hit in jumped] == [match.artifact_id for match in found]
        assert [hit.artifact_id for hit in listed.results] == [match.artifact_id for match in found[::-1]]
        assert listed.total == len(found)
        said.add(at in {match.jump_to.start_ms for match in found})
    return said


def test_the_page_has_thirty_languages() -> None:
    assert len({language for language, *_ in rows("Examples")} - {"–"}) >= 30


def test_every_example_of_a_text_is_as_the_page_says(desk: Desk) -> None:  # noqa: F811
    wrong = []
    for language, examples in itertools.groupby(rows("Examples"), key=itemgetter(0)):
        tag = None if language == "–" else language
        asked = [example[1:] for example in examples]
        payloads = [{"text": text} | ({"language": tag} if tag else {}) for text, _, _ in asked]
        desk.store("transcript.segment", list(enumerate(payloads)))
        seen = {"confidence": 0.9, "polygon": [[0, 0], [1, 0], [1, 1]]}
        desk.store("ocr.text", [(at, payload | seen) for at, payload in enumerate(payloads)])
        for at, (text, query, found) in enumerate(asked):
            if (said := everywhere(desk, query, at)) != {found == "yes"}:
                wrong.append((language, text, query, found, said))
    assert not wrong, "\n".join(map(str, wrong))


def test_every_example_of_a_file_name_is_as_the_page_says(desk: Desk) -> None:  # noqa: F811
    wrong = []
    for name, query, found in rows("Names of files"):
        video_id = uuid4()
        desk._apply(
            VideoRegistered(**desk._head(video_id), source=f"/{name}", filename=name, file_created_at=START)
        )
        listed = desk.run(list_videos(desk.asking, tenant_id="default", filename=query))
        where = parse(f'filename~"{query}"')
        by_rerun = desk.run(desk.asking.execute(f"SELECT v.video_id FROM videos v WHERE {where.sql}", where.values))
        answers = {
            video_id in {video.video_id for video in listed.videos},
            video_id in {row[0] for row in desk.run(by_rerun.fetchall())},
        }
        if answers != {found == "yes"}:
            wrong.append((name, query, found, answers))
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.parametrize("prefix", ["Do", "do", "DO", "ｄｏ"])
def test_labels_are_listed_by_their_beginning_in_any_case_and_asked_for_exactly(desk: Desk, prefix: str) -> None:  # noqa: F811
    labels = ("Dog", "dog", "Dog", "cat", "DOG")
    desk.store(
        "object.detection",
        [(at, {"label": label, "confidence": 0.9, "box": BOX, "frame_index": 0}) for at, label in enumerate(labels)],
    )
    counted = desk.run(facets(desk.asking, "default", "object", prefix=prefix)).facets
    assert {facet.value: facet.count for facet in counted} == {"Dog": 2, "dog": 1, "DOG": 1}
    listed = desk.run(gallery(desk.asking, GalleryFilter(tenant_id="default", kind="object", label="Dog")))
    assert [hit.start_ms for hit in listed.results] == [0, 2]


@pytest.mark.parametrize(
    ("asked", "count"),
    [("münchen", 1), ("MUNCHEN", 1), ("Mun", 1), ("bayern", 1), ("İstanbul", 1), ("istanbul", 1), ("lodz", 1), ("Lodż", 0), ("n\nB", 0)],
)
def test_places_are_found_by_what_a_keyboard_types(desk: Desk, asked: str, count: int) -> None:  # noqa: F811
    for n, (country, state, city) in enumerate(
        [("Deutschland", "Bayern", "Mu\u0308nchen"), ("Türkiye", "İSTANBUL", "Kadıköy"), ("Polska", None, "Łódź")]
    ):
        video_id = uuid4()
        desk._apply(VideoRegistered(**desk._head(video_id), source=f"/{n}", filename=f"{n}", file_created_at=START))
        desk.store("video.metadata", [(0, {"country": country, "state": state, "city": city})], video_id)
    asked_for = JumpFilter(tenant_id="default", kind="location", direction="next", query=asked)
    assert len(desk.run(jump_global(desk.asking, asked_for, limit=5)).results) == count


def test_values_of_locations_are_listed_by_their_beginning(desk: Desk) -> None:  # noqa: F811
    desk.store("video.metadata", [(0, {"country": "Österreich", "state": "Oberösterreich", "city": "Linz"})])
    for prefix, values in (("oster", ["Österreich"]), ("ÖSTER", ["Österreich"]), ("o", ["Oberösterreich", "Österreich"]), ("ö", ["Österreich"]), ("z", [])):
        shown = desk.run(facets(desk.asking, "default", "location", prefix=prefix)).facets
        assert [facet.value for facet in shown] == values, prefix


def test_snippets_mark_the_text_as_it_was_written(desk: Desk) -> None:  # noqa: F811
    cases = [
        ("tr", "GÜZEL İSTANBUL'DA", "istanbul", "GÜZEL <b>İSTANBUL</b>'DA"),
        ("de", "die Straße & ﬁnal", "strasse", "die <b>Straße</b> &amp; ﬁnal"),
        ("en", "the ﬁnal oﬃce", "final", "the <b>ﬁnal</b> oﬃce"),
        ("ja", "東の東京タワー、東京", "東京", "東の<b>東京</b>タワー、<b>東京</b>"),
        ("ko", "\u1112\u1161\u11ab\u1100\u116e\u11a8에서", "한국", "<b>\u1112\u1161\u11ab\u1100\u116e\u11a8</b>에서"),
        ("th", "รักประเทศไทยมาก", "ประเทศไทย", "รัก<b>ประเทศไทย</b>มาก"),
        ("en", "½ cup of cafe\u0301", "cafe 1", "<b>½</b> cup of <b>cafe\u0301</b>"),
        ("en", "co\u00adoperation", "cooperation", "<b>co\u00adoperation</b>"),
        ("fr", "l’ÉTÉ des étés", "été", "l’<b>ÉTÉ</b> des <b>été</b>s"),
        ("da", "Ærøskøbing!", "aeroskobing", "<b>Ærøskøbing</b>!"),
        ("en", "don’t", "don't", "<b>don’t</b>"),
        ("de", "Zurich, Zürich, Häuser, Haus", "zürich häuser", "Zurich, <b>Zürich</b>, <b>Häuser</b>, <b>Haus</b>"),
        ("en", "Who is THÉRE", "the", "Who is <b>THÉ</b>RE"),
    ]
    for language, text, query, shown in cases:
        desk.store("transcript.segment", [(0, {"text": text, "language": language})])
        assert desk.snippets(query) == [shown]


@pytest.mark.parametrize("query", ["\u200b", "\u00ad\u200d", "\ufeff ", "\u0640"])
def test_a_query_of_nothing_that_can_be_seen_finds_nothing(desk: Desk, query: str) -> None:  # noqa: F811
    desk.say("anything", "a\u200bb")
    assert desk.seconds(query) == []
    assert desk.run(list_videos(desk.asking, tenant_id="default", filename=query)).videos == []
    with pytest.raises(InvalidParameter) as refused:
        desk.snippets(" \u3000")
    assert refused.value.parameter == "q"


def test_long_texts_of_one_script_are_found_at_their_end(desk: Desk) -> None:  # noqa: F811
    desk.say("の" * 20_000 + "東京", language="ja")
    assert desk.seconds("の東京") == [0]
    desk.say("กา" * 20_000 + "ไทย", language="th")
    assert desk.seconds("กาไทย") == [0]
    desk.say("Zurich " * 20_000 + "Zürich", language="de")
    assert desk.seconds("zürich") == [0]
    desk.say("Zürich " * 300 + "Zurich", language="de")
    assert desk.seconds("zürich") == [0]


def test_marks_without_end_are_read_in_no_time_and_change_nothing(desk: Desk) -> None:  # noqa: F811
    desk.say("a" + "\u0301\u0316" * 49_000 + " zalgo")
    assert desk.seconds("zalgo") == [0]
    assert desk.seconds("a") in ([], [0])
