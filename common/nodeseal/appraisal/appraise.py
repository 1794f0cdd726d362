"""The pipeline that appraises one round of evidence: decode → authenticate → replay → compare → conclude.

Two kinds of failure (and only two): what is not *proved* raises :class:`~nodeseal.errors.ProofFailed` at once,
because nothing behind it means anything; what is proved but *differs* from what policy asks for becomes a finding,
and all findings are collected. Logs are claims, so a log that does not replay, or not even parse, is a finding too: it
hides nothing else.

What a round of evidence must carry
    PCR values count only if the quote's digest covers them. A round that continues the last one may leave them out
    while selection and digest are the ones proved before. Any other round is judged by the values it carries
    itself; a node that has rebooted and sends none is neither refused nor judged: the caller shows it as
    ``rebooting`` and challenges again for values.

What a round may leave out of its logs
    What the challenge named as known. A boot log holds on while the boot PCRs are those it was held against, the IMA
    log is judged by what is new. Where that is not enough (a golden is new, a boot PCR moved) and the outcome hangs on
    it, the round decides nothing: the caller challenges again for whole logs. The IMA log is replayed whenever it
    comes, even if no golden judges what runs: that is cheap, and tells when its entries were measured should one do
    so later.

What comes although the challenge named it
    Costs next to nothing, for no honest agent sends it. A boot log that is byte for byte the known one is not judged
    again while its conclusions hold. An IMA log that begins elsewhere than was asked for is refused unread.

What becomes the baseline
    Every believable round, whether the node is trusted or not: time and PCR values were proved either way. A round
    that breaks continuity never does, so it is found again and again until the cause is gone (see
    :mod:`~nodeseal.appraisal.clock`).

A steady round costs one signature check: claims that did not change are not parsed again, values and logs that did not
change are not sent again, and a judgement stands while facts and policy are the same and no window opens or closes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from nodeseal.appraisal import clock
from nodeseal.appraisal.applicable import serves
from nodeseal.appraisal.boot_log import boot_pcrs_sha256, conclude_boot
from nodeseal.appraisal.compare import compare, ima_quoted
from nodeseal.appraisal.model import (
    Appraisal,
    Baseline,
    BootState,
    Challenge,
    Continuity,
    Facts,
    Judgement,
    KnownNode,
    NodeKeys,
    Policy,
)
from nodeseal.appraisal.platform import believed_firmware
from nodeseal.appraisal.runtime import ImaOutcome, ImaProgress, compile_runtime, judge_ima, not_due
from nodeseal.boot.claims import BootClaims
from nodeseal.errors import ProofFailed
from nodeseal.evidence.binding import qualifying_data
from nodeseal.evidence.claims import Claims, decode_claims
from nodeseal.evidence.logs import NOTHING_KNOWN, ImaDelta
from nodeseal.evidence.quote import QuotedPcrs, prove_pcr_values, verify_quote
from nodeseal.evidence.round import Evidence
from nodeseal.findings import Finding, FindingId
from nodeseal.golden.model import Golden
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.attest import Attest, Quoted


class AuthenticEvidence(NamedTuple):
    """Evidence that the node's TPM signed for its challenge; made by :func:`authenticate` only.

    A plain tuple, like all that lives for one round, because a fleet has very many of them.

    Attributes:
        attest: the quote.
        sent: all that came with it; of this, only the claims are covered by the signature: values and logs have yet
            to be proved.
        challenge: what it answers.
        at: when it arrived.
    """

    attest: Attest
    sent: Evidence
    challenge: Challenge
    at: datetime


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
    pcrs = _proved_values(authentic, timing.continuity, node)
    judgement, boot = _judge(authentic, claims, pcrs, node, policy) if pcrs is not None else (None, None)
    broken = timing.continuity is Continuity.BROKEN
    return Appraisal(
        continuity=timing.continuity,
        findings=timing.findings + (judgement.findings if judgement else ()),
        goldens=judgement.goldens if judgement else (),
        baseline=node.baseline if broken and node.baseline else _baseline(authentic, claims, judgement, node.baseline),
        claims=claims,
        pcrs=pcrs,
        believable_until=challenge.issued + timedelta(seconds=policy.trust_seconds),
        boot=boot,
        logs_required=judgement is not None and judgement.logs_required and not broken,
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
    return AuthenticEvidence(attest, evidence, challenge, now)


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


def _proved_values(authentic: AuthenticEvidence, continuity: Continuity, node: KnownNode) -> QuotedPcrs | None:
    """Return the values that the quote proves; None if a node that did not just run on sent none."""
    quoted, values = authentic.attest.quoted, authentic.sent.pcr_values
    known = node.baseline.judgement.pcrs if node.baseline and node.baseline.judgement else None
    same = known is not None and (known.quoted is quoted or known.quoted == quoted)
    if values is not None:
        proved = prove_pcr_values(quoted, node.keys.verifier.hash_alg, values)
        return known if same else proved
    if continuity in (Continuity.REBOOTED, Continuity.BROKEN):
        return None
    if not same:
        raise ProofFailed(_values_missing(quoted))
    return known


def _values_missing(quoted: Quoted) -> Finding:
    return Finding(
        id=FindingId.PCR_DIGEST,
        expected="PCR values, since these were not proved before",
        seen=f"none, with digest {quoted.pcr_digest.hex()}",
    )


def _judge(
    authentic: AuthenticEvidence, claims: Claims, pcrs: QuotedPcrs, node: KnownNode, policy: Policy
) -> tuple[Judgement, BootClaims | None]:
    """Judge values and logs anew, unless nothing has changed since they last were; tell what a boot log proves."""
    baseline = node.baseline
    carried = baseline if baseline is not None and baseline.boot_id == claims.boot_id else None
    known = carried.judgement if carried is not None else None
    if known is not None and _stands(known, authentic, pcrs, node, policy):
        return known, None
    goldens = [golden for golden in policy.goldens if serves(golden, node.labels)]
    named = authentic.challenge.logs
    asked = named if named.boot_id == claims.boot_id else NOTHING_KNOWN
    boot, proved = _booted(authentic, claims, pcrs, carried, goldens)
    ima = _ran(authentic, pcrs, carried, goldens, asked.ima_offset, boot.aggregates if boot else ())
    facts = Facts(
        pcrs=pcrs,
        firmware_version=believed_firmware(authentic.attest, node.keys.ak_name),
        tpm=node.tpm,
        labels=node.labels,
        boot=boot,
        ima=ima.progress,
        ima_findings=ima.findings,
        asked=asked,
    )
    return compare(facts, policy, authentic.at), proved


def _stands(known: Judgement, authentic: AuthenticEvidence, pcrs: QuotedPcrs, node: KnownNode, policy: Policy) -> bool:
    """Tell whether the last judgement holds for this round: same facts, same policy, same windows, no news."""
    facts, sent = known.facts, authentic.sent
    return (
        facts.pcrs is pcrs
        and known.settled
        and sent.boot_log is None
        and (sent.ima is None or _says_nothing(sent.ima, facts.ima))
        and (known.policy is policy or known.policy == policy)
        and facts.firmware_version == authentic.attest.firmware_version
        and (facts.tpm is node.tpm or facts.tpm == node.tpm)
        and facts.labels == node.labels
        and known.since <= authentic.at <= known.until
    )


def _says_nothing(delta: ImaDelta, progress: ImaProgress | None) -> bool:
    """Tell whether a node with an IMA log reports that it has not grown."""
    return not delta.entries and progress is not None and delta.offset == progress.mark.offset


def _booted(
    authentic: AuthenticEvidence,
    claims: Claims,
    pcrs: QuotedPcrs,
    carried: Baseline | None,
    goldens: Sequence[Golden],
) -> tuple[BootState | None, BootClaims | None]:
    """Conclude from the boot log if one came that is news; what was concluded holds while no boot PCR has moved."""
    log, known = authentic.sent.boot_log, carried.boot if carried else None
    if known is not None and known.pcrs_sha256 != boot_pcrs_sha256(pcrs):
        known = None
    if log is None or (known is not None and _concluded(log, known, goldens)):
        return known, None
    return conclude_boot(log, pcrs, claims, goldens)


def _concluded(log: bytes, known: BootState, goldens: Sequence[Golden]) -> bool:
    """Tell whether this very log was held against every one of these goldens."""
    judged = all(golden.digest in known.verdicts for golden in goldens)
    return judged and HashAlg.SHA256.digest(log) == known.log_sha256


def _ran(  # noqa: PLR0913, PLR0917 - what a round brings, and what is known
    authentic: AuthenticEvidence,
    pcrs: QuotedPcrs,
    carried: Baseline | None,
    goldens: Sequence[Golden],
    asked_from: int,
    aggregates: Sequence[tuple[str, bytes]],
) -> ImaOutcome:
    """Judge the IMA log as far as it is new; without a quoted PCR 10 nothing in it can be proved."""
    delta = authentic.sent.ima
    progress, mark, since = (carried.ima, carried.mark, _unchanged_at(carried)) if carried else (None, None, None)
    if not ima_quoted(pcrs) or (delta is None and progress is None):
        return ImaOutcome(progress=None)
    if delta is not None and delta.offset != asked_from:
        known = progress.findings if progress else ()
        return ImaOutcome(progress=progress, findings=(*known, not_due(asked_from, delta.offset)))
    judging = [compile_runtime(golden) for golden in goldens if golden.runtime is not None]
    outcome = judge_ima(delta, progress, mark, pcrs, judging, authentic.at, since, aggregates)
    # A log without entries in PCR 10 lies about nothing; goldens that judge what runs find it missing by themselves.
    wrong = tuple(finding for finding in outcome.findings if finding.id is not FindingId.IMA_LOG_MISSING)
    return ImaOutcome(progress=outcome.progress, findings=wrong)


def _unchanged_at(carried: Baseline) -> datetime | None:
    """Return when the last quote was asked for that showed PCR 10 as the IMA log had led to it."""
    judged = carried.judgement
    return carried.proved_at if judged is not None and judged.settled else None


def _baseline(
    authentic: AuthenticEvidence, claims: Claims, judgement: Judgement | None, before: Baseline | None
) -> Baseline:
    ima = judgement.facts.ima if judgement is not None else None
    same_boot = before is not None and before.boot_id == claims.boot_id
    kept = before.mark if before is not None and same_boot else None
    return Baseline(
        clock_info=authentic.attest.clock_info,
        boot_id=claims.boot_id,
        claims_raw=authentic.sent.claims,
        claims=claims,
        judgement=judgement,
        mark=ima.kept if ima is not None else kept,
        proved_at=authentic.challenge.issued,
    )
