"""Facts as a round proves them, held against goldens without quote or logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nodeseal.appraisal.compare import compare
from nodeseal.appraisal.kinds import KINDS, boot, ima, platform
from nodeseal.appraisal.kinds.boot import BootState
from nodeseal.appraisal.kinds.ima import ImaOutcome, ImaProgress
from nodeseal.appraisal.kinds.platform import PlatformProof
from nodeseal.appraisal.model import UNKNOWN_TPM, Facts, Judgement, Policy, Proof, TpmFacts
from nodeseal.evidence.logs import NOTHING_KNOWN, KnownLogs
from nodeseal.evidence.quote import QuotedPcrs, prove_pcr_values
from nodeseal.findings import Finding, FindingId
from nodeseal.golden.model import Golden
from nodeseal.tpm.attest import Quoted
from nodeseal.tpm.pcr import PcrSelection, pcr_digest
from support.rounds import ALL, NOW, PCRS, SELECTION, SHA256


def proved_values(selection: PcrSelection, values: Sequence[bytes]) -> QuotedPcrs:
    """Return values as a quote over ``selection`` proves them."""
    return prove_pcr_values(Quoted(selection, pcr_digest(SHA256, values)), SHA256, values)


def proved(pcrs: Mapping[int, bytes], selection: PcrSelection = SELECTION) -> QuotedPcrs:
    """Return the values of ``selection``, by PCR, as a quote proves them."""
    return proved_values(selection, [pcrs[index] for _, index in selection.indices()])


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What each kind of evidence proved; by default nothing, and nothing is wrong."""

    pcrs: QuotedPcrs
    labels: Mapping[str, str] = field(default_factory=dict)
    firmware_version: int | None = None
    tpm: TpmFacts = UNKNOWN_TPM
    boot: BootState | None = None
    ima: ImaProgress | None = None
    ima_findings: tuple[Finding, ...] = ()
    asked: KnownLogs = NOTHING_KNOWN


def facts(**changes: Any) -> Facts:
    """Return facts with some of the fields of :class:`Seen` changed."""
    seen = replace(Seen(pcrs=proved(PCRS, ALL)), **changes)
    proofs: dict[object, Proof | None] = {
        platform: PlatformProof(seen.firmware_version, seen.tpm),
        boot: seen.boot,
        ima: ImaOutcome(progress=seen.ima, findings=seen.ima_findings),
    }
    in_order = tuple(proofs.get(kind) for kind in KINDS)
    return Facts(pcrs=seen.pcrs, labels=seen.labels, proofs=in_order, asked=seen.asked)


def judged_values(pcrs: Mapping[int, bytes], *goldens: Golden) -> Judgement:
    """Return the judgement on values alone, by PCR."""
    return held(proved(pcrs), *goldens)


def held(pcrs: QuotedPcrs, *goldens: Golden) -> Judgement:
    """Return the judgement on proved values alone."""
    return compare(facts(pcrs=pcrs), Policy(goldens=goldens, trust_seconds=60), NOW)


def found(judgement: Judgement) -> list[tuple[FindingId, str]]:
    """Return id and place of every finding."""
    return [(finding.id, finding.where) for finding in judgement.findings]
