"""Structured logs: one line an event, and text that others sent stays text.

Every value goes through :func:`_inert`, so neither a newline nor a terminal escape in a host name starts a line or
moves a cursor, whichever format is used. Libraries' log records take the same way.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from nodeseal.verifier.config import LogFormat

_MAX_TEXT = 4000


def configure_logs(style: LogFormat) -> None:
    """Write events to standard error from now on."""
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _inert,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer(sort_keys=True)
        if style is LogFormat.JSON
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[*shared, renderer],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _inert(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {
        key: _spelled(value) if key not in ("_record", "_from_structlog") else value for key, value in event.items()
    }


def _spelled(value: Any) -> Any:
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    if isinstance(value, (list, tuple)):
        return [_spelled(item) for item in value]
    text = str(value)
    return (text if text.isprintable() else text.encode("unicode_escape").decode("ascii"))[:_MAX_TEXT]
