"""Explain how kept evidence differs from a golden, PCR by PCR and event by event. No verdict depends on it.

The verdict and its findings are those of :func:`nodeseal.appraisal.offline.appraise_folder`. Added are every PCR that
the golden looks at, and all its events that differ from the golden's reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nodeseal.appraisal.offline import appraise_folder, proved_log, proved_values
from nodeseal.boot.difference import EventDifference, event_differences, first_difference
from nodeseal.boot.proved import ProvedLog
from nodeseal.boot.quirks import Quirk
from nodeseal.errors import MalformedInput
from nodeseal.evidence.folder import EvidenceFolder
from nodeseal.evidence.quote import QuotedPcrs
from nodeseal.findings import Finding
from nodeseal.golden.model import Golden
from nodeseal.tpm.algorithms import HashAlg


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldPcr:
    """One PCR that a golden looks at.

    Attributes:
        bank: its bank.
        pcr: its index.
        allowed: values that the golden allows; empty: its rules judge the events.
        seen: the proved value; None: it was not quoted.
        first: the first event that differs from the golden's reference, in words; empty: none is known.
        differences: all of them.
        unexplained: why no event is known although the value differs, or empty.
    """

    bank: HashAlg
    pcr: int
    allowed: frozenset[bytes]
    seen: bytes | None
    first: str = ""
    differences: tuple[EventDifference, ...] = ()
    unexplained: str = ""

    @property
    def pinned(self) -> bool:
        """Whether the golden allows certain values only."""
        return bool(self.allowed)

    @property
    def differs(self) -> bool:
        """Whether the proved value is not among the allowed ones."""
        return self.pinned and self.seen not in self.allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Kept evidence compared with one golden.

    Attributes:
        golden: the golden.
        matches: whether it matches whole.
        trusted: whether the node would be trusted: the golden matches, and nothing else speaks against the node.
        findings: findings of appraisal by this golden alone.
        pcrs: all PCRs that the golden looks at.
    """

    golden: Golden
    matches: bool
    trusted: bool
    findings: tuple[Finding, ...]
    pcrs: tuple[HeldPcr, ...]


def explain_folder(folder: EvidenceFolder, golden: Golden, quirks: tuple[Quirk, ...] = ()) -> Explanation:
    """Hold kept evidence against one golden.

    Args:
        folder: the evidence.
        golden: the golden.
        quirks: rows that operators added to the table of firmware's deviations.

    Raises:
        ProofFailed: the folder proves nothing, or holds no PCR values.
        MalformedInput: claims or attestation key do not parse.
    """
    appraisal = appraise_folder(folder, (golden,), quirks)
    pcrs = proved_values(folder)
    logs = {bank: _log(folder, pcrs, golden, bank) for bank in golden.static_pcrs()}
    return Explanation(
        golden=golden,
        matches=golden in appraisal.goldens,
        trusted=appraisal.trusted,
        findings=appraisal.findings,
        pcrs=tuple(_held(golden, pcrs, logs)),
    )


def _log(folder: EvidenceFolder, pcrs: QuotedPcrs, golden: Golden, bank: HashAlg) -> ProvedLog | None:
    """Return the boot log held against the values; None: there is none, or it does not parse, as a finding says."""
    try:
        return proved_log(folder, pcrs, bank, golden.boot.phases if golden.boot else ())
    except MalformedInput:
        return None


def _held(golden: Golden, pcrs: QuotedPcrs, logs: Mapping[HashAlg, ProvedLog | None]) -> Iterator[HeldPcr]:
    for bank, indices in golden.static_pcrs().items():
        for pcr in sorted(indices):
            allowed, seen = golden.pcrs.get(bank, {}).get(pcr, frozenset()), pcrs.get(bank, pcr)
            if seen is None or seen in allowed:
                yield HeldPcr(bank=bank, pcr=pcr, allowed=allowed, seen=seen)
                continue
            log = logs[bank]
            yield HeldPcr(
                bank=bank,
                pcr=pcr,
                allowed=allowed,
                seen=seen,
                first=first_difference(log, golden.reference, pcr) if log else "",
                differences=event_differences(log, golden.reference, pcr) if log else (),
                unexplained=_unexplained(golden, log, pcr),
            )


def _unexplained(golden: Golden, log: ProvedLog | None, pcr: int) -> str:
    if log is None:
        return "there is no boot log that can be read"
    if pcr not in log.proved:
        return "the boot log does not account for this PCR"
    return "" if golden.reference else "the golden has no reference events to compare with"
