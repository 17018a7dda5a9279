"""Parameters that several routes take, and how dates and text are checked."""

from datetime import UTC, datetime
from typing import Annotated

from litestar.params import PathParameter, QueryParameter
from msgspec import Meta

from domain.artifacts import LATEST
from domain.errors import InvalidParameter
from domain.pipeline import BY_NAME
from domain.selection import MODES

MOST_MS = 2**31 - 1

Date = Annotated[datetime, Meta(tz=True, description="RFC 3339 with an offset.")]
Name = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")]
Cursor = Annotated[
    str | None,
    QueryParameter(
        description="Go on behind the hit that carried this cursor.", min_length=1, max_length=1_000
    ),
]
Millis = Annotated[int | None, QueryParameter(ge=0, description="Milliseconds of the media's own clock.")]
Profile = Annotated[
    str | None,
    QueryParameter(
        description="Results of this profile; alone it means `selection=profile`.", max_length=200
    ),
]
Selection = Annotated[
    str | None,
    QueryParameter(description="Whose results count. Beats the stored policy.", schema_extra={"enum": [*MODES]}),
]
_TYPE = {"enum": sorted(LATEST)}
TypeInQuery = Annotated[str, QueryParameter(description="Artifact type.", schema_extra=_TYPE)]
TypeInPath = Annotated[str, PathParameter(description="Artifact type.", schema_extra=_TYPE)]
TaskType = Annotated[str, Meta(extra_json_schema={"enum": [*BY_NAME]})]
NOT_BLANK = {"pattern": r"\S"}
"""For the description; `filled` sees to it."""


def utc(parameter: str, at: datetime | None) -> datetime | None:
    """The same moment in UTC; raises InvalidParameter without an offset, or outside the years 1 to 9999."""
    if at is None:
        return None
    if at.tzinfo is None:
        raise InvalidParameter(parameter, "needs an offset, such as Z")
    try:
        return at.astimezone(UTC)
    except OverflowError as error:
        raise InvalidParameter(parameter, "is outside the years 1 to 9999") from error


def clamped(ms: int | None) -> int | None:
    """A position that the tables can compare: beyond the longest media is the end."""
    return None if ms is None else min(ms, MOST_MS)


def filled(parameter: str, text: str | None) -> str | None:
    """`text`, which may be absent but not blank."""
    if text is not None and not text.strip():
        raise InvalidParameter(parameter, "may not be blank")
    return text


def known_type(parameter: str, name: str) -> None:
    """Raises InvalidParameter unless `name` is an artifact type; in a body or path it would be SchemaNotFound."""
    if name not in LATEST:
        raise InvalidParameter(parameter, f"{name!r} is none of {', '.join(LATEST)}")
