"""Damage that is certain: one bit of what it is given differs afterwards, whatever the bytes were."""

from __future__ import annotations

from pathlib import Path


def flipped(raw: bytes, at: int = -1) -> bytes:
    """Return ``raw`` with the lowest bit of one byte flipped."""
    changed = bytearray(raw)
    changed[at] ^= 1
    return bytes(changed)


def flip(path: Path, at: int = -1) -> None:
    """Flip the lowest bit of one byte of a file."""
    path.write_bytes(flipped(path.read_bytes(), at))
