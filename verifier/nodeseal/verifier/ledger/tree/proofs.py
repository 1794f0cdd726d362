"""Proofs from stored tiles. Each is verified before it is given out, so a changed tile is an error here already."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from nodeseal.errors import MalformedInput, NotFound, ProofFailed
from nodeseal.tlog.checkpoint import SignedCheckpoint
from nodeseal.tlog.tree import Subtrees, consistency_path, hash_leaf, inclusion_path, root_of, verify_inclusion
from nodeseal.verifier.ledger.tree.log_tree import tree_in
from nodeseal.verifier.store.acts import Filter, log_page
from nodeseal.verifier.store.tree import newest_checkpoint


class ProvedRecord(NamedTuple):
    """An act and its proof.

    Attributes:
        place: index of its leaf.
        path: inclusion proof.
        envelope: the leaf.
    """

    place: int
    path: tuple[bytes, ...]
    envelope: bytes


def prove_record(connection: sa.Connection, signed: SignedCheckpoint, sequence: int, size: int = 0) -> ProvedRecord:
    """Prove that the act with a number is in the tree of ``size`` leaves; 0: of the checkpoint.

    Raises:
        NotFound: there is no such act in that tree.
        MalformedInput: row or tile was changed.
    """
    first, index, size = _placed(connection, signed, sequence, size)
    rows = log_page(connection, Filter(after=sequence - 1), 1)
    tree = tree_in(connection, first)
    path = inclusion_path(index, size, tree.subtree)
    leaf: object = rows[0].envelope
    try:
        hashed = hash_leaf(leaf) if isinstance(leaf, bytes) else b""  # somebody may have written a text there
        verify_inclusion(hashed, index, size, _root(signed, size, tree.subtree), path)
    except ProofFailed as error:
        remedy = "restore the last backup that starts, and find out who can write to the database"
        raise MalformedInput(f"store: act {sequence} is not the leaf that was signed", remedy=remedy) from error
    return ProvedRecord(index, path, rows[0].envelope)


def prove_consistency(
    connection: sa.Connection, signed: SignedCheckpoint, old: int, size: int = 0
) -> tuple[bytes, ...]:
    """Prove that the tree of ``old`` leaves is the beginning of the one of ``size`` leaves; 0: of the checkpoint.

    Raises:
        NotFound: a tree of that size was not signed yet.
        MalformedInput: a tile was changed.
    """
    size = size or signed.checkpoint.size
    if not old <= size <= signed.checkpoint.size:
        raise NotFound(f"there is no tree of {old} leaves in one of {size}, or none of {size} was signed yet")
    return consistency_path(old, size, tree_in(connection, _first(connection)).subtree)


def _placed(connection: sa.Connection, signed: SignedCheckpoint, sequence: int, size: int) -> tuple[int, int, int]:
    first, size = _first(connection), size or signed.checkpoint.size
    index = sequence - 1 - first
    if not 0 <= index < size <= signed.checkpoint.size:
        remedy = f"this log has acts {first + 1} to {first + signed.checkpoint.size}; those before are in an older one"
        raise NotFound(f"there is no act {sequence} in the tree of {size} leaves", remedy=remedy)
    return first, index, size


def _root(signed: SignedCheckpoint, size: int, subtree: Subtrees) -> bytes:
    return signed.checkpoint.root if size == signed.checkpoint.size else root_of(size, subtree)


def _first(connection: sa.Connection) -> int:
    found = newest_checkpoint(connection)
    return found[0] if found else 0
