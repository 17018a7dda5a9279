"""Errors as RFC 9457 problem documents. The only place that knows HTTP status codes of errors."""

import errno
import os
from collections.abc import Sequence
from typing import Any

import msgspec
import psycopg
import psycopg_pool
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ExceptionHandlersMap

from domain import errors
from domain.errors import EiokuError

log = structlog.get_logger()


class MalformedBody(EiokuError):
    """The body is not what its content type says: no JSON, no UTF-8, a multipart form cut off."""

    code = "MALFORMED_BODY"


class MalformedHead(EiokuError):
    """A request head that HTTP does not allow."""

    code = "MALFORMED_REQUEST"


class HostNotOurs(EiokuError):
    """The request names a host that this server does not answer to."""

    code = "MISDIRECTED_REQUEST"


class Forbidden(EiokuError):
    """Not from there."""

    code = "FORBIDDEN"


class ClientGone(EiokuError):
    """Nobody waits for the answer any more."""

    code = "CLIENT_GONE"


class UnsupportedMediaType(EiokuError):
    """A body of a kind or an encoding that this endpoint does not take."""

    code = "UNSUPPORTED_MEDIA_TYPE"


PROBLEMS: dict[type[EiokuError], tuple[int, str]] = {
    errors.InvalidParameter: (422, "A parameter is not valid"),
    errors.ConflictingFilters: (422, "Filters exclude each other"),
    errors.SchemaNotFound: (422, "Unknown artifact type or version"),
    errors.InvalidArtifact: (422, "An artifact breaks its schema"),
    errors.PathNotAllowed: (422, "The source is outside the allowed roots"),
    errors.VideoNotFound: (404, "No such video"),
    errors.TaskNotFound: (404, "No such task"),
    errors.RunNotFound: (404, "No such run"),
    errors.ArtifactNotFound: (404, "No such artifact"),
    errors.ScanNotFound: (404, "No such discovery"),
    errors.ThumbnailNotFound: (404, "No such thumbnail"),
    errors.NoMatch: (404, "Nothing matches"),
    errors.TaskActive: (409, "The same work is already under way"),
    errors.InvalidState: (409, "The present state does not allow this"),
    errors.IdempotencyMismatch: (409, "The idempotency key was used for another request"),
    errors.ContentMismatch: (409, "The id is taken by other content"),
    errors.IdTaken: (409, "The id is taken by other content"),
    errors.ConcurrencyConflict: (503, "Too many writers at once"),
    errors.IntegrityConflict: (409, "The history holds other content"),
    errors.Undecodable: (500, "A stored event cannot be read"),
    errors.OutOfOrder: (409, "Something before this is missing"),
    errors.InvalidMessage: (422, "A worker's message cannot be taken"),
    errors.MediaMissing: (404, "The file is not there"),
    errors.MediaUnreadable: (422, "The file cannot be decoded"),
    errors.ModelUnavailable: (503, "No model for this here"),
    errors.JobCancelled: (409, "Cancelled"),
    errors.JobTimedOut: (503, "It took too long"),
    errors.WorkerCrashed: (503, "The worker crashed"),
    errors.ModelFailed: (503, "The model cannot do it"),
    errors.ProducerFailed: (503, "The work failed"),
    errors.OutOfMemory: (503, "Not enough memory"),
    errors.StorageFailed: (503, "A file cannot be stored"),
    errors.TooLarge: (413, "Too large"),
    errors.RangeNotSatisfiable: (416, "The range is outside the file"),
    errors.PositionNotReached: (504, "The read models are not there yet"),
    errors.ServiceUnavailable: (503, "Not available now"),
    ClientGone: (499, "The client left"),
    MalformedBody: (400, "The body cannot be read"),
    MalformedHead: (400, "The request cannot be read"),
    HostNotOurs: (421, "This server does not answer to that name"),
    Forbidden: (403, "Forbidden"),
    UnsupportedMediaType: (415, "Unsupported media type"),
}
"""One row for each leaf of the error tree; a test sees to it."""

HTTP_CODES = {
    400: "MALFORMED_BODY",
    401: "UNAUTHENTICATED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: "TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    429: "RATE_LIMITED",
}
"""What the framework itself raises."""


OF_THE_MACHINE = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO,
    errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE,
}  # fmt: skip
"""Errors that an operator ends by giving room or rights."""


