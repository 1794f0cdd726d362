"""Answers of web servers with a deadline. A socket's timeout is no deadline: a peer may send a byte now and then."""

from __future__ import annotations

import errno
import io
import time
from http.client import HTTPResponse
from socket import socket
from typing import Any, Final


class _Timed(io.RawIOBase):
    """The bytes that a socket receives before a deadline."""

    def __init__(self, raw: io.RawIOBase, connection: socket, until: float) -> None:
        super().__init__()
        self._raw: Final = raw
        self._connection: Final = connection
        self._until: Final = until
        self._patience: Final = connection.gettimeout() or 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError(errno.ETIMEDOUT, "the answer is too slow")
        self._connection.settimeout(min(left, self._patience))
        try:
            return self._raw.readinto(buffer)
        finally:
            self._connection.settimeout(self._patience)

    def close(self) -> None:
        self._raw.close()
        super().close()


class TimedResponse(HTTPResponse):
    """An answer with a deadline of :func:`time.monotonic` for headers, interim answers and body."""

    def __init__(self, until: float, connection: socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(connection, *args, **kwargs)
        self.fp = io.BufferedReader(_Timed(self.fp.detach(), connection, until))
