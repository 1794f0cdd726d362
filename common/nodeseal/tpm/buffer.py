"""Bounds-checked reading, and writing, of the TPM 2.0 wire format (TPM Library Part 2).

Integers are big-endian and nothing is aligned. :class:`Reader` never reads past its bytes and never allocates by a
length that it has not checked. Its errors name the structure, the field and the offset.
"""

from __future__ import annotations

import struct
from typing import Any

from nodeseal.errors import MalformedInput

MAX_DIGEST = 64
"""Largest TPM2B_DIGEST: SHA-512."""
MAX_NAME = 66
"""Largest TPM2B_NAME and TPM2B_DATA: a TPMT_HA, two bytes of algorithm and SHA-512."""


class Reader:
    """Cursor over the bytes of one structure.

    Args:
        raw: the bytes.
        what: name of the structure, for errors.

    Raises:
        MalformedInput: from every method: the bytes end early, or there are too many.
    """

    __slots__ = ("_at", "_raw", "_what")

    def __init__(self, raw: bytes, what: str) -> None:
        self._raw = raw
        self._what = what
        self._at = 0

    def fault(self, field: str, problem: str) -> MalformedInput:
        """Return the error for a problem of ``field``."""
        return MalformedInput(f"{self._what}: {field} {problem}, before byte {self._at} of {len(self._raw)}")

    def rest(self) -> bytes:
        """Read the remaining bytes."""
        start = self._at
        self._at = len(self._raw)
        return self._raw[start:]

    def unpack(self, layout: struct.Struct, field: str) -> tuple[Any, ...]:
        """Read neighbouring fields of fixed size."""
        at = self._at
        self._at = at + layout.size
        if self._at > len(self._raw):
            raise self.fault(field, "is cut off")
        return layout.unpack_from(self._raw, at)

    def take(self, size: int, field: str) -> bytes:
        """Read ``size`` bytes."""
        at = self._at
        self._at = at + size
        if self._at > len(self._raw):
            raise self.fault(field, f"is cut off ({size} bytes declared)")
        return self._raw[at : self._at]

    def u8(self, field: str) -> int:
        """Read a UINT8."""
        return self.take(1, field)[0]

    def u16(self, field: str) -> int:
        """Read a UINT16."""
        return int.from_bytes(self.take(2, field), "big")

    def u32(self, field: str) -> int:
        """Read a UINT32."""
        return int.from_bytes(self.take(4, field), "big")

    def sized(self, field: str, maximum: int) -> bytes:
        """Read a TPM2B: a size (UINT16, at most ``maximum``) and that many bytes."""
        raw, start = self._raw, self._at + 2
        size = int.from_bytes(raw[start - 2 : start], "big")
        if size > maximum:
            raise self.fault(field, f"declares {size} bytes, at most {maximum}")
        self._at = start + size
        if self._at > len(raw):
            raise self.fault(field, f"is cut off ({size} bytes declared)")
        return raw[start : self._at]

    def end(self) -> None:
        """Check that no bytes are left."""
        if self._at != len(self._raw):
            raise MalformedInput(f"{self._what}: {len(self._raw) - self._at} bytes too many at its end")


def u8(value: int) -> bytes:
    """Return a UINT8."""
    return value.to_bytes(1, "big")


def u16(value: int) -> bytes:
    """Return a UINT16."""
    return value.to_bytes(2, "big")


def u32(value: int) -> bytes:
    """Return a UINT32."""
    return value.to_bytes(4, "big")


def sized(content: bytes) -> bytes:
    """Return a TPM2B: ``content`` behind its size as UINT16."""
    return len(content).to_bytes(2, "big") + content
