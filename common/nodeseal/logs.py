"""Structured logs of the services: one line an event, and text that others sent stays text.

Every value goes through :func:`_inert`, so neither a newline nor a terminal escape in a host name starts a line or
moves a cursor, in both styles. Log records of libraries take the same way. Only the verifier and the agent log; the
loader and the command raise errors and return values.
"""

from __future__ import annotations

import logging
import sys
from enum import Enum
from typing import Any, Final

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from nodeseal.documents import Fields
from nodeseal.inert import inert

_MAX_TEXT: Final = 4000
"""Characters of one value."""
_HEAD: Final = slice(_MAX_TEXT)
_CUTS: Final = {"exception": slice(-_MAX_TEXT, None)}
"""Of a long traceback, the end is kept: the error itself stands in its last line."""
_OF_STRUCTLOG: Final = frozenset({"_record", "_from_structlog"})


class LogStyle(Enum):
    """Style of log lines."""

    JSON = "json"
    CONSOLE = "console"


def parse_log_style(fields: Fields, key: str) -> LogStyle:
    """Return the log style that a configuration names under ``key``.

    Raises:
        MalformedInput: no such key, or another style.
    """
    text = fields.text(key)
    if text not in {style.value for style in LogStyle}:
        raise fields.wrong(key, "json or console")
    return LogStyle(text)


def configure_logs(style: LogStyle, *, colors: bool = False) -> None:
    """Write events to standard error from now on; ``colors`` is for the console style."""
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _inert,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer(sort_keys=True)
        if style is LogStyle.JSON
        else structlog.dev.ConsoleRenderer(colors=colors)
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
        key: value if key in _OF_STRUCTLOG else _spelled(value, _CUTS.get(key, _HEAD)) for key, value in event.items()
    }


def _spelled(value: Any, cut: slice) -> Any:
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    if isinstance(value, (list, tuple)):
        return [_spelled(item, cut) for item in value]
    return inert(str(value))[cut]
