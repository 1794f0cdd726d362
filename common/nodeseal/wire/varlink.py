"""Varlink's wire rules: JSON objects, each ended by one NUL byte (varlink.org, "Method Call" and "Reply").

Both ends of the local key socket use this module: the agent, which serves ``io.nodeseal.Keys``, and the loader. It
knows messages, not sockets. Peers may be other programs (``varlinkctl``), so any JSON spelling is accepted, but no
unknown key, no duplicate and no message above :data:`MAX_MESSAGE`. ``oneway`` and ``upgrade`` are not offered.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from nodeseal import documents
from nodeseal.errors import MalformedInput

KEYS_INTERFACE = "io.nodeseal.Keys"
MAX_MESSAGE = 1 << 20
"""Bytes of one message without its NUL."""
_MAX_NAME = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A method call.

    Attributes:
        method: interface and method, ``io.nodeseal.Keys.Open``.
        parameters: as they came; nothing in them is checked.
        more: the caller accepts several replies.
    """

    method: str
    parameters: Mapping[str, object] = field(default_factory=dict, repr=False)
    more: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer to a call; ``parameters`` may hold a key and are therefore not shown.

    Attributes:
        parameters: as they came; nothing in them is checked.
        continues: more replies to the same call follow.
        error: interface and name of the error, or an empty string.
    """

    parameters: Mapping[str, object] = field(default_factory=dict, repr=False)
    continues: bool = False
    error: str = ""


def encode_call(call: Call) -> bytes:
    """Return the message for ``call``, with its NUL."""
    more = {"more": True} if call.more else {}
    return _encode({"method": call.method, "parameters": call.parameters, **more})


def encode_reply(reply: Reply) -> bytes:
    """Return the message for ``reply``, with its NUL."""
    error = {"error": reply.error} if reply.error else {}
    continues = {"continues": True} if reply.continues else {}
    return _encode({**error, "parameters": reply.parameters, **continues})


def decode_call(raw: bytes) -> Call:
    """Parse one message without its NUL as a call.

    Raises:
        MalformedInput: not a JSON object, an unknown key (``oneway`` and ``upgrade`` among them) or a wrong type.
    """
    fields = documents.Fields(documents.parse_json(raw, "varlink call"), "varlink call")
    call = Call(
        method=fields.text("method", max_length=_MAX_NAME),
        parameters=_parameters(fields),
        more=fields.boolean("more") if fields.has("more") else False,
    )
    fields.done()
    return call


def decode_reply(raw: bytes) -> Reply:
    """Parse one message without its NUL as a reply.

    Raises:
        MalformedInput: not a JSON object, an unknown key or a wrong type.
    """
    fields = documents.Fields(documents.parse_json(raw, "varlink reply"), "varlink reply")
    reply = Reply(
        parameters=_parameters(fields),
        continues=fields.boolean("continues") if fields.has("continues") else False,
        error=fields.text("error", max_length=_MAX_NAME) if fields.has("error") else "",
    )
    fields.done()
    return reply


class Frames:
    """Cuts a stream into messages; holds at most one message and one read."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield each message that ``data`` completes, without its NUL.

        Raises:
            MalformedInput: a message is longer than :data:`MAX_MESSAGE`. The stream is of no use after that.
        """
        self._pending += data
        while (end := self._pending.find(0)) >= 0:
            message = bytes(self._pending[:end])
            del self._pending[: end + 1]
            _limit(len(message))
            yield message
        _limit(len(self._pending))


def _parameters(fields: documents.Fields) -> Mapping[str, object]:
    value = fields.take("parameters") if fields.has("parameters") else {}
    if not isinstance(value, dict):
        raise fields.wrong("parameters", "a mapping")
    return value


def _encode(message: Mapping[str, object]) -> bytes:
    raw = json.dumps(message, separators=(",", ":")).encode()
    _limit(len(raw))
    return raw + b"\0"


def _limit(size: int) -> None:
    if size > MAX_MESSAGE:
        raise MalformedInput(f"varlink message: {size} bytes, at most {MAX_MESSAGE}")
