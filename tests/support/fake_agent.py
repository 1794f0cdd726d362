"""An agent that serves ``io.nodeseal.Keys`` on a Unix socket as a script says, one connection after the other."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Self

from nodeseal.documents import encode_base64
from nodeseal.sealed.slots import parse_slot_list
from nodeseal.wire import varlink
from nodeseal.wire.varlink import Call, Frames, Reply
from support.sealed import Sample

Script = Callable[["Caller", Call], None]


class Caller:
    """The other end of one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._frames = Frames()

    def reply(self, reply: Reply) -> None:
        """Send a reply."""
        self._connection.sendall(varlink.encode_reply(reply))

    def send(self, raw: bytes) -> None:
        """Send bytes that may be no reply at all."""
        self._connection.sendall(raw)

    def wait_until_gone(self) -> None:
        """Return when the loader closed its end."""
        while self._connection.recv(4096):
            pass

    def call(self) -> Call:
        """Read the call."""
        while True:
            for raw in self._frames.feed(self._connection.recv(65536)):
                return varlink.decode_call(raw)


class FakeAgent:
    """Runs ``script`` for each connection, in a thread; a context manager."""

    def __init__(self, path: Path, script: Script) -> None:
        self.path = path
        self.served = 0
        self._script = script
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(timeout=10)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(10)
                caller = Caller(connection)
                self._script(caller, caller.call())
                self.served += 1


def rfc3339(seconds_from_now: float) -> str:
    """Return a time as the interface writes it."""
    return datetime.fromtimestamp(time.time() + seconds_from_now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def agent_script(sample: Sample, after: Callable[[Caller], None], *, seconds: float = 0) -> Script:
    """Return the script of an agent that opens slots with the model key and, ``seconds`` later, does ``after``."""

    def script(caller: Caller, call: Call) -> None:
        slots = call.parameters["slots"]
        assert isinstance(slots, list)
        (slot,) = parse_slot_list(tuple(slots), "Open")
        digest = sample.content.digest
        key = sample.private.open_slot(digest, slot.key_id, slot.sealed)
        parameters = {
            "data_key": encode_base64(bytes(key)),
            "model_digest": digest,
            "lease_id": "l-abcdefghijklmnopqrstuvwxyz",
            "expires": rfc3339(60),
        }
        caller.reply(Reply(parameters=parameters, continues=True))
        time.sleep(seconds)
        after(caller)

    return script
