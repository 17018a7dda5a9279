"""How hits are shown: the text as HTML, what matches in `<b>`."""

import re
from collections.abc import Iterable, Iterator
from html import escape

from domain.words import Folded, bare, folded
from projectors.cut import RUNS, grams, is_accented, parted
from projectors.query import Query

START, STOP = "\x01", "\x02"
"""Marks around hit words in what `ts_headline` returns; control characters are in no word."""


def snippet(text: str, query: Query | None, marked_words: str | None, marked_accents: str | None) -> str:
    """`text` as HTML with `<b>` around the hits; there are none without a query.

    `marked_words`, `marked_accents`: what `words_of` made of the text, with START and STOP around hits; `marked_words` is
    None when the query was matched as a substring.
    """
    if query is None or not text:
        return escape(text, quote=False)
    source = folded(text)
    if marked_words is None:
        spans = [match.span() for match in re.finditer(query.pattern, source.text)]
    else:
        spans = [*_words(source.text, query, marked_words, marked_accents or ""), *_runs(source.text, query)]
    return _bold(text, source, spans)


def _words(
    text: str, query: Query, marked_words: str, marked_accents: str
) -> Iterator[tuple[int, int]]:
    """The words that `ts_headline` marked, in either of their forms, but those whose accents are only left out."""
    left_out = {bare(word) for word in query.words if is_accented(word)} - set(query.words)
    words, accents = iter(marked_words.split()), iter(marked_accents.split())
    exact = parted(text)
    if exact.isascii():
        for part, marked in zip(re.finditer("[^ ]+", exact), words, strict=False):
            if START in marked and part[0] not in left_out:
                yield part.span()
        return
    for part in re.finditer("[^ ]+", exact):
        at = part.start()
        for run in (*RUNS.finditer(part[0]), None):
            end = part.end() if run is None else part.start() + run.start()
            word = exact[at:end]
            if bare(word):
                is_hit = START in next(words, "") and word not in left_out
                if is_accented(word) and START in next(accents, ""):
                    is_hit = True
                if is_hit:
                    yield at, end
            if run is not None:
                for _ in grams(bare(run[0]), run.lastindex or 1):
                    next(words, "")
                at = part.start() + run.end()


def _runs(text: str, query: Query) -> Iterator[tuple[int, int]]:
    """Where the characters of the query stand together."""
    for run, _ in query.runs:
        yield from (match.span() for match in re.finditer(re.escape(run), text))


def _bold(text: str, source: Folded, spans: Iterable[tuple[int, int]]) -> str:
    parts, done = [], 0
    for begin, end in _merged(source.span(begin, end) for begin, end in spans if begin < end):
        parts += [escape(text[done:begin], quote=False), "<b>", escape(text[begin:end], quote=False), "</b>"]
        done = end
    return "".join(parts) + escape(text[done:], quote=False)


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """In order; those that overlap are one."""
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if merged and begin < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged
