"""The transaction that starts a lease: decided on the state of its moment, and in the audit log before any answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa

from nodeseal.appraisal.model import Appraisal
from nodeseal.causes import EndCause
from nodeseal.errors import PolicyRefused
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import Digest
from nodeseal.verifier.fleet.fleet import Fleet, Transaction
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.fleet.transition import drop_leases, record_ends
from nodeseal.verifier.ledger import audit
from nodeseal.verifier.release.approval import Approved, Request, state_findings
from nodeseal.verifier.release.entitlement import Choice, Wanted, entitle, lease_rule
from nodeseal.verifier.store.leases import LeaseRecord, add_lease
from nodeseal.verifier.store.policy import KeyRecord, read_facts

_NOT_HELD: Final = "the node does not hold it any more"


def lease_start(
    fleet: Fleet, request: Request, approved: Approved, choice: Choice, lease: LeaseRecord
) -> Transaction[bytes]:
    """Prepare the start of a lease; its result is the leaf hash of the audit record.

    Leases of the same key that the node no longer claims end in the same transaction and make room.

    Raises:
        PolicyRefused: the node is not trusted any more, or a golden that it matched was retired. From the
            transaction itself: people have withdrawn model, key or grant, or the node holds too many leases.
    """
    node, wanted = request.node, Wanted(model_digest=lease.model_digest, slots=(choice.slot,))
    findings = [*state_findings(node, fleet.clock.steady()), *_golden_findings(fleet, approved.appraisal)]
    if findings:
        raise PolicyRefused(*findings)
    ended = _given_up(request, approved, lease)
    running = sum(held.key_id == lease.key_id for held in node.leases.values()) - len(ended)
    rule = lease_rule(lease.node_id, {lease.key_id: running})
    record = _record(lease, node, approved, choice.key)

    def work(connection: sa.Connection) -> bytes:
        entitle(read_facts(connection, wanted.model_digest, wanted.key_ids), wanted, rule).require()
        record_ends(connection, ended, node.actor, _NOT_HELD, lease.issued)
        leaf = audit.append(connection, record)
        add_lease(connection, lease)
        return leaf

    def effect(_: bytes) -> None:
        node.leases[lease.lease_id] = lease
        drop_leases(node, ended, _NOT_HELD, EndCause.REVOCATION)

    return Transaction(work=work, effect=effect)


def _given_up(request: Request, approved: Approved, lease: LeaseRecord) -> tuple[LeaseRecord, ...]:
    """Return the running leases of the same key that the node, asked after they started, does not claim."""
    claimed, asked = set(approved.appraisal.claims.leases), request.asked.challenge.issued
    return tuple(
        held
        for held in request.node.leases.values()
        if held.key_id == lease.key_id and held.lease_id not in claimed and held.issued < asked
    )


def _golden_findings(fleet: Fleet, appraisal: Appraisal) -> Iterator[Finding]:
    active = {golden.digest for golden in fleet.policy.goldens}
    for golden in appraisal.goldens:
        if golden.digest not in active:
            yield Finding(
                id=FindingId.RELEASE_STATE, expected="active goldens", seen="retired meanwhile", where=golden.digest
            )


def golden_digests(appraisal: Appraisal) -> tuple[Digest, ...]:
    """Return the goldens that the evidence matched, sorted."""
    return tuple(sorted(golden.digest for golden in appraisal.goldens))


def _record(lease: LeaseRecord, node: Node, approved: Approved, key: KeyRecord) -> audit.Record:
    details = {
        "node_id": lease.node_id,
        "ak_name": node.record.ak_name.hex(),
        "model_digest": lease.model_digest,
        "key_id": key.key_id,
        "key_version": key.version,
        "goldens": list(golden_digests(approved.appraisal)),
        "release_key_name": approved.release_key.name().hex(),
        "quote_sha256": approved.quote_sha256,
        "trusted_until": node.trusted_until.isoformat() if node.trusted_until else "",
    }
    subject = f"lease/{lease.lease_id}"
    return audit.Record(time=lease.issued, actor=node.actor, action="lease.issued", subject=subject, details=details)
