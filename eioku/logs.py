"""How processes log: structlog events and other libraries' records, one line each, to stderr."""

import logging
import sys

import structlog

from eioku.settings import Settings

_QUIET = ("alembic", "uvicorn", "asyncio", "httpx", "nats", "eventsourcing", "PIL", "numba", "matplotlib")
"""Libraries whose information is noise to an operator; their warnings are not."""


def configure_command() -> None:
    """Set up logging of a command: only what is worth a look, and never to standard output."""
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )


def configure(settings: Settings, role: str) -> None:
    """Set up logging of this process; every line carries the role."""
    level = getattr(logging, settings.log_level.upper())
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())

    def with_role(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["role"] = role  # not a context variable: threads would not see it
        return event

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        with_role,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(default=str) if as_json else structlog.dev.ConsoleRenderer()
    )
    last: list[structlog.typing.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if as_json:
        last.append(structlog.processors.format_exc_info)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[*last, renderer])
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
