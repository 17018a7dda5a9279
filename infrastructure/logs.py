"""How processes log: structlog events, records of other libraries and crashes alike, one line each, to standard error."""

import asyncio
import logging
import sys
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import msgspec
import structlog
from structlog.typing import EventDict, Processor

from infrastructure.redaction import redacted

_QUIET = ("alembic", "uvicorn", "asyncio", "httpx", "nats", "eventsourcing", "PIL", "numba", "matplotlib")
"""Libraries whose information is noise to an operator; their warnings are not."""
_MOST_TEXT = 20_000
"""Characters of one value in a line; what is longer is cut in the middle."""


class LogStyle(msgspec.Struct, frozen=True):
    """How a process logs; handed on to the processes that it starts."""

    role: str
    """Stands in every line."""
    level: str = "info"
    is_json: bool = True


_style: LogStyle | None = None


def style_of_this_process() -> LogStyle | None:
    """What `configure` was called with last; None for a command."""
    return _style


def configure_command() -> None:
    """Set up logging of a command: only what is worth a look, and never to standard output."""
    structlog.configure(
        processors=[structlog.processors.add_log_level, _without_secrets, _console()],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )


def configure(style: LogStyle) -> None:
    """Set up logging of this process, what nobody catches included."""
    global _style  # noqa: PLW0603 - the process has one
    _style = style
    level = getattr(logging, style.level.upper())

    def with_role(_logger: object, _name: str, event: EventDict) -> EventDict:
        event["role"] = style.role  # not a context variable: threads would not see it
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        with_role,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # A plain traceback: the pretty ones print local variables, which may be anybody's data.
                structlog.processors.format_exc_info,
                _without_secrets,
                structlog.processors.JSONRenderer(default=str) if style.is_json else _console(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    logging.captureWarnings(capture=True)
    sys.excepthook = _crashed
    sys.unraisablehook = _ignored
    threading.excepthook = _thread_crashed


def log_loop_errors(loop: asyncio.AbstractEventLoop) -> None:
    """Log what a task or callback of `loop` raised and nobody awaited."""

    def report(_loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        error = context.get("exception")
        structlog.get_logger().error("loop.error", message=context.get("message"), exc_info=error)

    loop.set_exception_handler(report)


def _console() -> Processor:
    return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)


def _without_secrets(_logger: object, _name: str, event: EventDict) -> EventDict:
    return {name: _clean(value) for name, value in event.items()}


def _clean(value: Any) -> Any:
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return _bounded(redacted(value))
        case Mapping():
            return {_clean(name): _clean(one) for name, one in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_clean(one) for one in value]
        case _:
            return _bounded(redacted(str(value)))


def _bounded(text: str) -> str:
    if len(text) <= _MOST_TEXT:
        return text
    half = _MOST_TEXT // 2
    return f"{text[:half]} … {len(text) - 2 * half} characters left out … {text[-half:]}"


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    structlog.get_logger().critical("program.crashed", exc_info=(kind, error, trace))


def _thread_crashed(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is None or issubclass(args.exc_type, SystemExit):
        return
    name = args.thread.name if args.thread is not None else None
    structlog.get_logger().error(
        "thread.crashed", thread=name, exc_info=(args.exc_type, args.exc_value, args.exc_traceback)
    )


def _ignored(args: "sys.UnraisableHookArgs") -> None:
    if args.exc_value is None:
        return
    structlog.get_logger().warning(
        "error.ignored", where=args.err_msg or repr(args.object),
        exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
    )  # fmt: skip
