"""What a command says about an error, and its exit code: the one table from exceptions to sentences."""

import errno

from domain.errors import EiokuError, InvalidParameter, NotFound, Refused, ServiceUnavailable
from infrastructure.redaction import redacted

FAILED, WRONG_USAGE, NOTHING_FOUND, NOT_THERE, INTERRUPTED = 1, 2, 3, 4, 130
"""Exit codes; docs/operations.md says what they mean."""
_MOST_TEXT = 2_000


def exit_code(error: EiokuError) -> int:
    """The exit code for an error of ours."""
    match error:
        case InvalidParameter() if error.parameter.startswith("EIOKU_"):
            return WRONG_USAGE
        case NotFound():
            return NOTHING_FOUND
        case ServiceUnavailable():
            return NOT_THERE
        case Refused():
            return WRONG_USAGE
        case _:
            return FAILED


def described(error: Exception) -> tuple[str, int]:
    """(sentence without secrets, exit code) for any error."""
    sentence, code = _described(error)
    text = redacted(sentence)
    return (text if len(text) <= _MOST_TEXT else text[:_MOST_TEXT] + "…"), code


def _described(error: Exception) -> tuple[str, int]:
    # By name: a command that never needed the library must not import it to say so.
    library = type(error).__module__.partition(".")[0]
    match error:
        case EiokuError():
            return str(error), exit_code(error)
        case UnicodeError():
            return f"an argument or a file name is not UTF-8 text: {error}", WRONG_USAGE
        case MemoryError():
            return "out of memory", FAILED
        case OSError() if error.errno == errno.ENOSPC:
            return f"the disk is full: {_where(error)}", FAILED
        case OSError() if library == "builtins":
            return _where(error), FAILED
    if library in ("psycopg", "psycopg_pool", "sqlalchemy"):
        return _database(error)
    if library == "nats":
        return f"NATS does not answer as it should: {_text(error)}; check EIOKU_NATS_URL", NOT_THERE
    about = f"{type(error).__name__}: {_text(error)}"
    return f"an error that should not happen ({about}); EIOKU_LOG_LEVEL=debug shows where, please report it", FAILED


def _database(error: Exception) -> tuple[str, int]:
    """Psycopg's errors, also inside SQLAlchemy's."""
    cause = getattr(error, "orig", None) or error
    state = getattr(cause, "sqlstate", None) or ""
    name = type(cause).__name__
    if name == "LockNotAvailable":
        return f"a table is in use and was not free in time: {_text(cause)}; try again", NOT_THERE
    if name == "InsufficientPrivilege":
        return f"the database user lacks a right: {_text(cause)}", FAILED
    if not state and name in ("ProgrammingError", "ArgumentError"):
        return f"EIOKU_DATABASE_URL: {_text(cause)}", WRONG_USAGE
    if name in ("OperationalError", "PoolTimeout", "InterfaceError") or state[:2] in ("08", "28", "3D", "57"):
        return f"Postgres does not answer: {_text(cause)}; check EIOKU_DATABASE_URL", NOT_THERE
    return f"Postgres refused a statement: {_text(cause)}", FAILED


def _where(error: OSError) -> str:
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return ": ".join([*names, error.strerror or str(error) or type(error).__name__])


def _text(error: BaseException) -> str:
    """The first line of what it says, with its name when that says nothing."""
    first = next(iter(str(error).strip().splitlines()), "")
    return first or type(error).__name__
