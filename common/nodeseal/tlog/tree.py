"""Merkle trees of a log (RFC 6962 §2.1): hashes, inclusion and consistency proofs, and their verification.

Verification follows RFC 9162 §2.1.3.2 and §2.1.4.2. A proof is made from *subtrees*: a function that returns the hash
of the ``index``-th complete subtree of ``2**level`` leaves.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Final, TypeAlias

from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.findings import Finding, FindingId

HASH_SIZE: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()
MAX_TREE: Final = 2**53 - 1
"""Largest number of leaves."""

Subtrees: TypeAlias = Callable[[int, int], bytes]
"""Returns the hash of a complete subtree by its level and its index at that level."""


def hash_leaf(leaf: bytes) -> bytes:
    """Return the hash of a leaf."""
    return sha256(b"\0" + leaf).digest()


def hash_node(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return sha256(b"\1" + left + right).digest()


def root_of(size: int, subtree: Subtrees) -> bytes:
    """Return the root of the first ``size`` leaves."""
    return _hash_range(0, size, subtree) if size else EMPTY_ROOT


def root_of_leaves(leaves: Sequence[bytes]) -> bytes:
    """Return the root over leaf hashes that are all in memory."""
    level = list(leaves)
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        level = [hash_node(left, right) for left, right in pairs] + level[len(level) & ~1 :]
    return level[0] if level else EMPTY_ROOT


class RootBuilder:
    """Computes the root over leaf hashes that come one after the other.

    Attributes:
        size: leaves so far.
    """

    def __init__(self) -> None:
        self.size = 0
        self._complete: list[bytes] = []

    def add(self, leaf: bytes) -> None:
        """Add a leaf hash."""
        size, found = self.size, leaf
        while size & 1:
            found = hash_node(self._complete.pop(), found)
            size >>= 1
        self._complete.append(found)
        self.size += 1

    def root(self) -> bytes:
        """Return the root over the leaves so far."""
        if not self._complete:
            return EMPTY_ROOT
        *rest, found = self._complete
        for left in reversed(rest):
            found = hash_node(left, found)
        return found


def inclusion_path(index: int, size: int, subtree: Subtrees) -> tuple[bytes, ...]:
    """Return the proof that leaf ``index`` is in the tree of ``size`` leaves, from the leaf's sibling upwards.

    Raises:
        MalformedInput: there is no such leaf.
    """
    if not 0 <= index < size:
        raise MalformedInput(f"there is no leaf {index} in a tree of {size}")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_hash_range(middle, end, subtree))
            end = middle
        else:
            path.append(_hash_range(start, middle, subtree))
            start = middle
    return tuple(reversed(path))


def consistency_path(old: int, size: int, subtree: Subtrees) -> tuple[bytes, ...]:
    """Return the proof that the tree of ``old`` leaves is the beginning of the tree of ``size`` leaves.

    Raises:
        MalformedInput: the old tree is larger.
    """
    if not 0 <= old <= size:
        raise MalformedInput(f"a tree of {old} leaves is no beginning of one of {size}")
    if old in {0, size}:
        return ()
    path: list[bytes] = []
    start, end, whole = 0, size, True
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(_hash_range(middle, end, subtree))
            end = middle
        else:
            path.append(_hash_range(start, middle, subtree))
            start, whole = middle, False
    if not whole:
        path.append(_hash_range(start, end, subtree))
    return tuple(reversed(path))


def verify_inclusion(leaf: bytes, index: int, size: int, root: bytes, path: Sequence[bytes]) -> None:
    """Verify that a leaf hash is leaf ``index`` of the tree with this size and root.

    Raises:
        ProofFailed: ``log.proof``.
    """
    if not 0 <= index < size:
        raise _failed(f"a leaf below {size}", f"leaf {index}")
    node, last = index, size - 1
    found = leaf
    for sibling in path:
        if last == 0:
            raise _failed("a shorter path", f"{len(path)} hashes")
        if node & 1 or node == last:
            found = hash_node(sibling, found)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            found = hash_node(found, sibling)
        node, last = node >> 1, last >> 1
    if last or not hmac.compare_digest(found, root):
        raise _failed(f"a path from leaf {index} to the root of {size} leaves", "one that does not lead there")


def verify_consistency(old: int, old_root: bytes, size: int, root: bytes, path: Sequence[bytes]) -> None:
    """Verify that the tree with the first size and root is the beginning of the one with the second.

    Raises:
        ProofFailed: ``log.proof``.
    """
    if not 0 <= old <= size:
        raise _failed(f"a tree of at most {size} leaves", f"{old} leaves")
    if old in {0, size}:
        _require_same(old_root, EMPTY_ROOT if old == 0 else root, path)
        return
    if not path:
        raise _failed("a consistency proof", "none")
    hashes = iter(path if old & (old - 1) else (old_root, *path))
    node, last = old - 1, size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    first = second = next(hashes)
    for sibling in hashes:
        if last == 0:
            raise _failed("a shorter proof", f"{len(path)} hashes")
        if node & 1 or node == last:
            first, second = hash_node(sibling, first), hash_node(sibling, second)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            second = hash_node(second, sibling)
        node, last = node >> 1, last >> 1
    if last or not hmac.compare_digest(first, old_root) or not hmac.compare_digest(second, root):
        raise _failed(f"a proof that {old} leaves are the beginning of {size}", "one that does not lead there")


def _require_same(found: bytes, expected: bytes, path: Sequence[bytes]) -> None:
    if path or not hmac.compare_digest(found, expected):
        raise _failed("the same root, and no hashes", f"{len(path)} hashes, or another root")


def _split(count: int) -> int:
    """Return the largest power of two below ``count``."""
    return 1 << (count - 1).bit_length() - 1


def _hash_range(start: int, end: int, subtree: Subtrees) -> bytes:
    """Return the hash over the leaves from ``start`` to ``end``, where ``start`` is where RFC 6962 splits a tree."""
    *rest, last = _complete(start, end)
    found = subtree(*last)
    for part in reversed(rest):
        found = hash_node(subtree(*part), found)
    return found


def _complete(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the complete subtrees of a range, the largest first, by level and index."""
    while start < end:
        level = (end - start).bit_length() - 1
        yield level, start >> level
        start += 1 << level


def _failed(expected: str, seen: str) -> ProofFailed:
    return ProofFailed(Finding(id=FindingId.LOG_PROOF, expected=expected, seen=seen))
