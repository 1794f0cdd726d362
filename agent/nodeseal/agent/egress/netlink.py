"""Netlink (netlink(7), RFC 3549): requests to the kernel, and the attributes of its answers.

Messages come from the kernel alone: what another process sends to our port is dropped.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final, NamedTuple, Self

from nodeseal.errors import MalformedInput, Unavailable

ROUTE: Final = 0
NETFILTER: Final = 12
_ERROR, _DONE = 2, 3
_REQUEST, _DUMP = 0x1, 0x300
_INTERRUPTED: Final = 0x10
_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_FOUR: Final = 4
_TYPE_MASK: Final = 0x3FFF
"""Without the flags NLA_F_NESTED and NLA_F_NET_BYTEORDER."""
_BUFFER: Final = 1 << 18
_SECONDS: Final = 5.0
_MAX_ANSWER: Final = 32 * 1024 * 1024
_ADD_MEMBERSHIP: Final = 1
_SOL_NETLINK: Final = 270

Attributes = Mapping[int, bytes]


class Message(NamedTuple):
    """One message: its type, and what follows the header."""

    type: int
    body: bytes


class Netlink:
    """A connection to one part of the kernel; close it, or use it as a context manager.

    Args:
        family: :data:`ROUTE` or :data:`NETFILTER`.
        groups: of changes to hear of.

    Raises:
        Unavailable: from every method: the kernel refuses or does not answer.
    """

    def __init__(self, family: int, groups: tuple[int, ...] = ()) -> None:
        try:
            self.socket: Final = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
        except OSError as error:
            raise _refused(error) from error
        try:
            self.socket.bind((0, 0))
            for group in groups:
                self.socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
            self.socket.settimeout(0 if groups else _SECONDS)  # who hears of changes waits for none
        except OSError as error:
            self.socket.close()
            raise _refused(error) from error
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def ask(self, kind: int, body: bytes) -> Message | None:
        """Return the answer to one question; None: what it names does not exist."""
        return next(self._converse(kind, body, _REQUEST), None)

    def dump(self, kind: int, body: bytes) -> tuple[Message, ...]:
        """Return everything of one kind. A list that changed while it was read is read anew."""
        for _ in range(3):
            with suppress(_Interrupted):
                return tuple(self._converse(kind, body, _REQUEST | _DUMP))
        raise Unavailable("netlink: what was asked changes too fast to be read")

    def drain(self) -> bool:
        """Throw away the changes that were reported; return whether there were any. It waits for none."""
        found = False
        while True:
            try:
                self.socket.recv(_BUFFER)
            except BlockingIOError:
                return found
            except OSError:  # ENOBUFS: there were more than fit
                pass
            found = True

    def _converse(self, kind: int, body: bytes, flags: int) -> Iterator[Message]:
        self._sequence += 1
        try:
            self.socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, self._sequence, 0) + body)
            yield from self._answers(flags)
        except OSError as error:
            raise _refused(error) from error

    def _answers(self, flags: int) -> Iterator[Message]:
        total = 0
        while True:
            raw, (port, _) = self.socket.recvfrom(_BUFFER)
            total += len(raw)
            if total > _MAX_ANSWER:
                raise Unavailable(f"netlink: an answer of more than {_MAX_ANSWER} bytes")
            if port != 0:
                continue
            for header_flags, sequence, message in messages(raw):
                if sequence != self._sequence:
                    continue
                if header_flags & _INTERRUPTED:  # the rest is of an older number than the next question
                    raise _Interrupted
                if message.type == _DONE or (message.type == _ERROR and _is_end(message)):
                    return
                yield message
                if not flags & _DUMP:
                    return


class _Interrupted(Exception):
    """A list changed while the kernel was writing it (NLM_F_DUMP_INTR)."""


def messages(raw: bytes) -> Iterator[tuple[int, int, Message]]:
    """Iterate over flags, sequence number and message of each message in one datagram.

    Raises:
        MalformedInput: a length is wrong.
    """
    at = 0
    while at < len(raw):
        if len(raw) - at < _HEADER.size:
            raise MalformedInput("netlink: a header is cut off")
        length, kind, flags, sequence, _ = _HEADER.unpack_from(raw, at)
        if not _HEADER.size <= length <= len(raw) - at:
            raise MalformedInput("netlink: a message has a wrong length")
        yield flags, sequence, Message(kind, raw[at + _HEADER.size : at + length])
        at += _aligned(length)


def attributes(raw: bytes) -> Attributes:
    """Return the attributes in ``raw`` by type; of several of one type the last.

    Raises:
        MalformedInput: a length is wrong.
    """
    found: dict[int, bytes] = {}
    at, end = 0, len(raw)
    while at + _FOUR <= end:  # the size of a header; written out, because every round pays for it
        length, kind = _ATTRIBUTE.unpack_from(raw, at)
        if not _FOUR <= length <= end - at:
            raise MalformedInput("netlink: an attribute has a wrong length")
        found[kind & _TYPE_MASK] = raw[at + _FOUR : at + length]
        at += (length + 3) & ~3
    return found


def each_attribute(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """Iterate over type and value of the attributes in ``raw``.

    Raises:
        MalformedInput: a length is wrong.
    """
    at = 0
    while at + _ATTRIBUTE.size <= len(raw):
        length, kind = _ATTRIBUTE.unpack_from(raw, at)
        if not _ATTRIBUTE.size <= length <= len(raw) - at:
            raise MalformedInput("netlink: an attribute has a wrong length")
        yield kind & _TYPE_MASK, raw[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + b"\0" * (_aligned(length) - length)


def text_of(value: bytes | None) -> str:
    """Return the text of an attribute that ends with a zero; an attribute that is not there is empty."""
    return (value or b"").split(b"\0", 1)[0].decode(errors="replace")


def host_u32(value: bytes | None) -> int:
    """Return a number of four bytes as the machine writes it; an attribute that is not there is 0."""
    return int.from_bytes((value or b"")[:4], "little" if struct.pack("=H", 1) == b"\1\0" else "big")


def network_number(value: bytes | None) -> int:
    """Return a number as networks write it; an attribute that is not there is 0."""
    return int.from_bytes(value or b"", "big")


def _is_end(message: Message) -> bool:
    """Tell whether an error message is an acknowledgement, or says that nothing of that name exists.

    Raises:
        OSError: it is another error.
    """
    (code,) = struct.unpack_from("=i", message.body)
    if code in (0, -2):  # ENOENT
        return True
    raise OSError(-code, "the kernel refuses")


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _refused(error: OSError) -> Unavailable:
    remedy = (
        "install the drop-in nodeseal-agent.service.d/egress.conf, which gives the agent CAP_NET_ADMIN and AF_NETLINK"
    )
    return Unavailable(f"netlink: {error.strerror or error}", remedy=remedy)
