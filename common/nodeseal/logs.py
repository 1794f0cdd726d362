"""Structured logs of the services: one line an event, and text that others sent stays text.

Every value goes through :func:`_inert`, so neither a newline nor a terminal escape in a host name starts a line or
moves a cursor, in both styles. Log records of libraries take the same way, and so does all else that Python writes to
standard error: warnings, and tracebacks of threads and destructors. Only the verifier and the agent log; the loader and
the command raise errors and return values.

Logging has no effect on its caller. A line is made where it is logged, and one that cannot be made says so itself. It
is written by a thread of its own (:mod:`nodeseal.log_sink`), so a reader that stands still, a broken pipe and a full
disk cost lines and nothing else.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Any, Final

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from nodeseal.documents import Fields
from nodeseal.inert import inert
from nodeseal.log_sink import LogSink, text_stream

_MAX_TEXT: Final = 4000
"""Characters of one value."""
_HEAD: Final = slice(_MAX_TEXT)
_CUTS: Final = {"exception": slice(-_MAX_TEXT, None)}
"""Of a long traceback, the end is kept: the error itself stands in its last line."""
_LAST_SECONDS: Final = 1.0
"""How long the end of a process waits for its last lines to be read."""


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
    render, descriptor = _Renderer(style, colors=colors), _descriptor()

    def warning(event: str, **facts: object) -> str:
        return render(None, "warning", {"event": event, **facts})

    sink = LogSink(partial(os.write, descriptor), lambda lost: warning("log lines lost", lines=lost))
    structlog.configure(
        processors=[render], logger_factory=lambda *_: _Events(sink.put), cache_logger_on_first_use=False
    )
    logging.basicConfig(handlers=[_Records(sink.put, render)], level=logging.WARNING, force=True)
    sys.stderr = text_stream(lambda text: sink.put(warning("standard error", text=text)))
    atexit.register(_end, sink, descriptor)


def _descriptor() -> int:
    """Return the descriptor of standard error.

    If the process was started without one, return one that leads nowhere: lines must not get into another file that
    has its number.
    """
    return sys.__stderr__.fileno() if sys.__stderr__ else os.open(os.devnull, os.O_WRONLY)


def _end(sink: LogSink, descriptor: int) -> None:
    """Wait for the last lines. If they cannot be written, close the way for what the interpreter says while it ends.

    Its words would wait like any others, or change the exit status of the process.
    """
    if not sink.flush(_LAST_SECONDS):
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


class _Renderer:
    """structlog's only processor: makes a line of an event, whatever is in it."""

    def __init__(self, style: LogStyle, *, colors: bool) -> None:
        shown: Processor = (
            structlog.processors.JSONRenderer(sort_keys=True)
            if style is LogStyle.JSON
            else structlog.dev.ConsoleRenderer(colors=colors)
        )
        self._steps: Final[tuple[Processor, ...]] = (
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _inert,
            shown,
        )

    def __call__(self, _logger: WrappedLogger, level: str, event: EventDict) -> str:
        """Return the line of an event."""
        return self.line(level, event.get("event"), lambda: event)

    def line(self, level: str, name: object, event: Callable[[], EventDict]) -> str:
        """Return the line of the event that ``event`` makes; if that or the line fails, a line that says so."""
        try:
            return self._line(level, event())
        except Exception as error:  # noqa: BLE001 - whatever a value's text raises, its logger goes on
            of = name if isinstance(name, str) else type(name).__name__
            return self._line("error", {"event": "log line not made", "of": of, "error": type(error).__name__})

    def _line(self, level: str, event: EventDict) -> str:
        made: Any = event
        for step in self._steps:
            made = step(None, level, made)
        return str(made)


class _Events:
    """structlog's logger: hands lines on."""

    def __init__(self, put: Callable[[str], None]) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = put


class _Records(logging.Handler):
    """Makes lines of the records of libraries."""

    def __init__(self, put: Callable[[str], None], render: _Renderer) -> None:
        super().__init__()
        self._put: Final = put
        self._render: Final = render

    def emit(self, record: logging.LogRecord) -> None:
        """Hand the line of a record on."""
        self._put(self._render.line(record.levelname.lower(), record.msg, lambda: _event_of(record)))


def _event_of(record: logging.LogRecord) -> EventDict:
    return {"event": record.getMessage(), **({"exc_info": record.exc_info} if record.exc_info else {})}


def _inert(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {key: _spelled(value, _CUTS.get(key, _HEAD)) for key, value in event.items()}


def _spelled(value: Any, cut: slice) -> Any:
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    if isinstance(value, (list, tuple)):
        return [_spelled(item, cut) for item in value]
    return inert(str(value))[cut]
