"""The memory of another process, as somebody with the right to read it finds it (proc(5), ``mem`` and ``maps``)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

_NULL_HIERARCHY = bytes.fromhex("40000007")
_CONTEXT = re.compile(rb"\x80\x00\x00[\x00-\x02]" + re.escape(_NULL_HIERARCHY) + rb"([\x01-\x0f].)", re.DOTALL)
"""TPMS_CONTEXT (TPM Library Part 2) of a key in the NULL hierarchy: savedHandle, hierarchy and the size of the blob."""


def regions(pid: int) -> Iterator[bytes]:
    """Yield what every readable mapping of a process holds."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *_ = line.split()
            start, end = (int(each, 16) for each in span.split("-"))
            if not rights.startswith("r") or end > 1 << 63:
                continue
            memory.seek(start)
            try:
                yield memory.read(end - start)
            except OSError:
                continue  # of the kernel's own, such as vvar


def saved_keys(pid: int) -> set[bytes]:
    """Return the private blobs of all saved keys of the NULL hierarchy in a process's memory."""
    found = set[bytes]()
    for region in regions(pid):
        for match in _CONTEXT.finditer(region):
            size = int.from_bytes(match[1], "big")
            blob = region[match.end() : match.end() + size]
            if len(blob) == size and len(set(blob)) > size // 16:  # random, not text or zeros
                found.add(blob)
    return found


def pieces_found(pid: int, blobs: Iterable[bytes], size: int = 32) -> int:
    """Return how many pieces of ``blobs``, of ``size`` bytes each, a process's memory holds."""
    pieces = {blob[at : at + size] for blob in blobs for at in range(0, len(blob) - size, len(blob) // 12)}
    pieces = {piece for piece in pieces if len(set(piece)) > size // 2}
    assert pieces
    present = set[bytes]()
    for region in regions(pid):
        present |= {piece for piece in pieces - present if piece in region}
    return len(present)
