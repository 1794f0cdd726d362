"""Restrictions that hold before they are recorded: an overlay on what the log says, which no fold lifts."""

from __future__ import annotations

from nodeseal.causes import EndCause
from nodeseal.ids import KeyId, LeaseId
from nodeseal.verifier.fleet.fold import close_retired, findings_of
from nodeseal.verifier.fleet.memory import Memory
from nodeseal.verifier.fleet.node import Node, no_wider
from nodeseal.verifier.ledger import acts
from nodeseal.verifier.ledger.projectors import standing_after
from nodeseal.verifier.ledger.restrictions import Restriction
from nodeseal.verifier.states import NodeState


def put_in_force(memory: Memory, restriction: Restriction) -> None:
    """Let a restriction hold: trust and leases end now, and nodes are told."""
    match restriction.act:
        case acts.NodeJudged() | acts.NodeQuarantined() | acts.NodeRetired() as act:
            node = memory.nodes.get(act.node_id)
            if node is not None:
                _restrict(node, restriction, act)
        case acts.KeyRevoked(key_id=key_id, reason=reason):
            memory.withhold(acts.key_subject(key_id), restriction)
            for node in memory.nodes.values():
                _take_key(node, key_id, reason)
        case acts.GrantWithdrawn(key_id=key_id, node_id=node_id, reason=reason):
            memory.withhold(acts.grant_subject(key_id, node_id), restriction)
            if node_id in memory.nodes:
                _take_key(memory.nodes[node_id], key_id, reason)
        case acts.GoldenRetired(digest=digest):
            memory.withhold(acts.golden_subject(digest), restriction)
        case acts.ModelRetired(digest=digest):
            memory.withhold(acts.model_subject(digest), restriction)


def lift(memory: Memory, restriction: Restriction) -> None:
    """Let go of a restriction whose act was folded, or which has nothing to restrict any more."""
    memory.release(restriction)
    node_id = getattr(restriction.act, "node_id", None)
    if node_id in memory.nodes:
        node = memory.nodes[node_id]
        node.overlay = tuple(each for each in node.overlay if each[0] is not restriction)


def _restrict(
    node: Node, restriction: Restriction, act: acts.NodeJudged | acts.NodeQuarantined | acts.NodeRetired
) -> None:
    documents = dict(restriction.documents)
    findings = findings_of(documents, act.findings) if isinstance(act, acts.NodeJudged) else node.findings
    standing = no_wider(node.standing, standing_after(act, findings))
    stale = standing.state is NodeState.STALE
    ended = tuple(lease.lease_id for lease in node.leases.values() if not (stale and lease.silence_seconds))
    node.overlay = (*node.overlay, (restriction, standing))
    if not stale:
        node.trusted_until_steady = node.proved_until_steady = 0.0
    _end(node, ended, EndCause.SILENCE if stale else EndCause.DISTRUST, _why(act))
    if isinstance(act, acts.NodeRetired):
        close_retired(node)


def _why(act: acts.NodeJudged | acts.NodeQuarantined | acts.NodeRetired) -> str:
    codes = "; ".join(act.codes) if isinstance(act, acts.NodeJudged) else ""
    state = act.state.value if isinstance(act, acts.NodeJudged) else act.kind.removeprefix("node.")
    return f"{state}: {codes or act.reason}"


def _take_key(node: Node, key_id: KeyId, reason: str) -> None:
    ended = tuple(lease.lease_id for lease in node.leases.values() if lease.key_id == key_id)
    _end(node, ended, EndCause.REVOCATION, f"key {key_id} revoked: {reason}")


def _end(node: Node, leases: tuple[LeaseId, ...], cause: EndCause, reason: str) -> None:
    node.ending |= frozenset(leases)
    node.end_leases(leases, cause, reason)
