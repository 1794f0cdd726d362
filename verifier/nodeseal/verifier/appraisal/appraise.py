"""The pipeline that appraises one round of evidence: decode → authenticate → compare → conclude.

Two kinds of failure (and only two): what is not *proved* raises :class:`~nodeseal.errors.ProofFailed` at once,
because nothing behind it means anything; what is proved but *differs* from what policy asks for becomes a finding,
and all findings are collected.

What a round of evidence must carry
    PCR values count only if the quote's digest covers them. A round that continues the last one may leave them out
    while selection and digest are the ones proved before. Any other round is judged by the values it carries
    itself; a node that has rebooted and sends none is neither refused nor judged: the caller shows it as
    ``rebooting`` and challenges again for values.

What becomes the baseline
    Every believable round, whether the node is trusted or not: time and PCR values were proved either way. A round
    that breaks continuity never does, so it is found again and again until the cause is gone (see
    :mod:`~nodeseal.verifier.appraisal.clock`).

A steady round costs one signature check: claims that did not change are not parsed again, values that did not
change are not sent again, and a judgement stands while values and policy are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from nodeseal.errors import ProofFailed
from nodeseal.evidence import Claims, Evidence, decode_claims, qualifying_data
from nodeseal.findings import Finding, FindingId
from nodeseal.quote import QuotedPcrs, prove_pcr_values, verify_quote
from nodeseal.tcg.attest import Attest, Quoted
from nodeseal.verifier.appraisal import clock
from nodeseal.verifier.appraisal.compare import compare
from nodeseal.verifier.appraisal.model import (
    Appraisal,
    Baseline,
    Challenge,
    Continuity,
    Judgement,
    KnownNode,
    NodeKeys,
    Policy,
)


@dataclass(frozen=True, slots=True)
class AuthenticEvidence:
    """Evidence that the node's TPM signed for its challenge; made by :func:`authenticate` only.

    Attributes:
        attest: the quote.
        values: the PCR values as sent, which have yet to be proved, or None.
    """

    attest: Attest
    values: tuple[bytes, ...] | None


def appraise(evidence: Evidence, challenge: Challenge, node: KnownNode, policy: Policy, now: datetime) -> Appraisal:
    """Appraise one round.

    Args:
        evidence: as it arrived.
        challenge: the open challenge that it answers; the caller sees to it that each is answered once.
        node: the node's key and baseline.
        policy: what counts as trustworthy.
        now: when the evidence arrived.

    Raises:
        ProofFailed: the evidence is late, not signed by the node's key, not bound to the challenge, over other PCRs,
            or its values are missing or are not those quoted.
        MalformedInput: the claims do not parse, although the quote covers them.
    """
    authentic = authenticate(evidence, challenge, node.keys, now)
    claims = _claims(evidence.claims, node.baseline)
    timing = clock.judge(node.baseline, authentic.attest.clock_info, claims.boot_id)
    known = node.baseline.judgement if node.baseline else None
    pcrs = _proved_values(authentic, timing.continuity, node.keys, known)
    judgement = _judgement(pcrs, policy, known)
    proved = Baseline(
        clock_info=authentic.attest.clock_info,
        boot_id=claims.boot_id,
        claims_raw=evidence.claims,
        claims=claims,
        judgement=judgement,
    )
    return Appraisal(
        continuity=timing.continuity,
        findings=timing.findings + (judgement.findings if judgement else ()),
        goldens=judgement.goldens if judgement else (),
        baseline=node.baseline if timing.continuity is Continuity.BROKEN and node.baseline else proved,
        claims=claims,
        pcrs=pcrs,
        believable_until=challenge.issued + timedelta(seconds=policy.trust_seconds),
    )


def authenticate(evidence: Evidence, challenge: Challenge, keys: NodeKeys, now: datetime) -> AuthenticEvidence:
    """Prove that the node's TPM signed this evidence for this challenge.

    Raises:
        ProofFailed: late, not signed by the node's key, not bound to this challenge, or over other PCRs.
    """
    if not challenge.issued <= now <= challenge.answer_by:
        raise ProofFailed(_out_of_time(challenge, now))
    binding = qualifying_data(challenge.purpose, challenge.nonce, challenge.channel, evidence.claims)
    attest = verify_quote(evidence.attest, evidence.signature, keys.verifier, binding, challenge.selection)
    return AuthenticEvidence(attest, evidence.pcr_values)


def _out_of_time(challenge: Challenge, now: datetime) -> Finding:
    return Finding(
        id=FindingId.QUOTE_NONCE,
        expected=f"an answer between {challenge.issued.isoformat()} and {challenge.answer_by.isoformat()}",
        seen=f"one at {now.isoformat()}",
    )


def _claims(claims_raw: bytes, baseline: Baseline | None) -> Claims:
    if baseline is not None and baseline.claims is not None and baseline.claims_raw == claims_raw:
        return baseline.claims
    return decode_claims(claims_raw)


def _proved_values(
    authentic: AuthenticEvidence, continuity: Continuity, keys: NodeKeys, known: Judgement | None
) -> QuotedPcrs | None:
    """Return the values that the quote proves; None if a node that did not just run on sent none."""
    quoted = authentic.attest.quoted
    if authentic.values is not None:
        return prove_pcr_values(quoted, keys.verifier.hash_alg, authentic.values)
    if continuity in (Continuity.REBOOTED, Continuity.BROKEN):
        return None
    if known is None or known.pcrs.quoted != quoted:
        raise ProofFailed(_values_missing(quoted))
    return known.pcrs


def _values_missing(quoted: Quoted) -> Finding:
    return Finding(
        id=FindingId.PCR_DIGEST,
        expected="PCR values, since these were not proved before",
        seen=f"none, with digest {quoted.pcr_digest.hex()}",
    )


def _judgement(pcrs: QuotedPcrs | None, policy: Policy, known: Judgement | None) -> Judgement | None:
    if pcrs is None:
        return None
    if known is not None and known.pcrs is pcrs and known.policy == policy:
        return known
    return compare(pcrs, policy)
