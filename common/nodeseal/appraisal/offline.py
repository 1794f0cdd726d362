"""Appraisal of evidence that people kept: the verifier's own rules, without a verifier.

A folder of evidence (:mod:`nodeseal.evidence.folder`) is one whole round of a node. It is judged as the node's first
round, so a clock that ran backwards or a log that lost entries stays unseen: only earlier rounds show that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nodeseal.appraisal.appraise import appraise, authenticate
from nodeseal.appraisal.capture import Observation
from nodeseal.appraisal.kinds.boot import early_aggregates
from nodeseal.appraisal.kinds.ima_log import ImaRound, judge_ima
from nodeseal.appraisal.model import Appraisal, AuthenticEvidence, Challenge, KnownNode, NodeKeys, Policy, TpmFacts
from nodeseal.boot.claims import boot_claims
from nodeseal.boot.proved import ProvedLog, prove_boot_log
from nodeseal.boot.quirks import FirmwareFacts, Quirk
from nodeseal.crypto.signatures import SignatureVerifier
from nodeseal.errors import ProofFailed
from nodeseal.evidence.claims import decode_claims
from nodeseal.evidence.folder import EvidenceFolder
from nodeseal.evidence.quote import QuotedPcrs, prove_pcr_values
from nodeseal.findings import Finding, FindingId
from nodeseal.golden.model import Golden
from nodeseal.ima.log import ImaEntry, ima_entries
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.public import decode_public
from nodeseal.uefi.event_log import decode_event_log

_NO_TRUST_SECONDS = 0
"""Nobody waits for the end of trust of a kept round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Facts that a folder proves, whatever goldens say.

    Attributes:
        observation: the boot.
        ima: the entries of the IMA log that the quoted PCR 10 covers; empty without a log.
        findings: reasons not to believe its logs.
    """

    observation: Observation
    ima: tuple[ImaEntry, ...]
    findings: tuple[Finding, ...]


def appraise_folder(folder: EvidenceFolder, goldens: Iterable[Golden], quirks: tuple[Quirk, ...] = ()) -> Appraisal:
    """Appraise kept evidence as the verifier would have when it arrived.

    Args:
        folder: the evidence.
        goldens: the goldens.
        quirks: rows that operators added to the table of firmware's deviations.

    Raises:
        ProofFailed: the quote is not by the folder's attestation key, or not over what the folder holds.
        MalformedInput: claims or attestation key do not parse.
    """
    policy = Policy(goldens=tuple(goldens), trust_seconds=_NO_TRUST_SECONDS, quirks=quirks)
    tpm = TpmFacts(manufacturer=folder.manufacturer, ek_algorithm=folder.ek_algorithm)
    node = KnownNode(keys=_keys(folder), baseline=None, labels=folder.labels, tpm=tpm)
    return appraise(folder.evidence, _challenge(folder), node, policy, folder.received)


def observe(folder: EvidenceFolder) -> Observed:
    """Return what kept evidence proves, so that a golden can be made from it.

    Raises:
        ProofFailed: the quote is not by the folder's attestation key, or not over what the folder holds; or the folder
            holds no PCR values.
        MalformedInput: claims, attestation key or boot log do not parse.
    """
    pcrs = proved_values(folder)
    log = proved_log(folder, pcrs)
    said = boot_claims(log) if log is not None else None
    entries, findings = _runtime(folder, pcrs, tuple(early_aggregates(log, pcrs)) if log else ())
    boot_id = decode_claims(folder.evidence.claims).boot_id
    observation = Observation(node_id=folder.channel.node_id, boot_id=boot_id, pcrs=pcrs, log=log, claims=said)
    return Observed(observation=observation, ima=entries, findings=(*(said.findings if said else ()), *findings))


def proved_values(folder: EvidenceFolder) -> QuotedPcrs:
    """Return the PCR values that kept evidence proves.

    Raises:
        ProofFailed: the quote is not by the folder's attestation key, or not over what the folder holds; or the folder
            holds no PCR values.
        MalformedInput: claims or attestation key do not parse.
    """
    node = KnownNode(keys=_keys(folder), baseline=None)
    return _values(authenticate(folder.evidence, _challenge(folder), node, folder.received))


def proved_log(
    folder: EvidenceFolder, pcrs: QuotedPcrs, bank: HashAlg | None = None, phases: tuple[str, ...] = ()
) -> ProvedLog | None:
    """Return the boot log held against proved values; None: there is none.

    Args:
        folder: the evidence.
        pcrs: the values that it proves.
        bank: the bank to prove the log in; None: the strongest that is quoted and in the log.
        phases: words that a golden expects in PCR 11 beside those of systemd.

    Raises:
        MalformedInput: the boot log does not parse.
    """
    raw = folder.evidence.boot_log
    if raw is None:
        return None
    claims = decode_claims(folder.evidence.claims)
    facts = FirmwareFacts(vendor=claims.firmware_vendor, version=claims.firmware_version)
    return prove_boot_log(decode_event_log(raw), pcrs, facts, bank, phases)


def _keys(folder: EvidenceFolder) -> NodeKeys:
    public = decode_public(folder.ak_public)
    return NodeKeys(ak_name=public.name(), verifier=SignatureVerifier(public))


def _challenge(folder: EvidenceFolder) -> Challenge:
    return Challenge(
        nonce=folder.nonce,
        purpose=folder.purpose,
        selection=folder.selection,
        issued=folder.issued,
        answer_by=folder.received,
        channel=folder.channel,
    )


def _values(authentic: AuthenticEvidence) -> QuotedPcrs:
    values: Sequence[bytes] | None = authentic.sent.pcr_values
    if values is None:
        raise ProofFailed(Finding(id=FindingId.PCR_DIGEST, expected="the PCR values of the quote", seen="none"))
    return prove_pcr_values(authentic.attest.quoted, authentic.node.keys.verifier.hash_alg, values)


def _runtime(
    folder: EvidenceFolder, pcrs: QuotedPcrs, aggregates: tuple[tuple[str, bytes], ...]
) -> tuple[tuple[ImaEntry, ...], tuple[Finding, ...]]:
    delta = folder.evidence.ima
    if delta is None:
        return (), ()
    outcome = judge_ima(ImaRound(delta=delta, pcrs=pcrs, now=folder.received, aggregates=aggregates))
    proved = outcome.progress.mark.offset if outcome.progress else 0
    return tuple(entry for end, entry in ima_entries(delta.entries, delta.bank) if end <= proved), outcome.findings
