"""Tiles (C2SP tlog-tiles): a tree as blobs of up to 256 hashes, eight levels of the tree each.

Tile ``number`` at ``level`` holds hashes of complete subtrees of ``256**level`` leaves. A full tile never changes. The
last one of a level grows until it is full.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final, NamedTuple, TypeAlias

from nodeseal.errors import MalformedInput
from nodeseal.tlog.tree import HASH_SIZE

TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 1 << TILE_HEIGHT
_TILE_SIZE: Final = TILE_WIDTH * HASH_SIZE


class Tile(NamedTuple):
    """A tile's place: level 0 holds leaf hashes."""

    level: int
    number: int


ReadTile: TypeAlias = Callable[[Tile], bytes]
"""Returns the hashes of a tile, as many as are stored."""


class TiledTree:
    """Hashes of complete subtrees, from tiles; reads each tile once.

    A proof needs disjoint parts of a tile, so what is hashed is not kept.

    Args:
        read: reads a stored tile.
    """

    def __init__(self, read: ReadTile) -> None:
        self._read: Final = read
        self._tiles: dict[Tile, bytes] = {}

    def subtree(self, level: int, index: int) -> bytes:
        """Return the hash of a complete subtree of ``2**level`` leaves.

        Raises:
            MalformedInput: a tile holds fewer hashes than the tree needs.
        """
        tile_level, height = divmod(level, TILE_HEIGHT)
        number, place = divmod(index << height, TILE_WIDTH)
        start, size = place * HASH_SIZE, HASH_SIZE << height
        part = self._tile(Tile(tile_level, number))[start : start + size]
        if len(part) < size:
            raise MalformedInput(f"log: tile {number} of level {tile_level} is too short")
        return _whole(part)

    def _tile(self, tile: Tile) -> bytes:
        known = self._tiles.get(tile)
        if known is None:
            known = self._read(tile)
            _count(known, tile)
            self._tiles[tile] = known
        return known


def _count(content: bytes, tile: Tile) -> int:
    """Return how many hashes a stored tile holds, which must be 1 to 256 whole ones."""
    count, rest = divmod(len(content), HASH_SIZE)
    if rest or not 1 <= count <= TILE_WIDTH:
        raise MalformedInput(f"log: tile {tile.number} of level {tile.level} has {len(content)} bytes")
    return count


def extended(size: int, leaves: Sequence[bytes], read: ReadTile) -> dict[Tile, bytes]:
    """Return the tiles that are new or longer once leaf hashes are added to a tree of ``size`` leaves.

    Raises:
        MalformedInput: a stored tile is too short for that size.
    """
    changed: dict[Tile, bytes] = {}
    level, added = 0, b"".join(leaves)
    while added:
        number, width = divmod(size, TILE_WIDTH)
        tile = Tile(level, number)
        held = read(tile) if width else b""
        if width and _count(held, tile) < width:
            raise MalformedInput(f"log: tile {number} of level {level} is too short")
        held, full = held[: width * HASH_SIZE] + added, []
        for at in range(0, len(held), _TILE_SIZE):
            part = held[at : at + _TILE_SIZE]
            changed[Tile(level, number + at // _TILE_SIZE)] = part
            if len(part) == _TILE_SIZE:
                full.append(_whole(part))
        level, size, added = level + 1, number, b"".join(full)
    return changed


def _whole(hashes: bytes) -> bytes:
    """Return the hash over a power of two of hashes that stand one behind the other (RFC 6962 §2.1)."""
    while len(hashes) > HASH_SIZE:
        pairs = range(0, len(hashes), 2 * HASH_SIZE)
        hashes = b"".join([sha256(b"\1" + hashes[at : at + 2 * HASH_SIZE]).digest() for at in pairs])
    return hashes
