"""Conclude from a boot log, once, when it comes, all that later rounds need: the log itself is not kept.

The log is held against the PCRs that this round quoted (:mod:`nodeseal.boot.proved`), and what it proves against every
golden that serves the node, whether its window is open or not. The conclusions hold as long as the boot PCRs do: when
one of them moves, the log no longer proves what it did, and the node is asked for it again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from nodeseal.appraisal.boot_rules import judge_boot
from nodeseal.appraisal.model import BootState, BootVerdict
from nodeseal.boot.claims import BootClaims, boot_claims
from nodeseal.boot.difference import first_difference
from nodeseal.boot.proved import ProvedLog, prove_boot_log
from nodeseal.boot.quirks import FirmwareFacts
from nodeseal.errors import MalformedInput
from nodeseal.evidence.claims import Claims
from nodeseal.evidence.quote import QuotedPcrs
from nodeseal.findings import Finding, FindingId, Severity
from nodeseal.golden.model import Golden
from nodeseal.ids import Digest
from nodeseal.ima.log import boot_aggregate_candidates
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log import EventLog, decode_event_log

BOOT_PCRS = frozenset({*range(10), *range(11, 15)})
"""PCRs that a boot log may explain: all static ones but IMA's and the cap PCR."""
MAX_FINDINGS = 100
"""Findings that are kept and shown of one node against one golden; the rest are counted."""
_REGISTER = struct.Struct(">HB")
_CLEAN = BootVerdict()


def boot_pcrs_sha256(pcrs: QuotedPcrs) -> bytes:
    """Return the SHA-256 over bank, index and value of every quoted boot PCR, to tell whether one has moved."""
    values = (_REGISTER.pack(bank, index) + value for (bank, index), value in pcrs.items() if index in BOOT_PCRS)
    return HashAlg.SHA256.digest(b"".join(values))


def conclude_boot(
    raw: bytes, pcrs: QuotedPcrs, claims: Claims, goldens: Sequence[Golden]
) -> tuple[BootState, BootClaims | None]:
    """Judge a boot log.

    Args:
        raw: as the node sent it.
        pcrs: values that the quote of this round proved.
        claims: what the agent says of the firmware.
        goldens: those that serve the node.

    Returns:
        what to keep, and what the log proves; None: it does not parse.
    """
    try:
        log = decode_event_log(raw)
    except MalformedInput as error:
        malformed = (Finding(id=FindingId.UEFI_LOG_MALFORMED, expected="a TCG event log", seen=str(error)),)
        objecting = BootVerdict(findings=malformed)
        verdicts = {golden.digest: objecting if golden.boot else _CLEAN for golden in goldens}
        return _state(raw, pcrs, malformed, frozenset(), verdicts), None
    proofs = _Proofs(log, pcrs, FirmwareFacts(vendor=claims.firmware_vendor, version=claims.firmware_version))
    proved, judged = proofs.of(None)
    verdicts = {golden.digest: _verdict(golden, proofs, pcrs) for golden in goldens}
    state = _state(raw, pcrs, judged.findings, proved.proved, verdicts)
    return replace(state, aggregates=tuple(_aggregates(proofs, pcrs))), judged


def _aggregates(proofs: _Proofs, pcrs: QuotedPcrs) -> Iterator[tuple[str, bytes]]:
    if proofs.of(None)[0].separated:
        for bank, _ in pcrs.selection.banks:
            yield from early_aggregates(proofs.of(bank)[0], pcrs)


def early_aggregates(proved: ProvedLog, pcrs: QuotedPcrs) -> Iterator[tuple[str, bytes]]:
    """Iterate over algorithm and digest of the boot aggregates that IMA made before systemd measured its separator.

    Nothing is told of a boot without one: the quoted values are those that the kernel saw.
    """
    if proved.separated:
        quoted = {pcr: value for (bank, pcr), value in pcrs.items() if bank == proved.bank}
        for aggregate in boot_aggregate_candidates({**quoted, **proved.separated}, proved.bank):
            yield proved.bank.hashlib_name, aggregate


class _Proofs:
    """What one log proves, by bank: goldens may judge by another bank than the strongest."""

    def __init__(self, log: EventLog, pcrs: QuotedPcrs, firmware: FirmwareFacts) -> None:
        self._log, self._pcrs, self._firmware = log, pcrs, firmware
        self._made: dict[HashAlg | None, tuple[ProvedLog, BootClaims]] = {}

    def of(self, bank: HashAlg | None) -> tuple[ProvedLog, BootClaims]:
        """Return what is proved by ``bank``; None: by the strongest that is quoted and in the log."""
        if bank not in self._made:
            proved = prove_boot_log(self._log, self._pcrs, self._firmware, bank)
            self._made[bank] = self._made.setdefault(proved.bank, (proved, boot_claims(proved)))
        return self._made[bank]


def _state(
    raw: bytes,
    pcrs: QuotedPcrs,
    findings: tuple[Finding, ...],
    proved: frozenset[int],
    verdicts: Mapping[Digest, BootVerdict],
) -> BootState:
    return BootState(
        log_sha256=HashAlg.SHA256.digest(raw),
        pcrs_sha256=boot_pcrs_sha256(pcrs),
        findings=findings,
        proved=tuple(sorted(proved)),  # a fleet keeps very many of them, and a set is four times as large
        verdicts=verdicts,
    )


def _verdict(golden: Golden, proofs: _Proofs, pcrs: QuotedPcrs) -> BootVerdict:
    findings, more = _objections(golden, proofs)
    differences = _differences(golden, proofs, pcrs)
    if not findings and not differences:
        return _CLEAN
    return BootVerdict(findings=findings, more=more, differences=differences)


def _objections(golden: Golden, proofs: _Proofs) -> tuple[tuple[Finding, ...], int]:
    """Return what is wrong with the log in the golden's bank, and what its rules object to; and how much more.

    Objections beyond those that are kept are counted, but never put into words.
    """
    if golden.boot is None:
        return (), 0
    claims = proofs.of(golden.boot.bank)[1]
    said = () if claims is proofs.of(None)[1] else claims.findings
    wrong = [finding for finding in said if finding.id.severity is not Severity.WARNING]
    objections = judge_boot(claims, golden.boot)
    found = [*wrong, *(objection.finding() for objection in objections[: MAX_FINDINGS - len(wrong)])]
    return tuple(_said_by(golden, finding) for finding in found), len(wrong) + len(objections) - len(found)


def _said_by(golden: Golden, finding: Finding) -> Finding:
    return replace(finding, where=", ".join(filter(None, (finding.where, f"golden {golden.name}"))))


def _differences(golden: Golden, proofs: _Proofs, pcrs: QuotedPcrs) -> dict[int, str]:
    """Return, for each PCR with another value than the golden allows, the first event that differs."""
    proved = proofs.of(None)[0]
    differing = {index for bank, index, allowed in golden.rows() if pcrs.get(bank, index) not in allowed}
    words = ((index, first_difference(proved, golden.reference, index)) for index in sorted(differing))
    return {index: text for index, text in words if text}
