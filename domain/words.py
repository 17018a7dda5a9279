"""How written words are compared everywhere: texts, queries, labels, file and place names.

`fold` gives one form to what is one word to a reader (NFKC, full case folding, no invisible characters, one apostrophe);
`bare` leaves the accents out as well. docs/search-words.md tells both with examples.
"""

import itertools
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

_APOSTROPHES = (
    "`\u00b4\u02b9\u02bb\u02bc\u02bd\u02be\u02bf\u02c8\u055a\u05f3\u07f4\u07f5\u2018\u2019\u201b\u2032\ua78b\ua78c\uff07"
)
"""What people and keyboards put for an apostrophe, the Hawaiian okina and the Hebrew geresh included."""
_INVISIBLE = "\u034f\u0640\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0"
"""Fillers, and the Arabic tatweel, which only stretches a word; beside all of category Cf and the variation selectors."""
_VARIATIONS = (range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0))
_DOT_ABOVE = "\u0307"
_MOST_MARKS = 30
"""On one letter of a long text, as in Unicode's stream-safe texts: to order them takes the square of their number."""
_LONG = 250
"""Characters from which a text is looked through for more marks than that."""

_LETTERS_OF_THEIR_OWN = "йўїѓќ"
"""Cyrillic letters that Unicode writes as a letter with a mark, and no keyboard or reader does."""
_SPELLED_OUT = {"æ": "ae", "œ": "oe", "ð": "d", "þ": "th", "ŋ": "n", "ə": "e", "ɛ": "e", "ɔ": "o"}
_LATIN_WITH = re.compile("LATIN SMALL LETTER ([A-Z]) WITH ")
_ACCENT_BLOCKS = (
    range(0x0300, 0x0900),  # Latin, Greek and Cyrillic marks, Hebrew points, Arabic and Syriac vowels, N'Ko tones
    range(0x0951, 0x0955),
    range(0x1AB0, 0x1B00),
    range(0x1DC0, 0x1E00),
    range(0x20D0, 0x2100),
    range(0xFB1E, 0xFB1F),
    range(0xFE20, 0xFE30),
)


class _Visible(dict[int, str]):
    """Code point → what stays of it: nothing of the invisible, a blank for what breaks or controls lines."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        category = unicodedata.category(char)
        if code == 0 or char in _INVISIBLE or category == "Cf" or any(code in block for block in _VARIATIONS):
            piece = ""
        elif char in _APOSTROPHES:
            piece = "'"
        elif category in ("Cc", "Zl", "Zp"):
            piece = " "
        else:
            piece = char
        self[code] = piece
        return piece


class _Bare(dict[int, str]):
    """Code point of a folded text → the same without its accents."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        self[code] = piece = "" if is_accent(char) else _bare_letter(char)
        return piece


_VISIBLE = _Visible()
_BARE = _Bare()
_MARKS = "".join(char for char in map(chr, range(0x20000)) if unicodedata.combining(char)) + "\uff9e\uff9f"
_TOO_MANY_MARKS = re.compile(f"([{_MARKS}]{{{_MOST_MARKS}}})[{_MARKS}]+")


def composed(text: str) -> str:
    """Text with one form for each letter (NFC), without NUL, which Postgres cannot hold."""
    if text.isascii():
        return text.replace("\0", "")
    return unicodedata.normalize("NFC", text).replace("\0", "")


def fold(text: str) -> str:
    """The form in which texts are compared. Folding it again changes nothing."""
    if text.isascii():
        return text.lower().translate(_VISIBLE)
    return _fold(text, is_long=len(text) > _LONG)


def _fold(text: str, *, is_long: bool) -> str:
    text = text.translate(_VISIBLE)
    if is_long:
        text = _TOO_MANY_MARKS.sub(r"\1", text)
    text = unicodedata.normalize("NFKC", text).casefold()
    text = unicodedata.normalize("NFKC", text).translate(_VISIBLE)
    # İ and ı are i to whoever searches: Turkish and others write the same names with different ones.
    return unicodedata.normalize("NFKC", text.replace("ı", "i").replace("i" + _DOT_ABOVE, "i"))


