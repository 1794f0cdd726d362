"""Sealed models on web servers and object storage: range requests, one for each segment, several at once.

Bytes from a server are decrypted and authenticated like bytes from a disk, so a server can withhold a model but not
change it. A broken transfer continues where it broke, and verified bytes are never fetched again. Nothing is cached.
Servers do not list other files, and no other file is used. Proxies of the environment are not used.

RFC 9110, §14 (range requests), §13.1.5 (``If-Range``), §15.4 (redirections).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from itertools import chain
from ssl import SSLCertVerificationError, SSLContext, create_default_context
from threading import Lock
from typing import Final, cast
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from nodeseal.errors import Unavailable
from nodeseal.loader.folders import Source
from nodeseal.loader.timed_response import TimedResponse

MAX_REDIRECTS: Final = 5
ATTEMPTS: Final = 6
"""Number of requests for a range, or for its missing part."""
RETRY_SECONDS = 0.1
_IDLE_CONNECTIONS: Final = 32
_PIECE: Final = 1 << 20
_PASSING: Final = frozenset((408, 425, 429, 500, 502, 503, 504))
_REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))
_NOT_OF_FOLDERS: Final = frozenset("@?#")
"""Characters that a folder's address must not have: they mark a user, a query or a fragment."""
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebOptions:
    """Options of connections to web servers.

    Attributes:
        headers: sent to the folder's server, and to no server that it redirects to; such as ``Authorization``.
        tls: trusted certificate authorities; the system's by default.
        timeout_seconds: limit for each step of a connection.
        request_seconds: limit for a whole answer with headers, which holds at most one segment.
    """

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    tls: SSLContext = field(default_factory=create_default_context, repr=False)
    timeout_seconds: float = 30.0
    request_seconds: float = 120.0


class WebFolder:
    """A folder on a web server."""

    def __init__(self, url: str, options: WebOptions | None = None) -> None:
        """Connect later.

        Args:
            url: address of the folder: ``https``, or ``http`` without headers, which would not be encrypted.
            options: options of the connections.

        Raises:
            ValueError: not such an address.
        """
        self._options: Final = options or WebOptions()
        self._url: Final = url.rstrip("/") + "/"
        self._connections: Final = _Connections(self._options)
        parts = urlsplit(self._url)
        if parts.scheme not in ("https", "http") or not parts.hostname or set(self._url) & _NOT_OF_FOLDERS:
            raise ValueError("an address of a folder is https://HOST/PATH")
        if parts.scheme == "http" and self._options.headers:
            raise ValueError("headers are sent over https alone")
        headers = "".join(chain(*self._options.headers.items()))
        if not (headers.isascii() and headers.isprintable()):
            raise ValueError("a header holds a character that is not printable ASCII, such as a line break")

    def __str__(self) -> str:
        return self._url.rstrip("/")

    def open(self, path: str) -> Source:
        """Ask for the size of a file."""
        return _WebFile(urljoin(self._url, quote(path)), f"{self}/{path}", self._connections)

    def paths(self) -> Iterator[str]:
        """Yield nothing: servers do not list what they hold."""
        return iter(())


class _Broken(Exception):
    """A failed transfer that is worth another attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """A server's answer to a request for a range."""

    response: HTTPResponse
    connection: HTTPConnection
    target: SplitResult


