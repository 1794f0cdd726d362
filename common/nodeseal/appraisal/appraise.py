"""The pipeline that appraises one round of evidence.

There are two kinds of failure. A failed *proof* raises :class:`~nodeseal.errors.ProofFailed` at once, because nothing
after it has a meaning. A *difference* from the policy becomes a finding, and all findings are collected. Logs are
claims, so a log that does not replay or parse is a finding too: it hides nothing else.

What a round of evidence must carry
    PCR values count only if the quote's digest covers them (:mod:`~nodeseal.appraisal.pcr_values`). A node that has
    rebooted and sends none is neither refused nor judged: the caller shows it as ``rebooting`` and challenges again
    for values.

What a round may leave out of its logs
    What the challenge named as known (:func:`known_logs`). Sometimes that is not enough, because a golden is new or a
    boot PCR has moved. If the outcome depends on it, the round decides nothing, and the caller challenges again for
    whole logs.

What becomes the baseline
    Every round that does not break continuity, whether the node is trusted or not: time and PCR values were proved
    either way. A break is thus found again in every round until its cause is gone (see
    :mod:`~nodeseal.appraisal.kinds.clock`).

A steady round costs one signature check. Unchanged claims are not parsed again, unchanged values and logs are not sent
again, and a judgement stands while facts and policy are the same and no window opens or closes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from nodeseal.appraisal import kinds, pcr_values
from nodeseal.appraisal.applicable import serves
from nodeseal.appraisal.compare import compare
from nodeseal.appraisal.kinds import clock
from nodeseal.appraisal.kinds.kind import Round
from nodeseal.appraisal.model import (
    Appraisal,
    AuthenticEvidence,
    Baseline,
    Challenge,
    Continuity,
    Facts,
    Judgement,
    KnownNode,
    Policy,
    Proof,
)
from nodeseal.errors import ProofFailed
from nodeseal.evidence.binding import qualifying_data
from nodeseal.evidence.claims import decode_claims
from nodeseal.evidence.logs import NOTHING_KNOWN, KnownLogs
from nodeseal.evidence.quote import QuotedPcrs, verify_quote
from nodeseal.evidence.round import Evidence
from nodeseal.findings import Finding, FindingId
from nodeseal.golden.model import Golden


def known_logs(node: KnownNode, policy: Policy) -> KnownLogs:
    """Return what the next challenge names as known: logs that were compared with every golden of the node.

    Windows do not matter here. A golden that counts from tomorrow on is compared today, so tomorrow no log is required.
    """
    baseline = node.baseline
    if baseline is None:
        return NOTHING_KNOWN
    judgement = baseline.judgement
    if judgement is not None and judgement.policy is policy and judgement.facts.labels == node.labels:
        return baseline.known
    return _known(baseline.boot_id, judgement, _serving(policy, node))


def appraise(evidence: Evidence, challenge: Challenge, node: KnownNode, policy: Policy, now: datetime) -> Appraisal:
    """Appraise one round.

    Args:
        evidence: the evidence as it arrived.
        challenge: the open challenge that it answers; the caller lets each be answered once.
        node: the node as the verifier knows it.
        policy: what counts as trustworthy.
        now: when the evidence arrived.

    Raises:
        ProofFailed: the evidence is late, not signed by the node's key, not bound to the challenge, over other PCRs,
            or its values are missing or are not those quoted.
        MalformedInput: the claims do not parse, although the quote covers them.
    """
    authentic = authenticate(evidence, challenge, node, now)
    timing = clock.prove(node.baseline, authentic.attest.clock_info, authentic.claims.boot_id)
    pcrs = pcr_values.prove(authentic, timing.continuity)
    judgement, details = _judge(authentic, pcrs, policy) if pcrs is not None else (None, ())
    broken = timing.continuity is Continuity.BROKEN
    return Appraisal(
        continuity=timing.continuity,
        findings=timing.findings + (judgement.findings if judgement else ()),
        goldens=judgement.goldens if judgement else (),
        baseline=node.baseline if broken and node.baseline else _baseline(authentic, judgement),
        claims=authentic.claims,
        pcrs=pcrs,
        good_until=challenge.issued + timedelta(seconds=policy.trust_seconds),
        details=details,
        logs_required=judgement is not None and judgement.logs_required and not broken,
    )


def authenticate(evidence: Evidence, challenge: Challenge, node: KnownNode, now: datetime) -> AuthenticEvidence:
    """Prove that the node's TPM signed this evidence for this challenge.

    Raises:
        ProofFailed: the evidence is late, not signed by the node's key, not bound to this challenge, or over other
            PCRs.
        MalformedInput: the claims do not parse, although the quote covers them.
    """
    if not challenge.issued <= now <= challenge.answer_by:
        raise ProofFailed(_out_of_time(challenge, now))
    binding = qualifying_data(challenge.purpose, challenge.nonce, challenge.channel, evidence.claims)
    attest = verify_quote(evidence.attest, evidence.signature, node.keys.verifier, binding, challenge.selection)
    known = node.baseline.claims if node.baseline and node.baseline.claims_raw == evidence.claims else None
    return AuthenticEvidence(attest, known or decode_claims(evidence.claims), evidence, challenge, node, now)


def _out_of_time(challenge: Challenge, now: datetime) -> Finding:
    return Finding(
        id=FindingId.QUOTE_NONCE,
        expected=f"an answer between {challenge.issued.isoformat()} and {challenge.answer_by.isoformat()}",
        seen=f"one at {now.isoformat()}",
    )


def _judge(authentic: AuthenticEvidence, pcrs: QuotedPcrs, policy: Policy) -> tuple[Judgement, tuple[object, ...]]:
    """Return the judgement on values and proofs, and details: the last one while it stands, else one made anew."""
    baseline = authentic.node.baseline
    carried = baseline if baseline is not None and baseline.boot_id == authentic.claims.boot_id else None
    known = carried.judgement if carried is not None else None
    if known is not None and _stands(known, authentic, pcrs, policy):
        return known, ()
    round_ = _round(authentic, pcrs, policy, carried)
    proofs, details = _prove(round_, known)
    facts = Facts(pcrs=pcrs, labels=authentic.node.labels, proofs=proofs, asked=round_.asked)
    return compare(facts, policy, authentic.at), details


def _round(authentic: AuthenticEvidence, pcrs: QuotedPcrs, policy: Policy, carried: Baseline | None) -> Round:
    """Gather what kinds may prove from; only a baseline of the same boot is carried over."""
    named = authentic.challenge.logs
    settled = carried is not None and carried.judgement is not None and not carried.judgement.logs_required
    return Round(
        evidence=authentic,
        pcrs=pcrs,
        goldens=_serving(policy, authentic.node),
        asked=named if named.boot_id == authentic.claims.boot_id else NOTHING_KNOWN,
        kept=carried.kept if carried is not None else (),
        quirks=policy.quirks,
        settled_at=carried.proved_at if carried is not None and settled else None,
    )


def _serving(policy: Policy, node: KnownNode) -> tuple[Golden, ...]:
    return tuple(golden for golden in policy.goldens if serves(golden, node.labels))


def _stands(known: Judgement, authentic: AuthenticEvidence, pcrs: QuotedPcrs, policy: Policy) -> bool:
    """Tell whether the last judgement holds for this round: same facts, same policy, same windows, no news."""
    facts = known.facts
    if (
        facts.pcrs is not pcrs
        or known.logs_required
        or not (known.policy is policy or known.policy == policy)
        or facts.labels != authentic.node.labels
        or not known.since <= authentic.at <= known.until
    ):
        return False
    for kind, proof in zip(kinds.KINDS, facts.proofs):  # noqa: B905, SIM110 - every steady round pays for the difference
        if not kind.unchanged(proof, authentic):
            return False
    return True


def _prove(round_: Round, known: Judgement | None) -> tuple[tuple[Proof | None, ...], tuple[object, ...]]:
    """Return what each kind proves, and details for people to read."""
    before: Sequence[Proof | None] = known.facts.proofs if known is not None else (None,) * len(kinds.KINDS)
    proofs: list[Proof | None] = []
    details: list[object] = []
    for kind, proof in zip(kinds.KINDS, before, strict=True):
        proved = kind.prove(round_, proof, proofs)
        proofs.append(proved.proof)
        if proved.detail is not None:
            details.append(proved.detail)
    return tuple(proofs), tuple(details)


def _baseline(authentic: AuthenticEvidence, judgement: Judgement | None) -> Baseline:
    before, boot_id = authentic.node.baseline, authentic.claims.boot_id
    if before is not None and judgement is not None and judgement is before.judgement:
        known, kept = before.known, before.kept
    else:
        known = _known(boot_id, judgement, _serving(judgement.policy, authentic.node) if judgement else ())
        kept = _kept(judgement, before.kept if before is not None and before.boot_id == boot_id else ())
    return Baseline(
        clock_info=authentic.attest.clock_info,
        boot_id=boot_id,
        claims_raw=authentic.sent.claims,
        claims=authentic.claims,
        judgement=judgement,
        known=known,
        kept=kept,
        proved_at=authentic.challenge.issued,
    )


def _known(boot_id: str, judgement: Judgement | None, goldens: Sequence[Golden]) -> KnownLogs:
    """Return what every kind names as known."""
    logs = KnownLogs(boot_id=boot_id)
    if judgement is not None:
        for kind, proof in zip(kinds.KINDS, judgement.facts.proofs, strict=True):
            if proof is not None:
                logs = kind.known(proof, goldens, logs)
    return logs


def _kept(judgement: Judgement | None, before: tuple[object, ...]) -> tuple[object, ...]:
    """Return what every kind keeps of this boot."""
    if judgement is None:
        return before
    kept = (kind.keep(proof, before) for kind, proof in zip(kinds.KINDS, judgement.facts.proofs, strict=True))
    return tuple(value for value in kept if value is not None)
