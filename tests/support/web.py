"""A web server on loopback that serves a folder by ranges, and misbehaves on request."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote


class Request(BaseHTTPRequestHandler):
    """One request; a script may answer it instead of :meth:`serve`."""

    protocol_version = "HTTP/1.1"
    server: WebServer

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        self.server.script(self)

    def serve(self, *, cut: int = 0, **headers: str) -> None:
        """Answer with changed headers, and without the last ``cut`` bytes."""
        path = self.server.folder / unquote(self.path).lstrip("/").partition("?")[0]
        if not path.is_file():
            self.refuse(404)
            return
        content, etag = path.read_bytes(), f'"{path.stat().st_size}"'
        first, last = (int(part) for part in self.headers["Range"].removeprefix("bytes=").split("-"))
        if first >= len(content):
            self.refuse(416, content_range=f"bytes */{len(content)}")
            return
        body = content[first : last + 1]
        good = {"etag": etag, "content_range": f"bytes {first}-{first + len(body) - 1}/{len(content)}"}
        self.answer(206, body, cut, **{**good, **headers})

    def refuse(self, status: int, **headers: str) -> None:
        """Answer without a body."""
        self.answer(status, b"", **headers)

    def answer(self, status: int, body: bytes, cut: int = 0, /, **headers: str) -> None:
        """Answer in full control."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            if value:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body[: len(body) - cut])
        self.server.sent += len(body) - cut
        self.close_connection = self.close_connection or cut > 0

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Stay silent."""


Script = Callable[[Request], None]


class WebServer(ThreadingHTTPServer):
    """Serves until the block ends.

    Attributes:
        folder: the folder that is served.
        script: answers requests.
        requests: path and headers of each one.
        sent: bytes of bodies.
        connections: number of connections that began.
    """

    daemon_threads = True

    def __init__(self, folder: Path, script: Script = Request.serve, *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.folder = folder
        self.script = script
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.sent = self.connections = 0
        self._scheme = "https" if tls else "http"
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)

    @property
    def url(self) -> str:
        """Address of the folder."""
        return f"{self._scheme}://127.0.0.1:{self.server_port}"

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection."""
        self.connections += 1
        return super().get_request()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no failure of a test."""

    def __enter__(self) -> Self:
        self._thread = Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self.shutdown()
        self._thread.join(10)
        self.server_close()
