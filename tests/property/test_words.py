"""Words: one form for what is one to a reader, and searching in SQL says what plain Python says, in many scripts."""

import asyncio
import unicodedata
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.words import bare, fold, folded, is_accent
from projectors.find import FindFilter, find
from projectors.gallery import GalleryFilter, gallery
from projectors.jump import JumpFilter, jump_global
from tests.integration.test_timeline_queries import VIDEO, Desk

DENSE = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR")
"""How the names of characters begin whose scripts have no blanks between words, or particles."""
PIECES = (
    "cafe", "café", "cafe\u0301", "CAFÉ", "ﬁn", "fin", "İz", "ız", "iz", "IZ", "straße", "STRASSE", "ærø", "aero",
    "lodz", "Łódź", "d", "đ", "don", "t", "'", "’", "ʻ", "-", " ", " ", " ", ".", "\u200b", "\u00ad", "24", "２４", "①",
    "東", "京", "東京", "が", "か", "ｶﾞ", "タワー", "한국", "한", "국", unicodedata.normalize("NFD", "한국"), "에서",
    "ไทย", "ประเทศ", "ก", "กี่", "ลาว", "កម្ពុជា", "កម្ពុ", "မြန်မာ", "မာ", "שלום", "שָׁלוֹם", "محمد", "مُحَمَّد", "محمـد",
    "कलम", "क़लम", "कि", "αθηνα", "Αθήνα", "ΣΑΣ", "σας", "ёлка", "елка", "й", "и", "%", "&", "@", "½", "m²",
)  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join)
ANY = st.text(
    st.characters(codec="utf-8")
    | st.characters(min_codepoint=0x300, max_codepoint=0x3FF)
    | st.characters(min_codepoint=0x1100, max_codepoint=0x11FF)
    | st.sampled_from("ıİi\u0307\u200d\u00adﾊﾟ\u3099e"),
    max_size=12,
)


@given(ANY)
def test_folding_is_the_same_for_all_spellings_and_changes_nothing_twice(text: str) -> None:
    form = fold(text)
    assert fold(form) == form
    assert bare(bare(form)) == bare(form)
    assert fold(bare(form)) == bare(form)
    for spelling in ("NFC", "NFD"):
        assert fold(unicodedata.normalize(spelling, text)) == form


@given(ANY)
def test_every_piece_of_a_folded_text_knows_its_place(text: str) -> None:
    found = folded(text)
    assert found.text == fold(text)
    last = 0
    for at in range(len(found.text)):
        begin, end = found.span(at, at + 1)
        assert last <= begin < end <= len(text)
        last = begin
        assert found.text[at] in fold(text[begin:end])


def test_folding_is_stable_for_every_character_there_is() -> None:
    for char in map(chr, [*range(0xD800), *range(0xE000, 0x110000)]):
        form = fold(char)
        assert fold(form) == form
        assert bare(bare(form)) == bare(form)


@pytest.mark.parametrize("char", "\u0301\u0308\u0327\u05b8\u064e\u0651\u0654\u093c\u0345")
def test_marks_that_may_be_left_out(char: str) -> None:
    assert is_accent(char)


@pytest.mark.parametrize("char", "\u093f\u094d\u0902\u3099\u0e34\u0e48\u1037\u0ec8\u17d2\u0f72a1")
def test_marks_that_may_not(char: str) -> None:
    assert not is_accent(char)


# ---- what the SQL should say --------------------------------------------------------------------------------------


def _is_sign(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] not in "LNM" or category == "Me"


def _parts(text: str) -> tuple[list[str], list[str]]:
    """(words, stretches of dense scripts) of a folded text."""
    words, dense, previous = [], [], None
    for char in text:
        kind = None if _is_sign(char) else unicodedata.name(char, "").startswith(DENSE)
        if kind is not None:
            into = dense if kind else words
            if kind == previous:
                into[-1] += char
            else:
                into.append(char)
        previous = kind
    return words, dense


def matches(text: str, query: str) -> bool:
    """The rule of docs/search-words.md, for a text without a language."""
    text, query = fold(text), fold(query).strip()
    words, stretches = _parts(query)
    said, together = _parts(text)
    if not words and not stretches:
        return query in text
    for word in words:
        if not any(word == one or word == bare(one) for one in said):
            return False
    return all(any(stretch in one for one in together) for stretch in stretches)


@pytest.fixture
def desk(database: str) -> Iterator[Desk]:
    with asyncio.Runner() as runner:
        desk = Desk(database, runner)
        yield desk
        desk.close()


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(texts=st.lists(TEXTS, min_size=1, max_size=12), queries=st.lists(TEXTS, min_size=1, max_size=6))
def test_find_jump_and_gallery_say_what_the_rule_says(desk: Desk, texts: list[str], queries: list[str]) -> None:
    desk.say(*texts, language=None)
    for query in queries:
        if not fold(query).strip():
            continue
        wanted = [at * 1000 for at, text in enumerate(texts) if matches(text, query)]
        asked: dict[str, Any] = {"tenant_id": "default", "kind": "transcript", "query": query}
        found = desk.run(find(desk.asking, VIDEO, FindFilter(tenant_id="default", q=query, direction="next", limit=50)))
        assert [match.jump_to.start_ms for match in found.matches] == wanted, query
        assert all("<b>" in match.snippet for match in found.matches), query
        jumped = desk.run(jump_global(desk.asking, JumpFilter(**asked, direction="prev"), limit=50))
        assert [hit.jump_to.start_ms for hit in jumped.results] == wanted[::-1]
        listed = desk.run(gallery(desk.asking, GalleryFilter(**asked, limit=50)))
        assert ([hit.start_ms for hit in listed.results], listed.total) == (wanted, len(wanted))
