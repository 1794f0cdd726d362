"""Restrictions that hold before they are recorded: an overlay on what the log says, which no fold lifts."""

from __future__ import annotations

from nodeseal.verifier.fleet.fold import close_retired, findings_of
from nodeseal.verifier.fleet.memory import Memory
from nodeseal.verifier.fleet.node import Node, no_wider
from nodeseal.verifier.ledger import acts
from nodeseal.verifier.ledger.projectors import standing_after
from nodeseal.verifier.ledger.restrictions import Restriction, ending_of
from nodeseal.verifier.states import NodeState


def put_in_force(memory: Memory, restriction: Restriction) -> None:
    """Let a restriction hold: trust and leases end now, and nodes are told."""
    match restriction.act:
        case acts.NodeJudged() | acts.NodeQuarantined() | acts.NodeRetired() as act:
            node = memory.nodes.get(act.node_id)
            if node is not None:
                _restrict(node, restriction, act)
        case acts.KeyRevoked() | acts.KeySuspended() as act:
            _withhold(memory, restriction, acts.key_subject(act.key_id))
        case acts.GrantWithdrawn() as act:
            memory.withhold(acts.grant_subject(act.key_id, act.node_id), restriction)
            if act.node_id in memory.nodes:
                _end_leases(memory.nodes[act.node_id], act)
        case acts.PersonSuspended(name=name):
            memory.withhold(acts.person_subject(name), restriction)
        case acts.GoldenRetired(digest=digest):
            memory.withhold(acts.golden_subject(digest), restriction)
        case acts.ModelRetired() as act:
            _withhold(memory, restriction, acts.model_subject(act.digest))


def _withhold(memory: Memory, restriction: Restriction, subject: str) -> None:
    """Withhold a key or model, and end its leases on all nodes."""
    memory.withhold(subject, restriction)
    for node in memory.nodes.values():
        _end_leases(node, restriction.act)


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
    node.overlay = (*node.overlay, (restriction, standing))
    if standing.state is not NodeState.STALE:
        node.trusted_until_steady = node.proved_until_steady = 0.0
    _end_leases(node, act)
    if isinstance(act, acts.NodeRetired):
        close_retired(node)


def _end_leases(node: Node, act: acts.Act) -> None:
    """Forget the leases of a node that end with a restriction, and tell the node."""
    ending = ending_of(act)
    if ending is not None:
        ended = tuple(lease.lease_id for lease in node.leases.values() if ending.takes(lease))
        node.ending |= frozenset(ended)
        node.end_leases(ended, ending.cause, ending.reason)
