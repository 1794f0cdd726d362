"""The audit log of the releases before 0.2: closed, readable and verifiable as it was.

A record is a canonical JSON document with ``time``, ``actor``, ``action``, ``subject`` and ``details``; its leaf hash
is RFC 6962's, SHA-256 over 0x00 and the document. The first act of the log that followed names its size and root.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import sqlalchemy as sa

from nodeseal.verifier.store.schema import AUDIT


def page(connection: sa.Connection, after: int, limit: int) -> list[tuple[int, bytes, bytes]]:
    """Return up to ``limit`` records (sequence, leaf hash, content) after the sequence number ``after``."""
    query = sa.select(AUDIT).where(AUDIT.c.sequence > after).order_by(AUDIT.c.sequence).limit(limit)
    return [(row.sequence, row.leaf_hash, row.content) for row in connection.execute(query)]


def before_newest(connection: sa.Connection, count: int) -> int:
    """Return the sequence number behind which the newest ``count`` records lie; 0 if there are no more than those."""
    query = sa.select(AUDIT.c.sequence).order_by(AUDIT.c.sequence.desc()).offset(count).limit(1)
    return connection.scalar(query) or 0


def head(connection: sa.Connection) -> tuple[int, bytes]:
    """Return size and RFC 6962 root of the log; the root is empty without records."""
    query = sa.select(AUDIT.c.content).order_by(AUDIT.c.sequence)
    leaves = [sha256(b"\0" + row.content).digest() for row in connection.execute(query)]
    return len(leaves), tree_root(leaves) if leaves else b""


def tree_root(leaves: Sequence[bytes]) -> bytes:
    """Return the Merkle tree hash of leaf hashes (RFC 6962 §2.1), at least one of them."""
    level = list(leaves)
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        level = [sha256(b"\1" + left + right).digest() for left, right in pairs] + level[len(level) & ~1 :]
    return level[0]
