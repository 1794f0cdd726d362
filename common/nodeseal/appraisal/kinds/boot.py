"""The boot kind: a boot log, held once against the quoted boot PCRs and against goldens; the log itself is not kept.

The log is held against the PCRs that this round quoted (:mod:`nodeseal.boot.proved`). What it proves is held against
every golden that serves the node, whether its window is open or not. The conclusions hold until a boot PCR moves: then
the log no longer proves what it did, and the node must send it again.

No honest agent sends a log that was not asked for. One that is byte for byte the known log is not judged again while
its conclusions hold.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from nodeseal.appraisal.kinds.boot_rules import judge_boot
from nodeseal.appraisal.kinds.kind import (
    LEFT_OUT,
    MAX_FINDINGS,
    NO_OBJECTION,
    KindVerdict,
    Proved,
    Round,
    missing,
)
from nodeseal.appraisal.model import AuthenticEvidence, Facts, Proof
from nodeseal.boot.claims import BootClaims, boot_claims
from nodeseal.boot.difference import first_difference
from nodeseal.boot.proved import ProvedLog, prove_boot_log
from nodeseal.boot.quirks import FirmwareFacts, Quirk
from nodeseal.errors import MalformedInput
from nodeseal.evidence.claims import Claims
from nodeseal.evidence.logs import KnownLogs
from nodeseal.evidence.quote import QuotedPcrs
from nodeseal.findings import Finding, FindingId, Severity
from nodeseal.golden.model import Golden
from nodeseal.ids import Digest
from nodeseal.ima.log import boot_aggregate_candidates
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr_usage import IDENTITY_PCR, IMA_PCR, STATIC_PCRS
from nodeseal.uefi.event_log import EventLog, decode_event_log

BOOT_PCRS: Final = frozenset(STATIC_PCRS) - {IMA_PCR, IDENTITY_PCR}
"""PCRs that a boot log may explain: all static ones, without those of IMA and of systemd, which keep other logs."""
_REGISTER: Final = struct.Struct(">HB")
_UNEXPLAINED: Final = "the boot log does not account for this PCR"


@dataclass(frozen=True, slots=True, kw_only=True)
class BootVerdict:
    """A boot log held against one golden.

    Attributes:
        findings: what the golden's boot rules object to; the first of many.
        more: how many findings were left out.
        differences: by PCR, the first event that differs from the golden's reference, in words.
    """

    findings: tuple[Finding, ...] = ()
    more: int = 0
    differences: Mapping[int, str] = field(default_factory=dict)


_CLEAN: Final = BootVerdict()


@dataclass(frozen=True, slots=True, kw_only=True)
class BootState:
    """The conclusions from a boot log. They hold while the boot PCRs keep the values that the log was held against.

    Attributes:
        log_sha256: SHA-256 of the log, to name it in a challenge.
        pcrs_sha256: SHA-256 over the boot PCRs of that quote.
        findings: what is wrong with the log whatever goldens say.
        proved: PCRs that the log accounts for.
        verdicts: verdict of each golden, by its digest.
        aggregates: algorithm and digest of IMA's boot aggregates over the values before systemd measured its separator;
            empty: there was no separator.
        by_value: PCRs of whose log a quirk gives up, in any quoted bank: a golden must pin their values.
    """

    log_sha256: bytes
    pcrs_sha256: bytes
    findings: tuple[Finding, ...]
    proved: tuple[int, ...]
    verdicts: Mapping[Digest, BootVerdict]
    aggregates: tuple[tuple[str, bytes], ...] = ()
    by_value: tuple[int, ...] = ()

    def covers(self, goldens: Sequence[Golden]) -> bool:
        """Tell whether the log was held against every one of these goldens."""
        return all(golden.digest in self.verdicts for golden in goldens)


def known(proof: BootState, goldens: Sequence[Golden], logs: KnownLogs) -> KnownLogs:
    """Name the log that was held against every golden."""
    return logs._replace(boot_log_sha256=proof.log_sha256) if proof.covers(goldens) else logs


def unchanged(proof: BootState | None, evidence: AuthenticEvidence) -> bool:
    """Tell whether no log came."""
    return evidence.sent.boot_log is None


def prove(round_: Round, before: BootState | None, earlier: Sequence[Proof | None]) -> Proved[BootState]:
    """Conclude from a new log. Without one, the earlier conclusions hold while no boot PCR has moved."""
    log = round_.evidence.sent.boot_log
    if before is not None and before.pcrs_sha256 != boot_pcrs_sha256(round_.pcrs):
        before = None
    if log is None or (before is not None and _concluded(log, before, round_.goldens)):
        return Proved(before)
    return Proved(*conclude_boot(log, round_.pcrs, round_.evidence.claims, round_.goldens, round_.quirks))


def judge(proof: BootState | None, golden: Golden, facts: Facts) -> KindVerdict:
    """Return what the golden's boot rules objected to when the log came."""
    by_value = tuple(_left_to_values(proof, golden)) if proof is not None else ()
    if by_value or golden.boot is None:
        return KindVerdict(by_value) if by_value else NO_OBJECTION
    verdict = proof.verdicts.get(golden.digest) if proof else None
    if verdict is not None:
        return KindVerdict(verdict.findings, verdict.more)
    if facts.asked.boot_log_sha256:
        return LEFT_OUT
    return missing(FindingId.UEFI_LOG_MISSING, "the boot log", "none", golden)


def _left_to_values(proof: BootState, golden: Golden) -> Iterator[Finding]:
    """Find PCRs whose log is given up and whose values the golden does not pin, so that nothing would judge them."""
    pinned = {pcr for _, pcr, _ in golden.rows()}
    for pcr in proof.by_value:
        if pcr not in pinned:
            yield Finding(
                id=FindingId.UEFI_REPLAY,
                expected="an exact value in the golden, since a quirk gives the log of this PCR up",
                seen="no value",
                where=f"PCR {pcr}, golden {golden.name}",
            )


