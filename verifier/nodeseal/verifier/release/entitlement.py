"""Who may have which key: registered models, keys held here, grants and their limits, as the database has them now."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from nodeseal.errors import PolicyRefused
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import Digest, NodeId
from nodeseal.sealed.slots import Slot
from nodeseal.verifier.store.leases import LeaseRecord
from nodeseal.verifier.store.policy import KeyRecord, find_key, find_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a node asks for.

    Attributes:
        model_digest: which model.
        slots: its data key, sealed to one model key each.
    """

    model_digest: Digest
    slots: tuple[Slot, ...]


def select_slot(
    connection: sa.Connection, node_id: NodeId, wanted: Wanted
) -> tuple[tuple[Slot, KeyRecord] | None, list[Finding]]:
    """Choose the slot to open: the first whose key is held, not revoked and granted to the node."""
    findings = model_findings(connection, wanted.model_digest)
    held = held_slots(connection, wanted.slots)
    if not held:
        seen = ", ".join(f"{slot.key_id} version {slot.key_version}" for slot in wanted.slots) or "no slots"
        findings.append(_finding(FindingId.RELEASE_SLOT, "a slot of a key held here", seen, ""))
    usable = [(slot, key) for slot, key in held if _limit_of(key, node_id) > 0]
    if held and not usable:
        findings += [_not_granted(key, node_id) for _, key in held]
    return (usable[0] if usable and not findings else None), findings


def held_slots(connection: sa.Connection, slots: Iterable[Slot]) -> list[tuple[Slot, KeyRecord]]:
    """Return the slots that are sealed to keys of this verifier, with their keys; those may be revoked."""
    return [
        (slot, key)
        for slot in slots
        if (key := find_key(connection, slot.key_id)) is not None
        and (key.version, key.suite) == (slot.key_version, slot.suite.value)
    ]


def model_findings(connection: sa.Connection, digest: Digest) -> list[Finding]:
    """Say that a model is not registered, or not any more."""
    model = find_model(connection, digest)
    if model is None:
        return [_finding(FindingId.RELEASE_MODEL, "a registered model", "an unknown one", digest)]
    if model.retired is not None:
        since = model.retired.isoformat(timespec="seconds")
        return [_finding(FindingId.RELEASE_RETIRED, "a registered model", f"retired since {since}", digest)]
    return []


def refuse_unless_granted(connection: sa.Connection, lease: LeaseRecord, running: int) -> None:
    """Check, in the transaction that starts the lease, that people still allow it."""
    findings = model_findings(connection, lease.model_digest)
    key = find_key(connection, lease.key_id)
    limit = 0 if key is None else _limit_of(key, lease.node_id)
    if key is not None and limit == 0:
        findings.append(_not_granted(key, lease.node_id))
    elif running >= limit:
        findings.append(
            _finding(FindingId.RELEASE_LIMIT, f"at most {limit} leases", f"{running} running", lease.key_id)
        )
    if findings:
        raise PolicyRefused(*findings)


def _limit_of(key: KeyRecord, node_id: NodeId) -> int:
    """Return how many leases of a key a node may hold; a revoked key has no grants that count."""
    return 0 if key.revoked is not None else dict(key.grants).get(node_id, 0)


def _not_granted(key: KeyRecord, node_id: NodeId) -> Finding:
    seen = "the key was revoked" if key.revoked is not None else f"no grant for {node_id}"
    return _finding(FindingId.RELEASE_GRANT, "a grant of the model key", seen, key.key_id)


def _finding(which: FindingId, expected: str, seen: str, where: str) -> Finding:
    return Finding(id=which, expected=expected, seen=seen, where=where)
