"""Whether a node's proof lets a data key go to it: pure, on the appraisal of the same exchange.

Four things must hold at once: the node is trusted, this very evidence is good and matches a golden, the release key is
one that only this TPM can use while the measured PCRs keep their values, and a lease epoch has begun there. Whether the
node may have the model at all is :mod:`nodeseal.verifier.release.entitlement`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from nodeseal.appraisal.model import Appraisal
from nodeseal.appraisal.release import (
    Certification,
    check_certify,
    check_epoch,
    check_policy,
    check_release_key,
    policy_selection,
)
from nodeseal.errors import PolicyRefused, ProofFailed, Unavailable
from nodeseal.evidence.quote import QuotedPcrs
from nodeseal.evidence.round import Evidence
from nodeseal.findings import Finding, FindingId
from nodeseal.tpm.pcr import PcrSelection
from nodeseal.tpm.public import EccPublic, TpmPublic
from nodeseal.verifier.fleet.exchange import Asked, RoundOutcome
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.release.entitlement import Wanted

_VALUES_MISSING: Final = Finding(id=FindingId.PCR_DIGEST, expected="the PCR values of this boot", seen="none")
_UNMATCHED: Final = Finding(id=FindingId.RELEASE_STATE, expected="evidence that a golden matches", seen="none matches")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A release that waits for its proof.

    Attributes:
        node: who asks.
        wanted: the model and its slots.
        asked: the challenge.
        policy: the PCRs that the release key's policy must cover.
    """

    node: Node
    wanted: Wanted
    asked: Asked
    policy: PcrSelection


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseProof:
    """What a node answers; nothing in it is proved.

    Attributes:
        evidence: of its state.
        release_public: public area of the release key.
        certification: TPM2_Certify of it.
    """

    evidence: Evidence
    release_public: TpmPublic
    certification: Certification


@dataclass(frozen=True, slots=True, kw_only=True)
class Approved:
    """A proof that holds.

    Attributes:
        release_key: the key to wrap to.
        appraisal: of the evidence.
        quote_sha256: digest of the quote, for the log.
        trusted_for_ms: the node's trust, counted from when it received the challenge.
    """

    release_key: EccPublic
    appraisal: Appraisal
    quote_sha256: bytes
    trusted_for_ms: int


def approve(request: Request, proof: ReleaseProof, outcome: RoundOutcome, now: float) -> Approved:
    """Check everything that a proof must prove.

    Args:
        request: what was asked.
        proof: the answer.
        outcome: of the round that the evidence made.
        now: steady time.

    Raises:
        ProofFailed: the evidence is not authentic, or carries no PCR values although they are not known.
        PolicyRefused: what it proves is not allowed; carries every finding.
        Unavailable: the node's logs must be appraised by goldens that changed during the exchange, or the node must be
            asked for other banks.
    """
    appraisal = outcome.authentic()
    if appraisal.logs_required:
        raise Unavailable("the goldens changed during the release, so all logs must be sent again", remedy="ask again")
    findings = [*state_findings(request.node, now), *(appraisal.findings if not appraisal.trusted else ())]
    if appraisal.pcrs is None:
        raise ProofFailed(*dict.fromkeys((*findings, _VALUES_MISSING)))
    if not appraisal.trusted and not appraisal.findings:
        findings.append(_UNMATCHED)
    findings += check_epoch(appraisal.pcrs, appraisal.claims.agent_version)
    release_key, wrong = _check_key(request, proof, appraisal.pcrs, _policy(request, appraisal))
    findings += wrong
    if findings or release_key is None:
        raise PolicyRefused(*dict.fromkeys(findings))
    return Approved(
        release_key=release_key,
        appraisal=appraisal,
        quote_sha256=sha256(proof.evidence.attest).digest(),
        trusted_for_ms=outcome.verdict.trusted_for_ms,
    )


def state_findings(node: Node, now: float) -> Iterator[Finding]:
    """Yield that a node is not trusted at the steady time ``now``, and why."""
    if not node.trusted(now):
        yield Finding(
            id=FindingId.RELEASE_STATE, expected="trusted", seen=node.state_at(now).value, where=node.record.node_id
        )
        yield from node.findings


def epoch_findings(node: Node) -> Iterator[Finding]:
    """Yield that the node's last round showed no lease epoch, which tells a node whose agent must be updated."""
    baseline = node.baseline
    if baseline is not None and baseline.judgement is not None and baseline.claims is not None:
        yield from check_epoch(baseline.judgement.facts.pcrs, baseline.claims.agent_version)


def _policy(request: Request, appraisal: Appraisal) -> PcrSelection:
    """Return what the key's policy must cover: goldens that match now may differ from those that matched before."""
    if not appraisal.goldens:
        return request.policy
    return policy_selection(appraisal.goldens, request.asked.challenge.selection)


def _check_key(
    request: Request, proof: ReleaseProof, pcrs: QuotedPcrs, policy: PcrSelection
) -> tuple[EccPublic | None, list[Finding]]:
    """Check the release key in every respect. Return it, unless its kind is wrong, and every finding."""
    challenge, keys = request.asked.challenge, request.asked.known.keys
    findings: list[Finding] = []
    try:
        public = check_release_key(proof.release_public)
    except PolicyRefused as error:
        return None, [*error.findings]
    try:
        check_certify(proof.certification, public, challenge, keys)
    except ProofFailed as error:
        findings += error.findings
    try:
        check_policy(public, pcrs, policy)
    except ProofFailed as error:
        findings += error.findings
    return public, findings
