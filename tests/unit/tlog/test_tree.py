"""Trees, tiles and proofs: as RFC 6962 defines them, over tile borders, and no changed proof verifies."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.tlog.tiles import Tile, TiledTree, extended
from nodeseal.tlog.tree import (
    EMPTY_ROOT,
    consistency_path,
    hash_leaf,
    inclusion_path,
    root_of,
    root_of_leaves,
    verify_consistency,
    verify_inclusion,
)
from support.damage import flipped
from support.trees import MemoryTiles, leaf, leaves, root

TILES = MemoryTiles(1, 254, 1, 1, 255, 700)
SMALL = 70
ROOTS = [root(leaves(size)) for size in range(SMALL + 1)]


def test_the_roots_are_those_of_the_definition() -> None:
    assert hash_leaf(b"0") == leaf(0)
    assert [root_of(size, TILES.tree().subtree) for size in range(SMALL + 1)] == ROOTS
    assert [root_of_leaves(leaves(size)) for size in range(SMALL + 1)] == ROOTS
    for size in (255, 256, 257, 511, 512, 513, 768, 1212):
        assert root_of(size, TILES.tree().subtree) == root(leaves(size)) == root_of_leaves(leaves(size))
    assert ROOTS[0] == EMPTY_ROOT


def test_tiles_are_the_same_however_the_tree_grew() -> None:
    assert MemoryTiles(1212).tiles == TILES.tiles == MemoryTiles(*[101] * 12).tiles
    assert sorted(TILES.tiles) == [*(Tile(0, number) for number in range(5)), Tile(1, 0)]
    assert len(TILES.tiles[Tile(0, 4)]) == (1212 - 1024) * 32
    assert len(TILES.tiles[Tile(1, 0)]) == 4 * 32


def test_every_inclusion_proof_of_small_trees_verifies_and_proves_nothing_else() -> None:
    for size in range(1, SMALL + 1):
        for index in range(size):
            path = inclusion_path(index, size, TILES.tree().subtree)
            verify_inclusion(leaf(index), index, size, ROOTS[size], path)
            for other in {index + 1, index - 1, index ^ 2, size, -1} - {index}:
                with pytest.raises(ProofFailed):
                    verify_inclusion(leaf(index), other, size, ROOTS[size], path)


def test_every_consistency_proof_of_small_trees_verifies_and_proves_nothing_else() -> None:
    for size in range(SMALL + 1):
        for old in range(size + 1):
            path = consistency_path(old, size, TILES.tree().subtree)
            verify_consistency(old, ROOTS[old], size, ROOTS[size], path)
            for wrong in ((old, bytes(32), size, ROOTS[size]), (size + 1, ROOTS[old], size, ROOTS[size])):
                with pytest.raises(ProofFailed):
                    verify_consistency(*wrong, path)
            if old:
                with pytest.raises(ProofFailed):
                    verify_consistency(old, ROOTS[old], size, bytes(32), path)


@settings(max_examples=60)
@given(data=st.data())
def test_a_changed_proof_does_not_verify(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 1212))
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size - 1))
    tree = TILES.tree()
    root_now, root_then = root_of(size, tree.subtree), root_of(old, tree.subtree)
    path, proof = inclusion_path(index, size, tree.subtree), consistency_path(old, size, tree.subtree)
    verify_inclusion(leaf(index), index, size, root_now, path)
    verify_consistency(old, root_then, size, root_now, proof)
    at = data.draw(st.integers(0, len(path) - 1))
    for changed in (path[:-1], (*path, bytes(32)), (*path[:at], flipped(path[at]), *path[at + 1 :]), ()):
        with pytest.raises(ProofFailed):
            verify_inclusion(leaf(index), index, size, root_now, changed)
    at = data.draw(st.integers(0, len(proof) - 1))
    for changed in (proof[:-1], (*proof, bytes(32)), (*proof[:at], flipped(proof[at]), *proof[at + 1 :]), ()):
        with pytest.raises(ProofFailed):
            verify_consistency(old, root_then, size, root_now, changed)


def test_what_is_not_there_is_refused() -> None:
    tree = TILES.tree()
    with pytest.raises(MalformedInput, match="no leaf 5"):
        inclusion_path(5, 5, tree.subtree)
    with pytest.raises(MalformedInput, match="6 leaves is no beginning"):
        consistency_path(6, 5, tree.subtree)


@pytest.mark.parametrize("content", [b"", bytes(31), bytes(257 * 32)])
def test_a_tile_holds_whole_hashes(content: bytes) -> None:
    with pytest.raises(MalformedInput, match=f"tile 0 of level 0 has {len(content)} bytes"):
        TiledTree(lambda _: content).subtree(0, 0)


def test_a_tile_that_is_too_short_is_named() -> None:
    short = {Tile(0, 0): TILES.tiles[Tile(0, 0)][:320]}
    with pytest.raises(MalformedInput, match="tile 0 of level 0 is too short"):
        root_of(11, TiledTree(short.__getitem__).subtree)
    with pytest.raises(MalformedInput, match="tile 0 of level 0 is too short"):
        extended(11, [bytes(32)], short.__getitem__)
