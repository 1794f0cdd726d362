"""Rounds: asks a node for evidence, appraises the answer, and acts on the outcome.

Attestation streams and releases use the same rounds, so evidence counts for and against a node wherever it came in.
A steady round (same state, same goldens, no findings, leases as expected) touches memory only and allocates little.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.evidence import Channel, Evidence, Purpose, qualifying_data
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import LeaseId, Nonce
from nodeseal.tcg.attest import decode_attest
from nodeseal.verifier import audit
from nodeseal.verifier.appraisal.appraise import appraise
from nodeseal.verifier.appraisal.model import Appraisal, Baseline, Challenge, KnownNode
from nodeseal.verifier.changes import STICKY, Change, restricted
from nodeseal.verifier.fleet import Fleet
from nodeseal.verifier.nodes import Node, Verdict
from nodeseal.verifier.store.leases import Lease
from nodeseal.verifier.store.schema import NodeState

NONCE_SIZE: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A challenge that went out.

    Attributes:
        challenge: what was asked.
        known: what was known of the node then. Rounds on two streams may overtake each other, so a quote must
            continue what was proved before its own challenge, not what came in since.
        at: steady time.
    """

    challenge: Challenge
    known: KnownNode
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The outcome of a round.

    Attributes:
        verdict: for the node.
        appraisal: None when the evidence was not even authentic.
        unknown: leases that the node claims and must forget.
        again: whether to challenge again at once, for values.
    """

    verdict: Verdict
    appraisal: Appraisal | None = None
    unknown: tuple[LeaseId, ...] = ()
    again: bool = False


class Rounds:
    """Asks and judges the nodes of one fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet: Final = fleet
        self.clock: Final = fleet.clock
        self.settings: Final = fleet.settings
        self._answer_within: Final = timedelta(seconds=self.settings.answer_within_seconds)
        # Counted from when the node received the challenge, so it ends before the verifier's own count does.
        self._trusted_for_ms: Final = (self.settings.trust_seconds - self.settings.answer_within_seconds) * 1000

    def ask(self, node: Node, purpose: Purpose, channel: Channel) -> Asked:
        """Make a fresh challenge."""
        issued = self.clock.wall()
        challenge = Challenge(
            nonce=Nonce(secrets.token_bytes(NONCE_SIZE)),
            purpose=purpose,
            selection=self.settings.selection,
            issued=issued,
            answer_by=issued + self._answer_within,
            channel=channel,
        )
        known = KnownNode(keys=node.keys, baseline=node.baseline)
        return Asked(challenge=challenge, known=known, at=self.clock.steady())

    async def judge(self, node: Node, evidence: Evidence, asked: Asked) -> Judged:
        """Appraise a round and act on it. Whoever calls sees to it that each challenge comes here once.

        Raises:
            ProofFailed: ``quote.nonce``: the answer is late, or the node has enrolled again since it was asked, so it
                speaks neither for nor against the node.
            Unavailable: the node would be trusted again, but that cannot be recorded now.
        """
        if not _still_enrolled(node, asked):
            raise ProofFailed(unasked("an answer by a key that was replaced since"))
        # The steady clock moves the challenge's own time on: setting the machine's time makes no answer late.
        now = asked.challenge.issued + timedelta(seconds=self.clock.steady() - asked.at)
        if now > asked.challenge.answer_by:
            raise ProofFailed(unasked("an answer after its time"))
        try:
            appraisal = appraise(evidence, asked.challenge, asked.known, self._fleet.policy, now)
        except ProofFailed as error:
            replayed = _answers(node.answered, asked.challenge.purpose, evidence)
            return await self._refuse(node, (unasked("an earlier answer"),) if replayed else error.findings)
        except MalformedInput as error:
            finding = Finding(id=FindingId.QUOTE_MALFORMED, expected="evidence that parses", seen=str(error))
            return await self._refuse(node, (finding,))
        node.baseline = _later(node.baseline, appraisal.baseline)
        node.last_seen, node.answered = now, asked.challenge
        await self._conclude(node, appraisal, asked)
        return Judged(
            verdict=self._verdict(node, appraisal),
            appraisal=appraisal,
            unknown=tuple(lease for lease in appraisal.claims.leases if lease not in node.leases),
            again=appraisal.values_required,
        )

    async def _refuse(self, node: Node, findings: tuple[Finding, ...]) -> Judged:
        def decide(node: Node) -> Change:
            state = node.state if node.state in STICKY else NodeState.UNTRUSTED
            return restricted(node, state, node.reason, findings, audit.VERIFIER)

        await self._fleet.restrict(node, decide)
        state = node.state if node.state in STICKY else NodeState.UNTRUSTED
        return Judged(verdict=Verdict(state=state, trusted_until=None, trusted_for_ms=0, findings=findings))

    async def _conclude(self, node: Node, appraisal: Appraisal, asked: Asked) -> None:
        trust_ends = asked.at + self.settings.trust_seconds
        self._fleet.touch(node)
        if _is_steady(node, appraisal):
            if trust_ends > node.trust_ends:
                node.trust_ends, node.trusted_until = trust_ends, appraisal.believable_until
            return

        def decide(node: Node) -> Change | None:
            if not _still_enrolled(node, asked):  # while this waited for its turn
                return None
            return _decide(node, appraisal, trust_ends, asked.challenge.issued - self._answer_within)

        if appraisal.trusted and node.unrecorded is None:
            await self._fleet.change(node, decide)
        else:
            await self._fleet.restrict(node, decide)

    def _verdict(self, node: Node, appraisal: Appraisal) -> Verdict:
        trusted = node.trusted(self.clock.steady())
        state = node.state if trusted or node.state is not NodeState.TRUSTED else NodeState.UNTRUSTED
        return Verdict(
            state=state,
            trusted_until=node.trusted_until if trusted else None,
            trusted_for_ms=self._trusted_for_ms if trusted else 0,
            findings=appraisal.findings,
        )


