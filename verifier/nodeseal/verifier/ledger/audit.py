"""Audit records: who did what to whom, appended in the transaction that does it.

A record is a canonical JSON document; its leaf hash is RFC 6962's, SHA-256 over 0x00 and the document. A record is
on disk before anybody outside sees the effect it describes (DESIGN §9).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from nodeseal.documents import encode_json
from nodeseal.verifier.store.schema import AUDIT

VERIFIER: Final = "verifier"
"""The actor of what no person and no node asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One thing that happened.

    Attributes:
        time: when.
        actor: ``person/NAME``, ``node/ID`` or ``verifier``.
        action: stable name, such as ``lease.issued``.
        subject: what it happened to, in the actor's spelling.
        details: the facts, as JSON values.
    """

    time: datetime
    actor: str
    action: str
    subject: str
    details: Mapping[str, object]

    def encode(self) -> bytes:
        """Return the canonical JSON (RFC 8785)."""
        return encode_json(
            {
                "action": self.action,
                "actor": self.actor,
                "details": dict(self.details),
                "subject": self.subject,
                "time": self.time.isoformat(timespec="microseconds"),
            }
        )


def leaf_hash(content: bytes) -> bytes:
    """Return the Merkle tree leaf hash of a record (RFC 6962 §2.1)."""
    return hashlib.sha256(b"\0" + content).digest()


def append(connection: sa.Connection, record: Record) -> bytes:
    """Add a record to the log in the caller's transaction; return its leaf hash."""
    content = record.encode()
    leaf = leaf_hash(content)
    connection.execute(AUDIT.insert().values(leaf_hash=leaf, content=content))
    return leaf


def page(connection: sa.Connection, after: int, limit: int) -> list[tuple[int, bytes, bytes]]:
    """Return up to ``limit`` records (sequence, leaf hash, content) after the sequence number ``after``."""
    query = sa.select(AUDIT).where(AUDIT.c.sequence > after).order_by(AUDIT.c.sequence).limit(limit)
    return [(row.sequence, row.leaf_hash, row.content) for row in connection.execute(query)]


def before_newest(connection: sa.Connection, count: int) -> int:
    """Return the sequence number behind which the newest ``count`` records lie; 0 if there are no more than those."""
    query = sa.select(AUDIT.c.sequence).order_by(AUDIT.c.sequence.desc()).offset(count).limit(1)
    return connection.scalar(query) or 0
