"""Text search: how words are cut, which language rules apply, and how hits are shown.

Words are cut here, not by Postgres: everything that is no letter, digit or mark becomes a blank, on both sides, so
"email" finds "mail email@example.com" and no character of a query is an operator. Postgres then stems by language.
"""

import re
import unicodedata
from html import escape

from domain.errors import InvalidParameter

_CODES = {
    "arabic": "ar ara",
    "armenian": "hy hye arm",
    "basque": "eu eus baq",
    "catalan": "ca cat",
    "danish": "da dan",
    "dutch": "nl nld dut",
    "english": "en eng",
    "finnish": "fi fin",
    "french": "fr fra fre",
    "german": "de deu ger",
    "greek": "el ell gre",
    "hindi": "hi hin",
    "hungarian": "hu hun",
    "indonesian": "id ind",
    "irish": "ga gle",
    "italian": "it ita",
    "lithuanian": "lt lit",
    "nepali": "ne nep",
    "norwegian": "no nor nb nob nn nno",
    "portuguese": "pt por",
    "romanian": "ro ron rum",
    "russian": "ru rus",
    "serbian": "sr srp",
    "spanish": "es spa",
    "swedish": "sv swe",
    "tamil": "ta tam",
    "turkish": "tr tur",
    "yiddish": "yi yid",
}
CONFIGS = (*_CODES, "simple")
"""Text search configurations that every supported Postgres (14 and later) has."""
_CONFIG_OF = {code: config for config, codes in _CODES.items() for code in codes.split()}

START, STOP = "\x01", "\x02"
"""Marks around hit words in what `ts_headline` returns; control characters never survive `words_of`."""


def config_of(language: str | None) -> str:
    """The text search configuration for a BCP 47 tag: by its first part, else `simple`."""
    if language is None:
        return "simple"
    return _CONFIG_OF.get(re.split("[-_]", language, maxsplit=1)[0].lower(), "simple")


_IDEOGRAPHS = (range(0x3040, 0x3100), range(0x3400, 0xA000), range(0xF900, 0xFB00), range(0x20000, 0x40000))
"""Kana and Han characters."""


class _Letters(dict[int, str]):
    """Code point → what it becomes; filled as characters are met."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        if unicodedata.category(char)[0] not in "LNM":
            piece = " "
        elif any(code in block for block in _IDEOGRAPHS):
            piece = (
                f" {char} "  # Scripts without blanks: each character is a word, or nothing would be found.
            )
        else:
            piece = char.lower()
        self[code] = piece
        return piece


_LETTERS = _Letters()


def composed(text: str) -> str:
    """Text with one form for each letter (NFC), without NUL, which Postgres cannot hold."""
    if text.isascii():
        return text.replace("\0", "")
    return unicodedata.normalize("NFC", text).replace("\0", "")


def words_of(text: str) -> str:
    """Composed text as lower-case words and blanks."""
    return text.translate(_LETTERS)


def like_pattern(text: str) -> str:
    """A LIKE pattern for texts that contain `text` as it stands."""
    return "%" + re.sub(r"([\\%_])", r"\\\1", text) + "%"


def search_parameters(query: str) -> dict[str, object]:
    """Parameters of `hits.configured` and of `contains_of`."""
    words = words_of(query)
    several = words.split()
    joined = "".join(several) if len(several) > 1 else ""
    return {"words": words, "joined": joined, "like_words": like_pattern(words), "like_text": like_pattern(query)}


def contains_of(query: str) -> str:
    """SQL: whether text `o` contains the query as it stands, in any case.

    A query of signs alone has no case. Else the words are looked at first: that refutes nearly all, and LIKE is far
    quicker than ILIKE.
    """
    if words_of(query).strip():
        return "o.words LIKE %(like_words)s AND o.text ILIKE %(like_text)s"
    return "o.text LIKE %(like_text)s"


def exact(parameter: str, text: str) -> str:
    """`text` as it is, to be compared with what is stored.

    Raises:
        InvalidParameter: it holds a NUL character, which nothing stored can.
    """
    if "\0" in text:
        raise InvalidParameter(parameter, "may not contain NUL characters")
    return text


def plain(parameter: str, text: str) -> str:
    """Text to search for: composed, without blanks around it; raises InvalidParameter like `exact`."""
    return unicodedata.normalize("NFC", exact(parameter, text)).strip()


def snippet(text: str, marked_words: str | None, query: str | None) -> str:
    """`text` as HTML with `<b>` around the hits; there are none without a query.

    `marked_words`: `words_of(text)` with START and STOP around hits; None when `query` was matched as a substring.
    """
    if query is None:
        return _bold(text, [])
    if marked_words is None:
        return _bold(text, [match.span() for match in re.finditer(re.escape(query), text, re.IGNORECASE)])
    # Each character of the words comes from one of the text; walk both to carry the marks over.
    origin = [i for i, char in enumerate(text) for _ in _LETTERS[ord(char)]]
    spans: list[tuple[int, int]] = []
    at = begin = 0
    for char in marked_words:
        if char == START:
            begin = at
        elif char == STOP:
            spans.append((origin[begin], origin[at - 1] + 1))
        else:
            at += 1
    return _bold(text, spans)


def _bold(text: str, spans: list[tuple[int, int]]) -> str:
    parts, done = [], 0
    for begin, end in spans:
        parts += [escape(text[done:begin], quote=False), "<b>", escape(text[begin:end], quote=False), "</b>"]
        done = end
    return "".join(parts) + escape(text[done:], quote=False)
