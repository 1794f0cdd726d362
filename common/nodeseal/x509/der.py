"""Bounds-checked reading of DER (ITU-T X.690), as far as X.509 needs it.

Lengths must be definite and minimal, and tag numbers low, so that a value has one spelling. Three known deviations of
TPM vendors, which change no meaning, are accepted:

- a SET OF in any order (Nuvoton's names),
- a DEFAULT value that is written out (Intel PTT: ``critical FALSE``),
- a negative INTEGER, where callers allow it (serial numbers).

Elements keep their bytes, so signatures are verified over the signed bytes, never over a new encoding.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from nodeseal.errors import MalformedInput

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
OBJECT_IDENTIFIER: Final = 0x06
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18
SEQUENCE: Final = 0x30
SET: Final = 0x31
_TIME: Final = re.compile("[0-9]{14}Z")
_TAG_NUMBER = 0x1F
_MAX_OID_ARC = 1 << 64
_MAX_LENGTH_BYTES = 3


def context(number: int, *, constructed: bool = True) -> int:
    """Return the identifier byte of context-specific tag ``[number]``."""
    return (0xA0 if constructed else 0x80) | number


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """One element.

    Attributes:
        tag: identifier byte.
        content: content bytes.
        raw: all bytes, identifier and length included.
    """

    tag: int
    content: bytes
    raw: bytes


class DerReader:
    """Cursor over the elements of one structure.

    Args:
        raw: the bytes.
        what: name of the structure, for errors.

    Raises:
        MalformedInput: from every method; the message names structure, field and offset.
    """

    __slots__ = ("_at", "_raw", "_what")

    def __init__(self, raw: bytes, what: str) -> None:
        self._raw = raw
        self._what = what
        self._at = 0

    def fault(self, field: str, problem: str) -> MalformedInput:
        """Return the error for a problem of ``field``."""
        return MalformedInput(f"{self._what}: {field} {problem}, before byte {self._at} of {len(self._raw)}")

    def at_end(self) -> bool:
        """Tell whether all bytes are read."""
        return self._at == len(self._raw)

    def next_is(self, tag: int) -> bool:
        """Tell whether the next element has this tag."""
        return not self.at_end() and self._raw[self._at] == tag

    def any(self, field: str) -> Element:
        """Read the next element of any tag."""
        start = self._at
        tag = self._bytes(1, field)[0]
        if tag & _TAG_NUMBER == _TAG_NUMBER:
            raise self.fault(field, "has a tag number above 30")
        content = self._bytes(self._length(field), field)
        return Element(tag=tag, content=content, raw=self._raw[start : self._at])

    def element(self, tag: int, field: str) -> Element:
        """Read the next element, which must have this tag."""
        if not self.next_is(tag):
            raise self.fault(field, f"is missing (tag 0x{tag:02x} expected)")
        return self.any(field)

    def inside(self, tag: int, field: str) -> DerReader:
        """Read the next element, which must have this tag; return a reader of its content."""
        return DerReader(self.element(tag, field).content, f"{self._what}: {field}")

    def integer(self, field: str) -> int:
        """Read an INTEGER of either sign."""
        content = self.element(INTEGER, field).content
        if not content:
            raise self.fault(field, "is an empty integer")
        return int.from_bytes(content, "big", signed=True)

    def boolean(self, field: str) -> bool:
        """Read a BOOLEAN, 0x00 or 0xFF."""
        content = self.element(BOOLEAN, field).content
        if content not in {b"\x00", b"\xff"}:
            raise self.fault(field, "is neither true nor false")
        return content == b"\xff"

    def oid(self, field: str) -> str:
        """Read an OBJECT IDENTIFIER as dotted decimal."""
        return self._dotted(self.element(OBJECT_IDENTIFIER, field).content, field)

    def octets(self, field: str) -> bytes:
        """Read an OCTET STRING."""
        return self.element(OCTET_STRING, field).content

    def bits(self, field: str) -> bytes:
        """Read a BIT STRING of whole bytes: keys and signatures."""
        content = self.element(BIT_STRING, field).content
        if not content or content[0]:
            raise self.fault(field, "is not a bit string of whole bytes")
        return content[1:]

    def flags(self, field: str) -> frozenset[int]:
        """Read a BIT STRING of named bits; return the numbers of the bits that are set (0: the first)."""
        content = self.element(BIT_STRING, field).content
        unused = content[0] if content else 8
        count = 8 * (len(content) - 1) - unused
        if unused > 7 or count < 0:  # noqa: PLR2004 - bits of the last byte that do not count
            raise self.fault(field, "is not a bit string")
        return frozenset(i for i in range(count) if content[1 + i // 8] >> (7 - i % 8) & 1)

    def time(self, field: str) -> datetime:
        """Read a Time (RFC 5280 §4.1.2.5): UTCTime or GeneralizedTime, in UTC, with seconds."""
        found = self.any(field)
        text = found.content.decode("ascii", errors="replace")
        if found.tag == UTC_TIME:
            text = ("19" if text >= "50" else "20") + text
        elif found.tag != GENERALIZED_TIME:
            raise self.fault(field, "is not a time")
        if not _TIME.fullmatch(text):
            raise self.fault(field, "is not a time in UTC with seconds")
        try:
            return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
        except ValueError as error:
            raise self.fault(field, "is not a date") from error

    def end(self) -> None:
        """Check that no bytes are left."""
        if not self.at_end():
            raise MalformedInput(f"{self._what}: {len(self._raw) - self._at} bytes too many at its end")

    def _bytes(self, size: int, field: str) -> bytes:
        if size > len(self._raw) - self._at:
            raise self.fault(field, f"is cut off ({size} bytes declared)")
        self._at += size
        return self._raw[self._at - size : self._at]

    def _length(self, field: str) -> int:
        first = self._bytes(1, field)[0]
        if first < 0x80:  # noqa: PLR2004 - short form
            return first
        size = first & 0x7F
        if not 1 <= size <= _MAX_LENGTH_BYTES:
            raise self.fault(field, "has an indefinite or huge length")
        length = int.from_bytes(self._bytes(size, field), "big")
        if length < 0x80 or length >> 8 * (size - 1) == 0:  # noqa: PLR2004 - belongs in the short form
            raise self.fault(field, "has a length that is not minimal")
        return length

    def _dotted(self, content: bytes, field: str) -> str:
        if not content or content[-1] & 0x80:
            raise self.fault(field, "is not an object identifier")
        arcs, arc = [], 0
        for byte in content:
            arc = arc << 7 | byte & 0x7F
            if arc >= _MAX_OID_ARC:
                raise self.fault(field, "has an arc above 64 bits")
            if not byte & 0x80:
                arcs.append(arc)
                arc = 0
        top = min(arcs[0] // 40, 2)
        return ".".join(map(str, (top, arcs[0] - 40 * top, *arcs[1:])))
