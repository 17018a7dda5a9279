"""The where-language of re-runs: which videos, by what a task type has made of them. Parsed by hand to bound SQL.

    condition = all { "or" all } ;  all = one { "and" one } ;  one = "not" one | "(" condition ")" | test
    test      = "missing" | "outdated" | a task status
              | field operator value | "captured" "between" date "and" date

What a test says of a run it says of the newest completed one of the task type; where there is none it is false.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from difflib import get_close_matches
from typing import Any, NamedTuple, NoReturn

from domain.errors import InvalidParameter
from domain.pipeline import PROFILE_NAMES
from domain.task import STATUSES
from domain.words import composed, fold
from projectors.query import query_of

MOST_CHARACTERS = 2_000
MOST_DEPTH = 50
_TOKEN = re.compile(r"""\s*(?:(?P<quoted>"[^"]*"|'[^']*')|(?P<sign><=|>=|!=|<>|[<>=~()])|(?P<word>[^\s<>=~()!"']+))""")
_COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")
_EQUALITY = ("=", "!=")
_TEXT = ("=", "!=", "~")
_COLUMNS = {
    "producer": "run.producer",
    "version": "run.producer_version",
    "model": "run.model->>'name'",
    "digest": "run.model->>'digest'",
    "language": "run.language",
    "collection": "v.collection",
    "filename": "v.filename_folded",
}
_PRESENT = {
    "producer": "present.producer",
    "version": "present.producer_version",
    "model": "present.model->>'name'",
    "digest": "present.model->>'digest'",
}
_RANK = "CASE run.profile " + " ".join(f"WHEN '{name}' THEN {n}" for n, name in enumerate(PROFILE_NAMES)) + " END"
_OUTDATED = (
    "(run.producer, run.producer_version, run.model->>'digest')"
    " IS DISTINCT FROM (present.producer, present.producer_version, present.model->>'digest')"
)
_WORDS: dict[str, str] = {
    "missing": "run.run_id IS NULL",
    "outdated": f"run.run_id IS NOT NULL AND present.producer IS NOT NULL AND {_OUTDATED}",
} | {str(status): f"task.status = '{status}'" for status in STATUSES}
_FIELDS = ("profile", "captured", *_COLUMNS)
_KNOWN = (*_WORDS, *_FIELDS, "not")


class Where(NamedTuple):
    """A condition over `v` (videos), `run`, `task` and `present`, and the values that are bound in it."""

    sql: str
    values: dict[str, Any]


class _Token(NamedTuple):
    text: str
    at: int
    is_quoted: bool = False


def parse(text: str) -> Where:
    """The condition in SQL; an empty one is every video.

    Raises:
        InvalidParameter: names `where` and points at the word.
    """
    if len(text) > MOST_CHARACTERS:
        raise InvalidParameter("where", f"has more than {MOST_CHARACTERS} characters")
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text, self._tokens, self._next, self._depth = text, list(_tokens(text)), 0, 0
        self._values: dict[str, Any] = {}

    def whole(self) -> Where:
        if not self._tokens:
            return Where("true", {})
        sql = self._any()
        if (token := self._peek()) is not None:
            self._refuse(token, "expected and, or, or the end")
        return Where(sql, self._values)

    def _any(self) -> str:
        return self._joined("or", self._all)

    def _all(self) -> str:
        return self._joined("and", self._one)

    def _joined(self, word: str, part: Callable[[], str]) -> str:
        parts = [part()]
        while self._takes(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else "(" + f" {word.upper()} ".join(parts) + ")"

    def _one(self) -> str:
        token = self._take("a test such as missing or profile<balanced")
        self._depth += 1
        if self._depth > MOST_DEPTH:
            self._refuse(token, f"is nested deeper than {MOST_DEPTH}")
        try:
            word = "" if token.is_quoted else token.text.lower()
            if word == "not":
                return f"NOT {self._one()}"
            if word == "(":
                inner = self._any()
                if not self._takes(")"):
                    self._refuse(self._peek(), f"expected ) for the ( at character {token.at + 1}")
                return f"({inner})"
            return f"coalesce({self._test(token, word)}, false)"
        finally:
            self._depth -= 1

    def _test(self, token: _Token, word: str) -> str:
        if word in _WORDS:
            return _WORDS[word]
        if word not in _FIELDS:
            near = get_close_matches(word, _KNOWN, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(_KNOWN)}"
            self._refuse(token, f"there is no test of that name; {hint}")
        if word == "captured" and self._takes("between"):
            low = self._date(self._take("a date"))[0]
            if not self._takes("and"):
                self._refuse(self._peek(), "expected and, and the second date")
            high = self._date(self._take("a date"))[1]
            return f"v.captured_at >= {self._bind(low)} AND v.captured_at < {self._bind(high)}"
        if word == "captured":
            return self._captured(self._sign(("<", "<=", ">", ">=")), self._take("a date"))
        if word == "profile":
            sign, value = self._sign(_COMPARISONS), self._take(f"one of {', '.join(PROFILE_NAMES)}")
            if value.text not in PROFILE_NAMES:
                self._refuse(value, f"is none of {', '.join(PROFILE_NAMES)}")
            return f"{_RANK} {sign} {PROFILE_NAMES.index(value.text)}"
        sign, value = self._sign(_EQUALITY if word == "language" else _TEXT), self._take("a value")
        return self._compared(word, sign, value)

    def _compared(self, field: str, sign: str, value: _Token) -> str:
        column = _COLUMNS[field]
        if value.text == "present" and not value.is_quoted and field in _PRESENT and sign in _EQUALITY:
            is_same = "IS NOT DISTINCT FROM" if sign == "=" else "IS DISTINCT FROM"
            return f"run.run_id IS NOT NULL AND present.producer IS NOT NULL AND {column} {is_same} {_PRESENT[field]}"
        if field == "filename" and sign == "~":
            name, prefix = query_of("where", value.text), f"where_{len(self._values)}"
            self._values |= name.name_parameters(prefix)
            return name.names("v.filename_bare", "v.filename_folded", prefix)
        if sign == "~":
            return f"strpos(lower({column}), {self._bind(composed(value.text).lower())}) > 0"
        return f"{column} {sign} {self._bind(fold(value.text) if field == 'filename' else composed(value.text))}"

    def _captured(self, sign: str, token: _Token) -> str:
        first, after = self._date(token)
        match sign:
            case "<" | ">=":
                return f"v.captured_at {sign} {self._bind(first)} AND v.captured_at < 'infinity'"
            case "<=":
                return f"v.captured_at < {self._bind(after)}"
            case _:
                return f"v.captured_at >= {self._bind(after)} AND v.captured_at < 'infinity'"

    def _date(self, token: _Token) -> tuple[datetime, datetime]:
        """The first moment of a day or the moment itself, and the first one after it. UTC where nothing is said."""
        try:
            if len(token.text) == len("2024-05-01"):
                day = datetime.combine(date.fromisoformat(token.text), time(), UTC)
                return day, day + timedelta(days=1)
            at = datetime.fromisoformat(token.text)
            at = at if at.tzinfo else at.replace(tzinfo=UTC)
            return at, at + timedelta(microseconds=1)
        except (ValueError, OverflowError):
            self._refuse(token, "is no date such as 2024-05-01 or 2024-05-01T12:00Z")

    def _sign(self, allowed: tuple[str, ...]) -> str:
        token = self._take(f"one of {' '.join(allowed)}")
        if token.is_quoted or token.text.replace("<>", "!=") not in allowed:
            self._refuse(token, f"expected one of {' '.join(allowed)}")
        return token.text.replace("<>", "!=")

    def _bind(self, value: Any) -> str:
        name = f"where_{len(self._values)}"
        self._values[name] = value
        return f"%({name})s"

    def _peek(self) -> _Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _take(self, expected: str) -> _Token:
        token = self._peek()
        if token is None:
            self._refuse(None, f"expected {expected}")
        self._next += 1
        return token

    def _takes(self, word: str) -> bool:
        token = self._peek()
        if token is None or token.is_quoted or token.text.lower() != word:
            return False
        self._next += 1
        return True

    def _refuse(self, token: _Token | None, why: str) -> NoReturn:
        if token is None:
            raise InvalidParameter("where", f"it ends too early: {why}")
        raise InvalidParameter("where", f"{token.text!r} at character {token.at + 1}: {why}")


def _tokens(text: str) -> list[_Token]:
    found, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            place = at + len(text[at:]) - len(text[at:].lstrip())
            raise InvalidParameter("where", f"{text[place]!r} at character {place + 1} begins nothing that is known")
        kind = str(match.lastgroup)
        word = match[kind]
        quoted = kind == "quoted"
        found.append(_Token(word[1:-1] if quoted else word, match.start(kind), quoted))
        at = match.end()
    return found
