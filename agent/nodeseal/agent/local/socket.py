"""The local key socket: connections, limits and framing (DESIGN §7). ``service`` answers the calls.

The socket is open to all users, and the kernel says who connects; callers that no rule describes are refused. All
processes that no rule can fit share one limit, whatever their user. An executable is hashed only where a rule asks for
it that fits in all else, beside everything that the agent does for others. So callers can neither keep loaders out nor
the agent busy. Each user causes so many log lines a minute. A connection is dropped when a message is too long or makes
no sense, or when sending a call or taking a reply takes too long. ``Open`` is the last call of its connection: anything
that the caller does next ends it.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from nodeseal.agent.local.callers import LocalCaller, peer_user, pinned_peer
from nodeseal.agent.local.executables import Executables
from nodeseal.agent.local.service import OPEN, LocalKeysService
from nodeseal.errors import MalformedInput, PolicyRefused, TooManyRequests, Unavailable
from nodeseal.line_limit import LineLimit
from nodeseal.wire.varlink import Call, Frames, Reply, decode_call, encode_reply

MAX_CONNECTIONS: Final = 256
MAX_CONNECTIONS_PER_USER: Final = 64
_STRANGERS: Final = -1
"""Stands for all processes that no rule can fit, of whatever user; no user id is negative."""
CALL_SECONDS: Final = 10.0
"""How long a caller may take to send a call, and to take a reply."""
_LINES_PER_MINUTE: Final = 30
_CHUNK: Final = 64 * 1024
_log = structlog.get_logger("nodeseal.agent.socket")


class KeySocket:
    """Serves one Unix socket.

    Args:
        path: the socket; asyncio replaces one that a dead agent left there, and nothing else.
        service: answers calls.
        call_seconds: see :data:`CALL_SECONDS`.
    """

    def __init__(self, path: Path, service: LocalKeysService, call_seconds: float = CALL_SECONDS) -> None:
        self._path: Final = path
        self._service: Final = service
        self._seconds: Final = call_seconds
        self._by_user: Final[Counter[int]] = Counter()
        self._executables: Final = Executables()
        self._lines: Final = LineLimit(_LINES_PER_MINUTE)

    async def serve(self) -> None:
        """Accept connections until cancelled.

        Raises:
            Unavailable: the socket cannot be made.
        """
        try:
            server = await asyncio.start_unix_server(self._accept, self._path)
            self._path.chmod(0o666)
        except OSError as error:
            remedy = "make its folder and let the agent write there, or set another socket in agent.yaml"
            raise Unavailable(f"{self._path}: {error.strerror}", remedy=remedy) from error
        try:
            async with server:
                await server.serve_forever()
        finally:
            self._path.unlink(missing_ok=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        uid = peer_user(connection)
        try:
            with self._counted(self._user(connection)):
                await self._converse(await self._identified(connection), reader, writer)
        except ConnectionError:
            self._tell("caller hung up", uid)
        except TimeoutError:
            writer.transport.abort()  # what it does not read is not kept for it
            self._tell("connection dropped", uid, error="it neither says nor takes anything")
        except (MalformedInput, PolicyRefused, TooManyRequests, OSError) as error:
            self._tell("connection dropped", uid, error=str(error))
        finally:
            writer.close()

    def _user(self, connection: socket.socket) -> int:
        """Return whose share a connection uses: of the user for whom a rule may let it ask, or of strangers."""
        with pinned_peer(connection) as caller:
            return caller.uid if self._service.expects(caller) else _STRANGERS

    async def _identified(self, connection: socket.socket) -> LocalCaller:
        """Return who connected, with as much as the rules ask for.

        Raises:
            PolicyRefused: the process is gone.
            TooManyRequests: its executable takes long to hash; when that is done, it is known for the next time.
        """
        with pinned_peer(connection) as caller:
            if not self._service.asks_executable(caller):
                return caller
            try:
                async with asyncio.timeout(self._seconds):
                    digest = await self._executables.digest(caller.pid, caller.uid)
            except TimeoutError as error:
                raise TooManyRequests("its executable takes long to hash") from error
        return replace(caller, executable_sha256=digest)

    def _tell(self, event: str, uid: int, **facts: str) -> None:
        """Log what a user did, unless it has caused many lines in this minute."""
        left_out = self._lines.left_out(str(uid), time.monotonic())
        if left_out is not None:
            _log.warning(event, uid=uid, left_out=left_out, **facts)

    @contextmanager
    def _counted(self, user: int) -> Iterator[None]:
        """Count a connection of a user while the block runs.

        Raises:
            TooManyRequests: there are too many already.
        """
        if self._by_user.total() >= MAX_CONNECTIONS or self._by_user[user] >= MAX_CONNECTIONS_PER_USER:
            raise TooManyRequests("too many connections")
        self._by_user[user] += 1
        try:
            yield
        finally:
            self._by_user[user] -= 1

    async def _converse(self, caller: LocalCaller, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = Frames()
        while message := await self._next_message(reader, frames):
            call = decode_call(message)
            if call.method == OPEN:
                await self._open(call, caller, reader, writer)
                return
            await self._send(self._service.answer(call, caller), writer)

    async def _open(
        self, call: Call, caller: LocalCaller, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        gone = asyncio.ensure_future(reader.read(1))
        try:
            async with aclosing(self._service.open(call, caller, gone)) as replies:
                async for reply in replies:
                    await self._send(reply, writer)
        finally:
            gone.cancel()

    async def _send(self, reply: Reply, writer: asyncio.StreamWriter) -> None:
        writer.write(encode_reply(reply))
        async with asyncio.timeout(self._seconds):
            await writer.drain()

    async def _next_message(self, reader: asyncio.StreamReader, frames: Frames) -> bytes:
        data = b""
        async with asyncio.timeout(self._seconds):
            while True:
                for message in frames.feed(data):
                    return message
                data = await reader.read(_CHUNK)
                if not data:
                    return b""
