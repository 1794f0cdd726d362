"""Leases in the database: which node holds which model's data key, since when, and why it ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from nodeseal.ids import Digest, KeyId, LeaseId, NodeId
from nodeseal.verifier.store.rows import read_records
from nodeseal.verifier.store.schema import LEASES


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRecord:
    """A running lease.

    Attributes:
        lease_id: random.
        node_id: the node that holds it.
        key_id: the model key whose slot was opened.
        model_digest: the model that it opens.
        issued: when it started.
    """

    lease_id: LeaseId
    node_id: NodeId
    key_id: KeyId
    model_digest: Digest
    issued: datetime


def running_leases(connection: sa.Connection) -> list[LeaseRecord]:
    """Return every lease that has not ended."""
    query = sa.select(
        LEASES.c.lease_id, LEASES.c.node_id, LEASES.c.key_id, LEASES.c.model_digest, LEASES.c.issued
    ).where(LEASES.c.ended.is_(None))
    return read_records(connection, query, LeaseRecord)


def add_lease(connection: sa.Connection, lease: LeaseRecord) -> None:
    """Start a lease."""
    connection.execute(
        LEASES.insert().values(
            lease_id=lease.lease_id,
            node_id=lease.node_id,
            key_id=lease.key_id,
            model_digest=lease.model_digest,
            issued=lease.issued,
        )
    )


def end_leases(connection: sa.Connection, leases: Iterable[LeaseId], at: datetime, reason: str) -> None:
    """Mark leases as ended."""
    for lease in leases:
        connection.execute(
            LEASES.update()
            .where(LEASES.c.lease_id == lease, LEASES.c.ended.is_(None))
            .values(ended=at, end_reason=reason)
        )
