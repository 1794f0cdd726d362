"""Log lines on their way out: whoever writes one neither waits nor fails, whatever has become of the reader.

A thread of its own writes the lines. They wait for it in a bounded queue, the oldest of which make room for new ones. A
line that made room, or that could not be written because the pipe is broken or the disk full, is lost and counted; the
next line that can be written comes behind one that says how many were lost. Lines keep their order. A write carries
whole lines, and no more of them than a pipe keeps together (``PIPE_BUF``, pipe(7)); what was torn nevertheless never
shares a line with the next.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable
from select import PIPE_BUF
from threading import Condition, Thread
from typing import Any, Final

MAX_LINES: Final = 10_000
"""Lines that wait at most."""
MAX_BYTES: Final = 4 * 1024 * 1024
"""Bytes that wait at most."""


class LogSink:
    """Queue and thread in front of one descriptor.

    Args:
        write: writes bytes and returns how many it took; may wait, and may raise an OSError.
        lost_line: returns the line that says how many lines were lost.
    """

    def __init__(self, write: Callable[[bytes], int], lost_line: Callable[[int], str]) -> None:
        self._write: Final = write
        self._lost_line: Final = lost_line
        self._lines: Final[deque[bytes]] = deque()
        self._bytes = 0
        self._lost = 0
        self._writing = False
        self._torn = False
        self._changed: Final = Condition()  # reentrant: a destructor may log in the middle of :meth:`put`
        Thread(target=self._keep_writing, name="log", daemon=True).start()

    def put(self, line: str) -> None:
        """Let a line be written, without its end. Returns at once."""
        encoded = line.encode(errors="backslashreplace") + b"\n"
        with self._changed:
            self._lines.append(encoded)
            self._bytes += len(encoded)
            while len(self._lines) > MAX_LINES or self._bytes > MAX_BYTES:
                self._bytes -= len(self._lines.popleft())
                self._lost += 1
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait until nothing waits to be written, at most for ``seconds``; tell whether all of it was written."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._lines or self._writing), seconds)
            return not (self._lines or self._writing or self._lost)

    def _keep_writing(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
                lines, lost = self._next(), self._lost
                self._lost, self._writing = 0, True
            unwritten = self._unwritten(lines, lost)
            with self._changed:
                self._lost += unwritten
                self._writing = False
                self._changed.notify_all()

    def _next(self) -> bytes:
        """Take the lines of the next write: one at least, so that threads in need of the interpreter share a write."""
        taken = self._lines.popleft()
        while self._lines and len(taken) + len(self._lines[0]) <= PIPE_BUF:
            taken += self._lines.popleft()
        self._bytes -= len(taken)
        return taken

    def _unwritten(self, lines: bytes, lost: int) -> int:
        """Write lines behind the one about those that were lost; return how many are lost after that."""
        if lost and self._left(self._lost_line(lost).encode() + b"\n"):
            return lost + lines.count(b"\n")
        return self._left(lines).count(b"\n")

    def _left(self, lines: bytes) -> bytes:
        """Write lines; return what could not be written of them."""
        left = b"\n" + lines if self._torn else lines
        try:
            while left:
                taken = self._write(left)
                self._torn = left[taken - 1 : taken] != b"\n"
                left = left[taken:]
        except OSError:
            return left.removeprefix(b"\n")
        return left


def text_stream(take: Callable[[str], None]) -> io.TextIOWrapper:
    """Return a text stream whose lines go to ``take``; text that is flushed in the middle of a line counts as one."""
    return io.TextIOWrapper(_Lines(take), encoding="utf-8", errors="backslashreplace", line_buffering=True)


class _Lines(io.BufferedIOBase):
    name: Final = "log"

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take: Final = take

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        text = bytes(data)
        for line in filter(None, text.decode().splitlines()):
            self._take(line)
        return len(text)