def bare(folded: str) -> str:
    """A folded text without accents."""
    return folded if folded.isascii() else folded.translate(_BARE)


def is_accent(char: str) -> bool:
    """Whether a mark is an accent: it may be left out by who searches. Vowel signs and the marks of kana are none."""
    kind = unicodedata.combining(char)
    if kind == 7:  # noqa: PLR2004 - the class of Indic nuktas, and of a Burmese tone
        return "NUKTA" in unicodedata.name(char, "")
    return kind > 0 and any(ord(char) in block for block in _ACCENT_BLOCKS)


def _bare_letter(char: str) -> str:
    if char in _LETTERS_OF_THEIR_OWN:
        return char
    pieces = unicodedata.normalize("NFD", char)
    base, marks = pieces[0], pieces[1:]
    if marks:
        is_letter = unicodedata.category(base).startswith("L")
        return _bare_letter(base) if is_letter and all(map(is_accent, marks)) else char
    if char in _SPELLED_OUT:
        return _SPELLED_OUT[char]
    stroked = _LATIN_WITH.match(unicodedata.name(char, ""))
    return stroked[1].lower() if stroked else char


class Folded(NamedTuple):
    """A folded text that knows where its characters come from."""

    text: str
    at: Sequence[int]
    """Index in `text` at which each group of characters of the original begins, rising."""
    original: Sequence[int]
    """Where these groups begin in the original, and last its length."""

    def span(self, begin: int, end: int) -> tuple[int, int]:
        """The stretch of the original that `text[begin:end]` comes from; `end` is greater than `begin`."""
        first, last = bisect_right(self.at, begin) - 1, bisect_right(self.at, end - 1) - 1
        return self.original[first], self.original[last + 1]


def folded(text: str) -> Folded:
    """`fold(text)`, and where each piece of it comes from."""
    if text.isascii() and "\0" not in text:
        return Folded(fold(text), range(len(text)), range(len(text) + 1))
    begins = [i for i, char in enumerate(text) if i == 0 or not _joins(char)]
    begins.append(len(text))
    is_long = len(text) > _LONG
    pieces = [
        _short(text[begin]) if end == begin + 1 else _fold(text[begin:end], is_long=is_long)
        for begin, end in itertools.pairwise(begins)
    ]
    at, length = [], 0
    for piece in pieces:
        at.append(length)
        length += len(piece)
    return Folded("".join(pieces), at, begins)


@lru_cache(maxsize=4096)
def _short(char: str) -> str:
    return _fold(char, is_long=False)


@lru_cache(maxsize=4096)
def _joins(char: str) -> bool:
    """Whether a character may become one with what stands before it: marks, Hangul vowels and finals, the invisible."""
    if char.isascii():
        return False
    first = unicodedata.normalize("NFKD", char)[0]
    return (
        _VISIBLE[ord(char)] == ""
        or unicodedata.category(first).startswith("M")
        or "\u1160" <= first <= "\u11ff"
    )


def _ranges(chars: str) -> str:
    """Characters in rising order as the inside of a bracket expression."""
    found: list[list[str]] = []
    for char in chars:
        if found and ord(char) == ord(found[-1][1]) + 1:
            found[-1][1] = char
        else:
            found.append([char, char])
    return "".join(first if first == last else f"{first}-{last}" for first, last in found)


ACCENTS = f"[{_ranges(''.join(filter(is_accent, map(chr, range(0x20000)))))}]"
"""A bracket expression of all accents, for regular expressions of Python and of Postgres."""


def letters_with_accents() -> list[str]:
    """All single letters that `bare` changes, in the form in which folded texts have them."""
    return [
        char
        for char in map(chr, range(0x80, 0xFB50))
        if unicodedata.category(char) in ("Ll", "Lo") and fold(char) == char and bare(char) != char
    ]
