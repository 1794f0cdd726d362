"""Trees for tests: tiles in memory, and hashes by RFC 6962's own recursion."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from hashlib import sha256

from nodeseal.tlog.tiles import Tile, TiledTree, extended


@cache
def leaf(number: int) -> bytes:
    """Return the hash of a leaf."""
    return sha256(b"\0" + str(number).encode()).digest()


def leaves(size: int) -> list[bytes]:
    """Return the first leaf hashes."""
    return [leaf(number) for number in range(size)]


def root(hashes: Sequence[bytes]) -> bytes:
    """Return MTH of RFC 6962 §2.1, as it stands there."""
    if not hashes:
        return sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return sha256(b"\1" + root(hashes[:split]) + root(hashes[split:])).digest()


class MemoryTiles:
    """Tiles in memory.

    Attributes:
        tiles: by place.
        size: leaves so far.
    """

    def __init__(self, *batches: int) -> None:
        self.tiles: dict[Tile, bytes] = {}
        self.size = 0
        for batch in batches:
            self.grow(batch)

    def grow(self, count: int) -> None:
        """Add so many leaves."""
        added = [leaf(number) for number in range(self.size, self.size + count)]
        self.tiles |= extended(self.size, added, self.tiles.__getitem__)
        self.size += count

    def tree(self) -> TiledTree:
        """Return a tree that has read nothing yet."""
        return TiledTree(self.tiles.__getitem__)
