"""How a folded text is cut into what the full-text index holds.

A word is what stands between signs. Scripts written without blanks, and Korean with its particles, are cut into grams
that overlap: what stands together there is a word to somebody.
"""

import re
import unicodedata

from domain.words import bare

_SINGLE = (
    "\u1100-\u11ff\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua48f\ua960-\ua97f\uac00-\ud7fb\uf900-\ufaff"
    "\U0001aff0-\U0001b16f\U00020000-\U0003ffff"
)
"""Han, kana, bopomofo, Hangul, Yi: thousands of characters, so one tells enough."""
_PAIR = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u1b00-\u1b7f\ua980-\ua9ff\uaa60-\uaadf"
)
"""Thai, Lao, Burmese, Khmer and their neighbours: few characters, and most of them in every sentence."""
RUNS = re.compile(f"([{_SINGLE}]+)|([{_PAIR}]+)")
"""Stretches that are cut into grams; the group that matched is the length of a gram."""
BETWEEN_GRAMS = "  "
"""Two blanks between grams that stand together; those of different stretches have three."""


class _Parted(dict[int, str]):
    """Code point → itself when it belongs to a word, else a blank."""

    def __missing__(self, code: int) -> str:
        category = unicodedata.category(chr(code))
        self[code] = piece = chr(code) if category[0] in "LN" or category in ("Mn", "Mc") else " "
        return piece


_PARTED = _Parted()


def parted(folded: str) -> str:
    """A folded text with blanks in the place of signs; as long as before."""
    return folded.translate(_PARTED)


def grams(run: str, size: int) -> list[str]:
    """The grams of a stretch: `size` characters from each one on, fewer at its end."""
    return [run[at : at + size] for at in range(len(run))]


def words_of(folded: str) -> tuple[str, str]:
    """(words and grams without accents, those words that have accents as they are), parted by blanks."""
    exact = parted(folded)
    if exact.isascii():
        return exact, ""
    plain = bare(exact)
    accented = ""
    if plain != exact:
        accented = " ".join(word for word in RUNS.sub(" ", exact).split() if is_accented(word))
    return RUNS.sub(_grams, plain), accented


def is_accented(word: str) -> bool:
    """Whether a folded word has accents, and not only accents."""
    return bare(word) not in ("", word)


def _grams(run: re.Match[str]) -> str:
    return f" {BETWEEN_GRAMS.join(grams(run[0], run.lastindex or 1))} "
