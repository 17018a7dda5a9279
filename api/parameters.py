"""What each route takes: its methods, the parameters of its query, which of them are whole numbers.

Known from the handlers' signatures, so that a parameter that nobody reads is refused instead of passed over in silence.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from litestar.params import PathParameter, QueryParameter
from litestar.routes import BaseRoute, HTTPRoute
from litestar.types import HTTPScope

from domain.errors import InvalidParameter

EVERY_READ = frozenset({"min_position", "wait_ms"})
ANY_FIELD = "any_field"
"""Option of a handler: it takes every query parameter that begins with this."""
_WHOLE = re.compile(r"-?[0-9]+")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")
_MOST = 1_000


class Taken(NamedTuple):
    """What one method of one route takes."""

    query: frozenset[str]
    whole: frozenset[str]
    """Those of the query and the path that are whole numbers."""
    dates: frozenset[str]
    any_field: str | None


class Parameters:
    """All routes of an application."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self._taken: dict[tuple[str, str], Taken] = {}
        self._allowed: dict[str, str] = {}
        for route in routes:
            if isinstance(route, HTTPRoute):
                methods = {str(method) for method in route.methods}
                self._allowed[route.path_format] = ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))
                for method, (handler, _) in route.route_handler_map.items():
                    self._taken[route.path_format, str(method)] = _taken(str(method), handler)

    def allowed(self, scope: HTTPScope) -> str:
        """The methods of a route, as the header Allow names them."""
        return self._allowed[scope["path_template"]]

    def check(self, scope: HTTPScope) -> dict[str, str]:
        """The query, if it has nothing but what the route takes, each once.

        Raises:
            InvalidParameter: names what is unknown, comes twice, or is no whole number.
        """
        taken = self._taken[scope["path_template"], scope["method"]]
        query = _query(scope["query_string"], taken) if scope["query_string"] else {}
        for name in taken.whole:
            # 1e3 and 1.0 would be read as numbers.
            value = query.get(name) or str(scope["path_params"].get(name, "0"))
            if not _WHOLE.fullmatch(value):
                raise InvalidParameter(name, "Expected `int`, a whole number in digits")
        for name in taken.dates & query.keys():
            # The decoder would take a number for seconds since 1970.
            if not _DATE.match(query[name]):
                raise InvalidParameter(name, "Expected RFC 3339 with an offset, such as 2025-07-01T10:00:00Z")
        return query


def _query(text: bytes, taken: Taken) -> dict[str, str]:
    try:
        pairs = parse_qsl(text.decode("latin-1"), keep_blank_values=True, max_num_fields=_MOST)
    except ValueError as error:
        raise InvalidParameter("query", f"has more than {_MOST} parameters") from error
    query: dict[str, str] = {}
    for name, value in pairs:
        if "\0" in name or "\0" in value:
            raise InvalidParameter(name.replace("\0", ""), "text may not hold NUL characters")
        if name not in taken.query and not (taken.any_field and name.startswith(taken.any_field)):
            known = ", ".join(sorted(taken.query)) or "no parameters"
            raise InvalidParameter(name[:100], f"is not known here; this address takes {known}")
        if name in query:
            raise InvalidParameter(name, "comes more than once")
        query[name] = value
    return query


def _taken(method: str, handler: Any) -> Taken:
    query: set[str] = set(EVERY_READ) if method == "GET" else set()
    whole: set[str] = set()
    dates: set[str] = set()
    for argument, field in handler.parsed_fn_signature.parameters.items():
        kind = field.kwarg_definition
        if isinstance(kind, PathParameter | QueryParameter):
            name = kind.name or argument
            if isinstance(kind, QueryParameter):
                query.add(name)
            kinds: Sequence[Any] = (field.annotation, *field.args)
            if int in kinds:
                whole.add(name)
            if datetime in kinds:
                dates.add(name)
    return Taken(frozenset(query), frozenset(whole), frozenset(dates), handler.opt.get(ANY_FIELD))
