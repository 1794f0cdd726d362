"""Changes of a node's state: decided on the state of the moment, recorded in one transaction, then in effect."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa

from nodeseal.causes import EndCause
from nodeseal.findings import Finding
from nodeseal.verifier.fleet.change import Change
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.ledger import audit
from nodeseal.verifier.states import NodeState
from nodeseal.verifier.store.leases import LeaseRecord, end_leases
from nodeseal.verifier.store.nodes import save_standing
from nodeseal.wire.findings import plain_findings


def is_news(node: Node, change: Change) -> bool:
    """Tell whether a change belongs into database and audit log, or only moves the end of trust."""
    after = change.standing
    same = after.state is node.state and after.reason == node.reason and _kinds(after.findings) == _kinds(node.findings)
    return bool(change.ended) or not same or change.goldens != node.goldens


def record_change(connection: sa.Connection, node: Node, change: Change, at: datetime) -> None:
    """Write a change with its audit records."""
    after = change.standing
    save_standing(connection, node.record.node_id, after)
    details = {
        "from": node.state.value,
        "to": after.state.value,
        "reason": after.reason,
        "findings": plain_findings(after.findings),
        "goldens": [golden.digest for golden in change.goldens],
        "trusted_until": after.trusted_until.isoformat() if after.trusted_until else "",
    }
    audit.append(
        connection, audit.Record(time=at, actor=change.actor, action="node.state", subject=node.actor, details=details)
    )
    record_ends(connection, change.ended, change.actor, change.end_reason, at)


def record_ends(connection: sa.Connection, ended: Iterable[LeaseRecord], actor: str, reason: str, at: datetime) -> None:
    """Write the ends of leases with their audit records."""
    leases = tuple(ended)
    end_leases(connection, (lease.lease_id for lease in leases), at, reason)
    for lease in leases:
        details = {
            "node_id": lease.node_id,
            "key_id": lease.key_id,
            "model_digest": lease.model_digest,
            "reason": reason,
        }
        subject = f"lease/{lease.lease_id}"
        audit.append(
            connection, audit.Record(time=at, actor=actor, action="lease.ended", subject=subject, details=details)
        )


def take_effect(node: Node, change: Change) -> None:
    """Let a recorded change hold, and tell the node which keys it must forget."""
    node.stand(change.standing)
    node.trusted_until_steady = change.trusted_until_steady
    node.goldens = change.goldens
    node.unrecorded = None
    if change.standing.baseline is None:
        node.baseline = None
    drop_leases(node, change.ended, change.end_reason, _cause(change.standing.state))


def drop_leases(node: Node, ended: Iterable[LeaseRecord], reason: str, cause: EndCause) -> None:
    """Forget leases whose end is recorded, and tell the node."""
    ids = tuple(lease.lease_id for lease in ended)
    for lease_id in ids:
        node.leases.pop(lease_id, None)
    if ids and node.stream is not None:
        node.stream.revoke(ids, reason, cause)


def restricted(node: Node, state: NodeState, reason: str, findings: tuple[Finding, ...], actor: str) -> Change:
    """Return the change that takes trust and every lease from a node."""
    standing = replace(node.standing(), state=state, reason=reason, findings=findings, trusted_until=None)
    why = "; ".join(finding.id.code for finding in findings) or reason
    return Change(standing=standing, actor=actor, ended=tuple(node.leases.values()), end_reason=f"{state.value}: {why}")


def _cause(state: NodeState) -> EndCause:
    """Return why leases end with a change to ``state``; of a node that stays trusted, those end that it gave up."""
    if state is NodeState.TRUSTED:
        return EndCause.REVOCATION
    return EndCause.SILENCE if state is NodeState.STALE else EndCause.DISTRUST


def _kinds(findings: Iterable[Finding]) -> set[tuple[str, str]]:
    return {(finding.id.code, finding.where) for finding in findings}
