"""A text that is asked for, as SQL compares it with texts and with names."""

import re
from functools import cache, lru_cache
from typing import NamedTuple

from domain.errors import InvalidParameter
from domain.words import ACCENTS, bare, fold, letters_with_accents
from projectors.cut import BETWEEN_GRAMS, RUNS, grams, is_accented, parted, words_of
from projectors.text import exact, like_pattern

_ACCENTED = ":B"
"""The weight of words that have accents, see `text_projection`."""


class Query(NamedTuple):
    """A query in the form that texts are compared in; see docs/search-words.md."""

    folded: str
    words: tuple[str, ...]
    runs: tuple[tuple[str, int], ...]
    """Stretches that must stand together, and the size of their grams."""

    @property
    def together(self) -> list[str]:
        """What must stand together, as LIKE patterns over `words`."""
        cut = (_grams_of(run, size) for run, size in self.runs)
        return [f"%{BETWEEN_GRAMS.join(found)}%" for found in cut if len(found) > 1]

    @property
    def parameters(self) -> dict[str, object]:
        """Parameters of `hits.configured`, `hits.matching` and `contains`."""
        return _parameters(self)

    @property
    def pattern(self) -> str:
        """A regular expression, for Postgres and Python alike, for folded texts that contain the query."""
        pieces, done, exact_words = [], 0, parted(self.folded)
        for word in re.finditer("[^ ]+", exact_words):
            pieces.append(re.escape(self.folded[done : word.start()]))
            pieces.append(re.escape(word[0]) if is_accented(word[0]) else _with_or_without_accents(word[0]))
            done = word.end()
        return "".join(pieces) + re.escape(self.folded[done:])

    @property
    def contains(self) -> str:
        """SQL: whether text `o` contains the query as it stands, for queries without a word for the index.

        The words are looked at first: that refutes nearly all texts. A text in ASCII has no `folded`.
        """
        if not self.folded:
            return "false"  # nothing that can be seen was asked for
        if not self.words and not self.runs:
            return "coalesce(o.folded, o.text) LIKE %(like_text)s"
        is_cut_alike = all(size == 1 for _, size in self.runs)
        return ("o.words LIKE %(like_words)s AND " if is_cut_alike else "") + (
            'CASE WHEN o.folded IS NULL THEN lower(o.text COLLATE "C") LIKE %(like_text)s'
            " ELSE o.folded ~ %(pattern)s END"
        )

    def name_parameters(self, prefix: str) -> dict[str, object]:
        """Parameters of `names`."""
        return {f"{prefix}_bare": bare(self.folded), f"{prefix}_pattern": self.pattern}

    def names(self, bare_column: str, folded_column: str, prefix: str) -> str:
        """SQL: whether a name contains the query. Accents are looked at only where the query has some."""
        if not self.folded:
            return "false"
        condition = f"strpos({bare_column}, %({prefix}_bare)s) > 0"
        if bare(self.folded) == self.folded:
            return condition
        return f"({condition} AND {folded_column} ~ %({prefix}_pattern)s)"


def query_of(parameter: str, text: str) -> Query:
    """The query.

    Raises:
        InvalidParameter: it is blank or holds a NUL character.
    """
    if not exact(parameter, text).strip():
        raise InvalidParameter(parameter, "may not be blank")
    folded = fold(text).strip()
    words = parted(folded)
    return Query(
        folded,
        tuple(RUNS.sub(" ", words).split()),
        tuple((run[0], run.lastindex or 1) for run in RUNS.finditer(bare(words))),
    )


@lru_cache(maxsize=64)
def _parameters(query: Query) -> dict[str, object]:
    """Made once: whoever presses "next" asks the same again. 64 of the longest queries take 12 MB."""
    cut = [gram for run, size in query.runs for gram in _grams_of(run, size)]
    # A gram that is shorter than its script's begins longer ones.
    short = [run for run, size in query.runs if len(run) < size]
    accented = [word for word in query.words if is_accented(word)]
    unaccented = [word for word in query.words if bare(word) == word] + cut
    joined = "".join(query.words) if len(query.words) > 1 and not query.runs else ""
    joined_term = "" if not joined else _quoted(joined, _ACCENTED if is_accented(joined) else "")
    together = query.together
    terms = [_quoted(word) for word in unaccented] + [_quoted(run, ":*") for run in short]
    return {
        "query": " & ".join(terms + [_quoted(word) for word in accented]),
        "accented_query": " & ".join(_quoted(word) for word in accented),
        "weighted_query": " & ".join(_quoted(word, _ACCENTED) for word in accented),
        "joined": joined_term or None,
        "unaccented": " ".join(unaccented),
        "accented": " ".join(accented),
        "left_out": [bare(word) for word in accented],
        "is_counted": not short and not together,
        "together": together,
        "like_words": like_pattern(words_of(query.folded)[0]),
        "like_text": like_pattern(query.folded),
        "pattern": query.pattern,
    }


def _grams_of(run: str, size: int) -> list[str]:
    return grams(run, size)[: len(run) - size + 1]


def _quoted(word: str, suffix: str = "") -> str:
    """A term of `to_tsquery`; words hold neither quotes nor backslashes."""
    return f"'{word}'{suffix}"


def _with_or_without_accents(word: str) -> str:
    pieces, at = [], 0
    while at < len(word):
        two = word[at : at + 2]
        if spelled := _variants().get(two) if len(two) > 1 else "":
            pieces.append(f"(?:{_one(two[0])}{_one(two[1])}|[{spelled}]{ACCENTS}*)")
            at += 2
        else:
            pieces.append(_one(word[at]))
            at += 1
    return "".join(pieces)


def _one(char: str) -> str:
    variants = _variants().get(char)
    return (f"[{char}{variants}]" if variants else re.escape(char)) + f"{ACCENTS}*"


@cache
def _variants() -> dict[str, str]:
    """Letters without accents → the characters that are these with accents."""
    found: dict[str, str] = {}
    for char in letters_with_accents():
        found[bare(char)] = found.get(bare(char), "") + char
    return found