def _still_enrolled(node: Node, asked: Asked) -> bool:
    """Tell whether the attestation key that was asked is the one that speaks for the node now."""
    return node.keys is asked.known.keys


def _answers(challenge: Challenge | None, purpose: Purpose, evidence: Evidence) -> bool:
    """Tell whether evidence that was refused is bound to ``challenge``, which was answered before."""
    if challenge is None or challenge.purpose is not purpose:
        return False
    try:
        extra_data = decode_attest(evidence.attest).extra_data
    except MalformedInput:
        return False
    return extra_data == qualifying_data(purpose, challenge.nonce, challenge.channel, evidence.claims)


def unasked(seen: str) -> Finding:
    """Return the finding for evidence that answers no open challenge."""
    return Finding(id=FindingId.QUOTE_NONCE, expected="one answer to each challenge, in time", seen=seen)


def _is_steady(node: Node, appraisal: Appraisal) -> bool:
    return (
        node.state is NodeState.TRUSTED
        and node.unrecorded is None
        and not node.findings
        and not appraisal.findings
        and appraisal.keeps_leases
        and appraisal.goldens == node.goldens
        and node.leases.keys() == set(appraisal.claims.leases)
    )


def _decide(node: Node, appraisal: Appraisal, trust_ends: float, settled: datetime) -> Change:
    state = _state_after(node.state, appraisal)
    if state is not NodeState.TRUSTED:
        reason = "the clock ran backwards" if appraisal.quarantined and state is not node.state else node.reason
        return replace(
            restricted(node, state, reason if state in STICKY else "", appraisal.findings, audit.VERIFIER),
            goldens=appraisal.goldens,
        )
    standing = replace(
        node.standing(), state=state, reason="", findings=appraisal.findings, trusted_until=appraisal.believable_until
    )
    if not appraisal.keeps_leases:
        ended, reason = tuple(node.leases.values()), "the node has rebooted"
    else:
        ended, reason = _not_held(node, appraisal.claims.leases, settled), "the node does not hold it any more"
    return Change(standing=standing, ended=ended, end_reason=reason, trust_ends=trust_ends, goldens=appraisal.goldens)


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


def _not_held(node: Node, claimed: Iterable[LeaseId], settled: datetime) -> tuple[Lease, ...]:
    """Return leases that the node does not claim although it must have heard of them long ago."""
    held = set(claimed)
    return tuple(lease for lease in node.leases.values() if lease.lease_id not in held and lease.issued < settled)


def _later(known: Baseline | None, proved: Baseline) -> Baseline:
    """Return the baseline that is further on in the TPM's time; rounds on two streams may end out of order."""
    return proved if known is None or _moment(proved) >= _moment(known) else known


def _moment(baseline: Baseline) -> tuple[int, int, int]:
    info = baseline.clock_info
    return info.reset_count, info.restart_count, info.clock