def keep(proof: BootState | None, kept: Sequence[object]) -> None:
    """Keep nothing: a verifier that restarted asks for the log again."""


def explain(facts: Facts, golden: Golden, index: int) -> str:
    """Say which event makes a boot PCR differ from its golden, if the boot log was seen."""
    state = facts.proof(BootState)
    if state is None or index not in BOOT_PCRS:
        return ""
    if index not in state.proved:
        return _UNEXPLAINED
    verdict = state.verdicts.get(golden.digest)
    return verdict.differences.get(index, "") if verdict else ""


def _concluded(log: bytes, state: BootState, goldens: Sequence[Golden]) -> bool:
    """Tell whether this very log was held against every one of these goldens."""
    return state.covers(goldens) and HashAlg.SHA256.digest(log) == state.log_sha256


def boot_pcrs_sha256(pcrs: QuotedPcrs) -> bytes:
    """Return the SHA-256 over bank, index and value of every quoted boot PCR, to tell whether one has moved."""
    values = (_REGISTER.pack(bank, index) + value for (bank, index), value in pcrs.items() if index in BOOT_PCRS)
    return HashAlg.SHA256.digest(b"".join(values))


def conclude_boot(
    raw: bytes, pcrs: QuotedPcrs, claims: Claims, goldens: Sequence[Golden], quirks: tuple[Quirk, ...] = ()
) -> tuple[BootState, BootClaims | None]:
    """Hold a boot log against the quoted values and against goldens.

    Args:
        raw: the log as the node sent it.
        pcrs: values that the quote of this round proved.
        claims: maker and version of the firmware, as the agent claims them.
        goldens: the goldens that serve the node.
        quirks: rows that operators added to the table of firmware's deviations.

    Returns:
        The conclusions, and what the log proves for people to read; None: it does not parse.
    """
    try:
        log = decode_event_log(raw)
    except MalformedInput as error:
        malformed = (Finding(id=FindingId.UEFI_LOG_MALFORMED, expected="a TCG event log", seen=str(error)),)
        objecting = BootVerdict(findings=malformed)
        verdicts = {golden.digest: objecting if golden.boot else _CLEAN for golden in goldens}
        return _state(raw, pcrs, malformed, frozenset(), verdicts), None
    firmware = FirmwareFacts(vendor=claims.firmware_vendor, version=claims.firmware_version, quirks=quirks)
    proofs = _Proofs(log, pcrs, firmware)
    proved, judged = proofs.of(None)
    verdicts = {golden.digest: _verdict(golden, proofs, pcrs) for golden in goldens}
    state = _state(raw, pcrs, judged.findings, proved.proved, verdicts)
    return replace(state, aggregates=tuple(_aggregates(proofs, pcrs)), by_value=_by_value(proofs, pcrs)), judged


def _by_value(proofs: _Proofs, pcrs: QuotedPcrs) -> tuple[int, ...]:
    """Return the PCRs whose log is given up in any bank: one bank says nothing of what another was extended with."""
    if not proofs.firmware.left_to_values():
        return ()
    given_up: set[int] = set()
    for bank, _ in pcrs.selection.banks:
        given_up |= proofs.of(bank)[0].by_value
    return tuple(sorted(given_up))


def _aggregates(proofs: _Proofs, pcrs: QuotedPcrs) -> Iterator[tuple[str, bytes]]:
    if proofs.of(None)[0].separated:
        for bank, _ in pcrs.selection.banks:
            yield from early_aggregates(proofs.of(bank)[0], pcrs)


def early_aggregates(proved: ProvedLog, pcrs: QuotedPcrs) -> Iterator[tuple[str, bytes]]:
    """Iterate over algorithm and digest of the boot aggregates that IMA made before systemd measured its separator.

    Without a separator there are none: the kernel saw the quoted values.
    """
    if proved.separated:
        quoted = {pcr: value for (bank, pcr), value in pcrs.items() if bank == proved.bank}
        for aggregate in boot_aggregate_candidates({**quoted, **proved.separated}, proved.bank):
            yield proved.bank.hashlib_name, aggregate


class _Proofs:
    """Proofs of one log, by bank: a golden's rules may name another bank than the strongest."""

    def __init__(self, log: EventLog, pcrs: QuotedPcrs, firmware: FirmwareFacts) -> None:
        self._log, self._pcrs, self.firmware = log, pcrs, firmware
        self._made: dict[tuple[HashAlg | None, tuple[str, ...]], tuple[ProvedLog, BootClaims]] = {}

    def of(self, bank: HashAlg | None, phases: tuple[str, ...] = ()) -> tuple[ProvedLog, BootClaims]:
        """Return what is proved by ``bank``; None: by the strongest that is quoted and in the log.

        Args:
            bank: the bank.
            phases: words that a golden expects in PCR 11 beside those of systemd.
        """
        if (bank, phases) not in self._made:
            proved = prove_boot_log(self._log, self._pcrs, self.firmware, bank, phases)
            self._made[bank, phases] = self._made.setdefault((proved.bank, phases), (proved, boot_claims(proved)))
        return self._made[bank, phases]


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
    """Return the first findings on the log in the golden's bank, and how many more there are.

    Objections beyond those that are kept are counted, but never put into words.
    """
    if golden.boot is None:
        return (), 0
    claims = proofs.of(golden.boot.bank, golden.boot.phases)[1]
    said = () if proofs.of(golden.boot.bank)[1] is proofs.of(None)[1] else claims.findings
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
