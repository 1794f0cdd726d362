"""The local key socket: connections, limits and framing (DESIGN §7). ``service`` answers the calls.

The socket is open to all users, and the kernel says who connects; callers that no rule describes are refused. All
users that no rule names share one limit, and no executable of theirs is hashed, so they can neither keep loaders out
nor the agent busy. A connection is dropped when a message is too long or makes no sense, or when sending a call or
taking a reply takes too long. ``Open`` is the last call of its connection: anything that the caller does next ends it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Final

import structlog

from nodeseal.agent.local.callers import LocalCaller, identify, peer_user
from nodeseal.agent.local.service import OPEN, LocalKeysService
from nodeseal.errors import MalformedInput, PolicyRefused, Unavailable
from nodeseal.wire.varlink import Call, Frames, Reply, decode_call, encode_reply

MAX_CONNECTIONS: Final = 256
MAX_CONNECTIONS_PER_USER: Final = 64
_STRANGERS: Final = -1
"""Stands for all users that no rule names; no user id is negative."""
CALL_SECONDS: Final = 10.0
"""How long a caller may take to send a call, and to take a reply."""
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
        uid = peer_user(writer.get_extra_info("socket"))
        stranger = not self._service.expects(uid)
        user = _STRANGERS if stranger else uid
        if self._by_user.total() >= MAX_CONNECTIONS or self._by_user[user] >= MAX_CONNECTIONS_PER_USER:
            writer.close()
            _log.warning("too many connections", uid=uid)
            return
        try:
            with self._counted(user, writer):
                caller = await asyncio.to_thread(identify, writer.get_extra_info("socket"), stranger=stranger)
                await self._converse(caller, reader, writer)
        except ConnectionError:
            _log.info("caller hung up", uid=uid)
        except (MalformedInput, PolicyRefused, TimeoutError, OSError) as error:
            _log.warning("connection dropped", uid=uid, error=str(error) or type(error).__name__)

    @contextmanager
    def _counted(self, user: int, writer: asyncio.StreamWriter) -> Iterator[None]:
        """Count a connection of a user while the block runs, then close it."""
        self._by_user[user] += 1
        try:
            yield
        finally:
            self._by_user[user] -= 1
            writer.close()

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