class Flaw(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong with a request."""

    detail: str
    parameter: str | None = None
    index: int | None = None


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An error as RFC 9457 shows it."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    """Stable, upper snake case; the thing to branch on."""
    errors: tuple[Flaw, ...] = ()


def problem_body(
    status: int, title: str, detail: str, code: str, *, flaws: Sequence[Flaw] = ()
) -> Problem:
    """What an answer for one error says."""
    urn = f"urn:eioku:problem:{code.lower().replace('_', '-')}"
    return Problem(type=urn, title=title, status=status, detail=detail, code=code, errors=tuple(flaws))


def problem(
    status: int,
    title: str,
    detail: str,
    code: str,
    *,
    flaws: Sequence[Flaw] = (),
    headers: dict[str, str] | None = None,
) -> Response[Problem]:
    """The answer for one error."""
    body = problem_body(status, title, detail, code, flaws=flaws)
    return Response(body, status_code=status, media_type="application/problem+json", headers=headers)


def _own(request: Request[Any, Any, Any], error: EiokuError) -> Response[Problem]:
    if not any(kind in PROBLEMS for kind in type(error).__mro__):
        return _unexpected(request, error)
    return problem_of(error)


def problem_of(error: EiokuError) -> Response[Problem]:
    """The answer for an error of ours that has a row in PROBLEMS."""
    status, title = next(PROBLEMS[kind] for kind in type(error).__mro__ if kind in PROBLEMS)
    flaws: list[Flaw] = []
    headers: dict[str, str] = {}
    match error:
        case errors.InvalidParameter():
            flaws.append(Flaw(error.reason, parameter=error.parameter))
        case errors.PathNotAllowed():
            flaws.append(Flaw("not under an allowed root", parameter="source"))
        case errors.InvalidArtifact():
            flaws.append(
                Flaw(error.reason, parameter="artifacts", index=error.index if error.index >= 0 else None)
            )
        case errors.SchemaNotFound():
            flaws.append(Flaw(str(error), parameter="artifact_type"))
        case errors.RangeNotSatisfiable():
            headers["Content-Range"] = f"bytes */{error.size_bytes}"
        case errors.PositionNotReached():
            headers["Eioku-Position"] = str(error.served)
        case _:
            pass
    if status == 503:
        headers["Retry-After"] = "1"
    return problem(status, title, str(error), error.code, flaws=flaws, headers=headers or None)


def _alias(request: Request[Any, Any, Any], key: str) -> str:
    """The name a client knows a handler's argument by."""
    head, *rest = key.split(".")
    field = request.route_handler.parsed_fn_signature.parameters.get(head)
    definition = field.kwarg_definition if field else None
    known = getattr(definition, "name", None) or head
    return ".".join([known, *rest])


def _validation(request: Request[Any, Any, Any], error: ValidationException) -> Response[Problem]:
    extra = error.extra if isinstance(error.extra, list) else []
    flaws = [
        Flaw(e.get("message", ""), parameter=_alias(request, e["key"]) if e.get("key") else None)
        for e in extra
        if isinstance(e, dict)
    ]
    if not flaws:
        # The framework names a missing one only in its sentence: "Missing required query parameter 'kind' for path …".
        name = error.detail.split("'")[1] if error.detail.count("'") >= 2 else None
        flaws = [Flaw("is required", parameter=name)]
    detail = "; ".join(f"{f.parameter}: {f.detail}" if f.parameter else f.detail for f in flaws)
    return problem(422, PROBLEMS[errors.InvalidParameter][1], detail, "INVALID_PARAMETER", flaws=flaws)


def _http(_: Request[Any, Any, Any], error: HTTPException) -> Response[Problem]:
    status = error.status_code
    if status >= 500:
        return _unexpected(_, error)
    code = HTTP_CODES.get(status, "INVALID_REQUEST")
    title = code.replace("_", " ").capitalize()
    detail = {404: "there is nothing at this address", 405: "this address does not take that method"}.get(
        status, error.detail
    )
    headers = dict(error.headers or {})
    if "GET" in (allow := headers.get("allow", "")) and "HEAD" not in allow:
        headers["allow"] = allow.replace("GET", "GET, HEAD")
    return problem(status, title, detail, code, headers=headers or None)


def _unavailable(_: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    log.warning("api.unavailable", error=repr(error))
    status, title = PROBLEMS[errors.ServiceUnavailable]
    return problem(status, title, "the database does not answer", "UNAVAILABLE", headers={"Retry-After": "1"})


def _too_slow(_: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    log.warning("api.read_too_slow", error=str(error))
    status, title = PROBLEMS[errors.ServiceUnavailable]
    detail = "the database took too long for this; ask for less, or again when it has less to do"
    return problem(status, title, detail, "UNAVAILABLE", headers={"Retry-After": "1"})


def _disk(request: Request[Any, Any, Any], error: OSError) -> Response[Problem]:
    """What a disk of ours says to a route that did not expect it."""
    if error.errno not in OF_THE_MACHINE:
        return _unexpected(request, error)
    log.error("api.storage_failed", error=str(error))
    status, title = PROBLEMS[errors.StorageFailed]
    why = os.strerror(error.errno)
    return problem(status, title, why, errors.StorageFailed.code, headers={"Retry-After": "1"})


def _unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    log.error("api.unexpected", path=request.scope["path"], exc_info=error)
    return problem(
        500, "Unexpected error", "something went wrong here; the server's log says what", "INTERNAL"
    )


EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    EiokuError: _own,
    ValidationException: _validation,
    HTTPException: _http,
    psycopg.errors.QueryCanceled: _too_slow,
    psycopg.OperationalError: _unavailable,
    psycopg_pool.PoolTimeout: _unavailable,
    OSError: _disk,
    Exception: _unexpected,
}
