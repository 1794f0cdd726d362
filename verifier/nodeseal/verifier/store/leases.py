"""Leases in the database: which node holds which model's data key, since when, and why it ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from nodeseal.ids import Digest, KeyId, LeaseId, NodeId
from nodeseal.verifier.store.prepared import Prepared
from nodeseal.verifier.store.rows import read_records
from nodeseal.verifier.store.schema import LEASES

_NAMES: Final = ("lease_id", "node_id", "key_id", "model_digest", "issued", "silence_seconds")
_RUNNING: Final = (
    sa.select(*(LEASES.c[name] for name in _NAMES)).where(LEASES.c.ended.is_(None)).order_by(LEASES.c.lease_id)
)
_OF_NODE: Final = _RUNNING.where(LEASES.c.node_id == sa.bindparam("node"))
_OF_KEY: Final = _RUNNING.where(LEASES.c.key_id == sa.bindparam("key"))
_OF_BOTH: Final = _OF_NODE.where(LEASES.c.key_id == sa.bindparam("key"))
_ADD_LEASE: Final = Prepared(LEASES.insert(), *_NAMES)
_END_LEASE: Final = Prepared(
    LEASES.update()
    .where(LEASES.c.lease_id == sa.bindparam("lease"), LEASES.c.ended.is_(None))
    .values(ended=sa.bindparam("at"), cause=sa.bindparam("why"), end_reason=sa.bindparam("text"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRecord:
    """A running lease.

    Attributes:
        lease_id: random.
        node_id: the node that holds it.
        key_id: the model key whose slot was opened.
        model_digest: the model that it opens.
        issued: when it started.
        silence_seconds: how long it survives silence of the verifier.
    """

    lease_id: LeaseId
    node_id: NodeId
    key_id: KeyId
    model_digest: Digest
    issued: datetime
    silence_seconds: int = 0


def running_leases(
    connection: sa.Connection, node_id: NodeId | None = None, key_id: KeyId | None = None
) -> list[LeaseRecord]:
    """Return every lease that has not ended, of one node or key if they are named."""
    if node_id is not None and key_id is not None:
        return read_records(connection, _OF_BOTH, LeaseRecord, {"node": node_id, "key": key_id})
    if node_id is not None:
        return read_records(connection, _OF_NODE, LeaseRecord, {"node": node_id})
    if key_id is not None:
        return read_records(connection, _OF_KEY, LeaseRecord, {"key": key_id})
    return read_records(connection, _RUNNING, LeaseRecord)


def add_lease(connection: sa.Connection, lease: LeaseRecord) -> None:
    """Start a lease."""
    _ADD_LEASE.run(connection, {name: getattr(lease, name) for name in _NAMES})


def end_lease(connection: sa.Connection, lease_id: LeaseId, at: datetime, cause: str | None, reason: str) -> None:
    """Mark a lease as ended."""
    _END_LEASE.run(connection, {"lease": lease_id, "at": at, "why": cause, "text": reason})
