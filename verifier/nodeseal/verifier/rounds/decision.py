"""What a round means for a node: its next state, which leases end, what the next round must continue. Pure.

Appraisal says what the evidence proves. Here that meets what people decided, since only they end some states, and
the newer knowledge of the node, since rounds on two streams may overtake each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from nodeseal.appraisal.model import Appraisal, Baseline, Continuity
from nodeseal.boot.claims import BootClaims
from nodeseal.causes import EndCause
from nodeseal.findings import Finding
from nodeseal.ids import LeaseId
from nodeseal.verifier.fleet.boot_brief import BootBrief, brief
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.ledger.acts import LeaseEnded
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.ledger.documents import cut_findings, findings_document
from nodeseal.verifier.ledger.restrictions import MAX_GOLDENS, is_news, judged, kinds_of, lease_ends
from nodeseal.verifier.states import STICKY, NodeState
from nodeseal.verifier.store.leases import LeaseRecord
from nodeseal.verifier.store.nodes import NodeProgress, NodeStanding, StoredNode

_CLOCK: str = "the clock ran backwards"


class Good(NamedTuple):
    """A round that speaks for a node.

    Attributes:
        appraisal: its outcome.
        ak_name: TPM name of the attestation key that proved it.
        settled: the node must know of leases that started before this time.
        progress: what it has moved.
    """

    appraisal: Appraisal
    ak_name: bytes
    settled: datetime
    progress: NodeProgress


def is_steady(node: Node, appraisal: Appraisal) -> bool:
    """Tell whether a round changes nothing about the node but the end of trust: the hot path of a healthy fleet."""
    return (
        node.state is NodeState.TRUSTED
        and not node.overlay
        and _finds_the_same(node, appraisal)
        and appraisal.keeps_leases
        and appraisal.goldens[:MAX_GOLDENS] == node.goldens
    )


def claims_its_leases(node: Node, appraisal: Appraisal) -> bool:
    """Tell whether a node claims the leases that it is known to hold."""
    return node.leases.keys() == set(appraisal.claims.leases)


def _finds_the_same(node: Node, appraisal: Appraisal) -> bool:
    """Tell whether a round brings the warnings that are recorded, or none as before."""
    if not node.findings and not appraisal.findings:
        return True
    return kinds_of(node.findings) == kinds_of(cut_findings(appraisal.findings))


def standing_after(before: NodeStanding, appraisal: Appraisal) -> NodeStanding:
    """Return how a node stands after a round."""
    state = _state_after(before.state, appraisal)
    goldens = tuple(golden.digest for golden in appraisal.goldens)[:MAX_GOLDENS]
    findings = cut_findings(appraisal.findings)
    if state is NodeState.TRUSTED:
        return NodeStanding(state=state, findings=findings, goldens=goldens, trusted_until=appraisal.good_until)
    reason = _CLOCK if appraisal.quarantined and state is not before.state else before.reason
    return NodeStanding(state=state, reason=reason if state in STICKY else "", findings=findings, goldens=goldens)


def refused(before: NodeStanding, findings: tuple[Finding, ...]) -> NodeStanding:
    """Return how a node stands after evidence that is not authentic."""
    sticky = before.state in STICKY
    return NodeStanding(
        state=before.state if sticky else NodeState.UNTRUSTED,
        reason=before.reason if sticky else "",
        findings=cut_findings(findings),
    )


def takes_trust(before: NodeStanding, after: NodeStanding) -> bool:
    """Tell whether a judgement takes something away, so that it must hold before it is recorded."""
    if after.state is NodeState.TRUSTED or before.state is NodeState.RETIRED:
        return False
    if after.state is NodeState.QUARANTINED:
        return before.state is not NodeState.QUARANTINED
    return before.state in {NodeState.TRUSTED, NodeState.STALE, NodeState.REBOOTING} and after.state is not before.state


def decide_good(stored: StoredNode | None, running: Iterable[LeaseRecord], round_: Good) -> Decided[bool]:
    """Decide on the rows of the moment what a good round changes; the result tells whether the node is trusted."""
    if stored is None or stored.record.ak_name != round_.ak_name:  # it enrolled again while this waited
        return Decided(False)
    appraisal = round_.appraisal
    before, after = stored.standing, standing_after(stored.standing, appraisal)
    ended = tuple(_ends(tuple(running), round_)) if after.state is NodeState.TRUSTED else ()
    trusted = after.state is NodeState.TRUSTED
    if not ended and not is_news(before, after):
        return Decided(trusted)
    codes, document = findings_document(after.findings)
    act = judged(stored.record.node_id, before.state, after, codes, document.digest)
    progress = ((stored.record.node_id, round_.progress),)
    return Decided(trusted, (act, *ended), (document,), progress=progress)


def _ends(running: tuple[LeaseRecord, ...], round_: Good) -> Iterator[LeaseEnded]:
    if not round_.appraisal.keeps_leases:
        yield from lease_ends(running, EndCause.DISTRUST, "the node has rebooted")
        return
    claimed: set[LeaseId] = set(round_.appraisal.claims.leases)
    gone = [lease for lease in running if lease.lease_id not in claimed and lease.issued < round_.settled]
    yield from lease_ends(gone, None, "the node does not hold it any more")


def _state_after(state: NodeState, appraisal: Appraisal) -> NodeState:
    if state is NodeState.RETIRED:
        return state
    if appraisal.quarantined:
        return NodeState.QUARANTINED
    if state in STICKY:
        return state
    if appraisal.values_required:
        return NodeState.REBOOTING
    return NodeState.TRUSTED if appraisal.trusted else NodeState.UNTRUSTED


def boot_after(node: Node, appraisal: Appraisal) -> BootBrief | None:
    """Return the brief of the node's boot after a round; None after a reboot, until its log arrives."""
    booted = appraisal.detail(BootClaims)
    if booted is not None:
        return brief(booted)
    same_boot = appraisal.continuity is Continuity.CONTINUES
    return node.boot if same_boot else None


def later_baseline(known: Baseline | None, proved: Baseline, before: Baseline | None) -> Baseline:
    """Return the baseline that is further on in the TPM's time; rounds on two streams may end out of order.

    Counters can only be compared for equality, and a TPM never returns to earlier ones. So the baseline that still has
    the counters of ``before``, the baseline at the time of the challenge, is the earlier one.
    """
    if known is None:
        return proved
    counters, others = _counters(proved), _counters(known)
    if counters != others and before is not None and _counters(before) in {counters, others}:
        return known if counters == _counters(before) else proved
    return proved if _moment(proved) >= _moment(known) else known


def _counters(baseline: Baseline) -> tuple[int, int]:
    return baseline.clock_info.reset_count, baseline.clock_info.restart_count


def _moment(baseline: Baseline) -> tuple[tuple[int, int], int]:
    return _counters(baseline), baseline.clock_info.clock