class _WebFile:
    """One file. Every answer must have the size and entity tag of the first."""

    def __init__(self, url: str, name: str, connections: _Connections) -> None:
        self._url: Final = urlsplit(url)
        self._target = self._url
        self._name: Final = name
        self._connections: Final = connections
        self._etag = ""
        self._size = -1
        first = bytearray(1)
        self._fetch(memoryview(first), 0)

    @property
    def size(self) -> int:
        return self._size

    @property
    def waits(self) -> bool:
        return True

    def close(self) -> None:
        self._connections.close()

    def read_into(self, buffer: memoryview, offset: int) -> None:
        if offset + len(buffer) > self._size:
            raise Unavailable(f"{self._name}: ends before byte {offset + len(buffer)}")
        if len(buffer):
            self._fetch(buffer, offset)

    def _fetch(self, buffer: memoryview, offset: int) -> None:
        done = failures = 0
        while done < len(buffer) and self._size != 0:
            try:
                for count in self._attempt(buffer[done:], offset + done):
                    done += count
            except (OSError, HTTPException, UnicodeError, _Broken) as error:
                failures += 1
                self._target = self._url  # a signed address that it redirected to may have run out
                if failures == ATTEMPTS or isinstance(error, SSLCertVerificationError):
                    raise Unavailable(f"{self._name}: {_describe(error)}") from error
                time.sleep(RETRY_SECONDS * (2**failures - 2))  # at once after the first: it may have waited too long

    def _attempt(self, buffer: memoryview, offset: int) -> Iterator[int]:
        """Ask once. Yield the number of new bytes in ``buffer``, each time some arrive."""
        answer = self._ask(offset, offset + len(buffer) - 1)
        whole = False
        try:
            if self._check(answer, offset, offset + len(buffer) - 1):
                done = 0
                while done < len(buffer):
                    piece = answer.response.read1(min(_PIECE, len(buffer) - done))
                    if not piece:
                        raise _Broken("the answer is shorter than announced")
                    buffer[done : done + len(piece)] = piece
                    done += len(piece)
                    yield len(piece)
                whole = True
        finally:
            self._connections.give_back(answer, reusable=whole)

    def _ask(self, first: int, last: int) -> _Answer:
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._connections.request(self._target, self._headers(first, last))
            if answer.response.status not in _REDIRECTS:
                return answer
            self._connections.give_back(answer, reusable=False)
            self._target = self._redirected(answer)
        raise Unavailable(f"{self._name}: redirected more than {MAX_REDIRECTS} times")

    def _headers(self, first: int, last: int) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity", "Range": f"bytes={first}-{last}"}
        if self._etag and not self._etag.startswith("W/"):
            headers["If-Range"] = self._etag
        same = (self._target.scheme, self._target.netloc) == (self._url.scheme, self._url.netloc)
        return {**self._connections.options.headers, **headers} if same else headers

    def _redirected(self, answer: _Answer) -> SplitResult:
        try:
            target = urlsplit(urljoin(answer.target.geturl(), answer.response.getheader("Location", "")))
            secure = target.scheme in ("https", self._url.scheme) and target.hostname and target.port != 0
        except ValueError:
            secure = False
        if not secure:
            raise Unavailable(f"{self._name}: redirected to an address that is not https")
        return target

    def _check(self, answer: _Answer, first: int, last: int) -> bool:
        """Compare the answer with the first one; tell whether there is a body to read."""
        response = answer.response
        if response.status in _PASSING:
            raise _Broken(f"status {response.status}")
        if response.status == 416 and self._size < 0 and response.getheader("Content-Range") == "bytes */0":  # noqa: PLR2004 - range not satisfiable
            self._size = 0
            return False
        if response.status == 200:  # noqa: PLR2004 - the whole file
            raise Unavailable(f"{self._name}: {'changed' if self._etag else 'its server does not serve ranges'}")
        if response.status != 206:  # noqa: PLR2004 - partial content
            raise self._refused(answer)
        match = _CONTENT_RANGE.fullmatch(response.getheader("Content-Range", ""))
        if match is None or (int(match[1]), int(match[2])) != (first, last):
            raise Unavailable(f"{self._name}: the server answered with another range")
        if response.getheader("Content-Encoding", "identity") != "identity":
            raise Unavailable(f"{self._name}: the server answered in another encoding")
        self._compare(int(match[3]), response.getheader("ETag", ""))
        return True

    def _refused(self, answer: _Answer) -> Exception:
        """Return the error for a status. After a redirection it may mean that a signed address has expired."""
        message = f"status {answer.response.status}"
        return _Broken(message) if answer.target != self._url else Unavailable(f"{self._name}: {message}")

    def _compare(self, size: int, etag: str) -> None:
        if self._size < 0:
            self._size, self._etag = size, etag
        if (size, etag) != (self._size, self._etag):
            raise Unavailable(f"{self._name}: changed while it was read")


class _Connections:
    """Pool of idle connections."""

    def __init__(self, options: WebOptions) -> None:
        self.options: Final = options
        self._lock: Final = Lock()
        self._idle: Final[list[tuple[str, str, HTTPConnection]]] = []

    def request(self, target: SplitResult, headers: Mapping[str, str]) -> _Answer:
        path = (target.path or "/") + (f"?{target.query}" if target.query else "")
        connection = self._take(target)
        try:
            until = time.monotonic() + self.options.request_seconds
            connection.response_class = cast("type[HTTPResponse]", partial(TimedResponse, until))
            connection.request("GET", path, headers=dict(headers))
            return _Answer(response=connection.getresponse(), connection=connection, target=target)
        except BaseException:
            connection.close()
            raise

    def give_back(self, answer: _Answer, *, reusable: bool) -> None:
        """Keep the connection if its answer was read to the end; otherwise close it."""
        answer.response.close()
        if reusable and not answer.response.will_close:
            with self._lock:
                if len(self._idle) < _IDLE_CONNECTIONS:
                    self._idle.append((answer.target.scheme, answer.target.netloc, answer.connection))
                    return
        answer.connection.close()

    def close(self) -> None:
        """Close all idle connections."""
        with self._lock:
            while self._idle:
                self._idle.pop()[2].close()

    def _take(self, target: SplitResult) -> HTTPConnection:
        with self._lock:
            for index in range(len(self._idle) - 1, -1, -1):
                if self._idle[index][:2] == (target.scheme, target.netloc):
                    return self._idle.pop(index)[2]
        host, timeout = target.hostname or "", self.options.timeout_seconds
        if target.scheme == "http":
            return HTTPConnection(host, target.port, timeout=timeout)
        return HTTPSConnection(host, target.port, timeout=timeout, context=self.options.tls)


def _describe(error: Exception) -> str:
    """Describe an error without addresses, which may be signed."""
    if isinstance(error, _Broken):
        return str(error)
    return getattr(error, "strerror", None) or type(error).__name__
