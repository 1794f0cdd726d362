"""What a round means for a node: its next state, which leases end, what the next round must continue. Pure.

Appraisal says what the evidence proves. Here that meets what people decided, since only they end some states, and
the newer knowledge of the node, since rounds on two streams may overtake each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from nodeseal.appraisal.model import Appraisal, Baseline, Continuity
from nodeseal.boot.claims import BootClaims
from nodeseal.ids import LeaseId
from nodeseal.verifier.fleet.boot_brief import BootBrief, brief
from nodeseal.verifier.fleet.change import STICKY, Change
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.fleet.transition import restricted
from nodeseal.verifier.ledger import audit
from nodeseal.verifier.states import NodeState
from nodeseal.verifier.store.leases import LeaseRecord


def is_steady(node: Node, appraisal: Appraisal) -> bool:
    """Tell whether a round changes nothing but the end of trust: the hot path of a healthy fleet."""
    return (
        node.state is NodeState.TRUSTED
        and node.unrecorded is None
        and not node.findings
        and not appraisal.findings
        and appraisal.keeps_leases
        and appraisal.goldens == node.goldens
        and node.leases.keys() == set(appraisal.claims.leases)
    )


def change_after(node: Node, appraisal: Appraisal, trusted_until_steady: float, settled: datetime) -> Change:
    """Return what becomes of a node.

    Args:
        node: as it is now.
        appraisal: of the round.
        trusted_until_steady: end of trust if the round is good.
        settled: the node must know of leases that started before this time.
    """
    state = _state_after(node.state, appraisal)
    if state is not NodeState.TRUSTED:
        reason = "the clock ran backwards" if appraisal.quarantined and state is not node.state else node.reason
        return replace(
            restricted(node, state, reason if state in STICKY else "", appraisal.findings, audit.VERIFIER),
            goldens=appraisal.goldens,
        )
    standing = replace(
        node.standing(), state=state, reason="", findings=appraisal.findings, trusted_until=appraisal.good_until
    )
    if not appraisal.keeps_leases:
        ended, reason = tuple(node.leases.values()), "the node has rebooted"
    else:
        ended, reason = _not_held(node, appraisal.claims.leases, settled), "the node does not hold it any more"
    return Change(
        standing=standing,
        ended=ended,
        end_reason=reason,
        trusted_until_steady=trusted_until_steady,
        goldens=appraisal.goldens,
    )


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


def _not_held(node: Node, claimed: Iterable[LeaseId], settled: datetime) -> tuple[LeaseRecord, ...]:
    """Return leases that the node does not claim although it must have heard of them long ago."""
    held = set(claimed)
    return tuple(lease for lease in node.leases.values() if lease.lease_id not in held and lease.issued < settled)


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
