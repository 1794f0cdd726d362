"""Tiles (C2SP tlog-tiles): a tree as blobs of up to 256 hashes, eight levels of the tree each.

Tile ``number`` at ``level`` holds hashes of complete subtrees of ``256**level`` leaves. A full tile never changes. The
last one of a level grows until it is full.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

from nodeseal.errors import MalformedInput
from nodeseal.tlog.tree import HASH_SIZE, hash_node

TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 1 << TILE_HEIGHT


class Tile(NamedTuple):
    """A tile's place: level 0 holds leaf hashes."""

    level: int
    number: int


ReadTile: TypeAlias = Callable[[Tile], bytes]
"""Returns the hashes of a tile, as many as are stored."""


class TiledTree:
    """Hashes of complete subtrees, from tiles; reads and hashes each tile once.

    Args:
        read: reads a stored tile.
    """

    def __init__(self, read: ReadTile) -> None:
        self._read: Final = read
        self._levels: dict[Tile, list[bytes]] = {}
        self._inner: dict[tuple[Tile, int], list[bytes]] = {}

    def subtree(self, level: int, index: int) -> bytes:
        """Return the hash of a complete subtree of ``2**level`` leaves.

        Raises:
            MalformedInput: a tile holds fewer hashes than the tree needs.
        """
        tile_level, height = divmod(level, TILE_HEIGHT)
        number, place = divmod(index << height, TILE_WIDTH)
        hashes = self._above(Tile(tile_level, number), height)
        place >>= height
        if place >= len(hashes):
            raise MalformedInput(f"log: tile {number} of level {tile_level} is too short")
        return hashes[place]

    def _above(self, tile: Tile, height: int) -> list[bytes]:
        """Return the hashes of complete subtrees ``height`` levels above those of a tile."""
        if height == 0:
            return self._hashes(tile)
        known = self._inner.get((tile, height))
        if known is None:
            below = self._above(tile, height - 1)
            known = [hash_node(below[at], below[at + 1]) for at in range(0, len(below) - 1, 2)]
            self._inner[tile, height] = known
        return known

    def _hashes(self, tile: Tile) -> list[bytes]:
        known = self._levels.get(tile)
        if known is None:
            known = self._levels[tile] = split_tile(self._read(tile), tile)
        return known


def split_tile(content: bytes, tile: Tile) -> list[bytes]:
    """Return the hashes of a stored tile.

    Raises:
        MalformedInput: it does not hold 1 to 256 whole hashes.
    """
    count, rest = divmod(len(content), HASH_SIZE)
    if rest or not 1 <= count <= TILE_WIDTH:
        raise MalformedInput(f"log: tile {tile.number} of level {tile.level} has {len(content)} bytes")
    return [content[at : at + HASH_SIZE] for at in range(0, len(content), HASH_SIZE)]


def extended(size: int, leaves: Sequence[bytes], read: ReadTile) -> dict[Tile, bytes]:
    """Return the tiles that are new or longer once leaf hashes are added to a tree of ``size`` leaves.

    Raises:
        MalformedInput: a stored tile is too short for that size.
    """
    changed: dict[Tile, bytes] = {}
    level, hashes = 0, list(leaves)
    while hashes:
        number, width = divmod(size, TILE_WIDTH)
        held = split_tile(read(Tile(level, number)), Tile(level, number))[:width] if width else []
        if len(held) < width:
            raise MalformedInput(f"log: tile {number} of level {level} is too short")
        held += hashes
        full: list[bytes] = []
        for at in range(0, len(held), TILE_WIDTH):
            part = held[at : at + TILE_WIDTH]
            changed[Tile(level, number + at // TILE_WIDTH)] = b"".join(part)
            if len(part) == TILE_WIDTH:
                full.append(_whole(part))
        level, size, hashes = level + 1, number, full
    return changed


def _whole(hashes: list[bytes]) -> bytes:
    """Return the hash over a full tile."""
    while len(hashes) > 1:
        hashes = [hash_node(hashes[at], hashes[at + 1]) for at in range(0, len(hashes), 2)]
    return hashes[0]
