"""Hold what a round proved against policy; every difference is a finding.

A node is as it should be when *one* golden that counts for it now matches whole: exact PCR values, platform, boot and
runtime rules. If none does, the findings are those of the nearest golden, the one with the fewest, since that is most
likely the one the node was meant to match.

Some rules hold whatever goldens say: boot PCRs (0 to 7) that firmware never extended prove nothing; a node whose cap
PCR was extended has lost its leases until it reboots; a log that was sent must replay into what was quoted.

A log that the node was told to leave out, and that a golden needs all the same (the golden is new, or a boot PCR has
moved), leaves the outcome open: :attr:`Judgement.logs_required`. A log that was asked for and did not come is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from nodeseal.appraisal.applicable import counts, span_of
from nodeseal.appraisal.boot_log import BOOT_PCRS, MAX_FINDINGS
from nodeseal.appraisal.model import Facts, Judgement, Policy
from nodeseal.appraisal.platform import judge_platform
from nodeseal.evidence.quote import QuotedPcrs
from nodeseal.findings import Finding, FindingId, Severity
from nodeseal.golden.model import Golden
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr_usage import FIRMWARE_PCRS, IMA_PCR

_SHOWN_VALUES = 3
_UNEXPLAINED = "the boot log does not account for this PCR"


class _Held(NamedTuple):
    """One golden held against the facts; ``open``: a log is yet to be seen that could speak against it."""

    golden: Golden
    findings: tuple[Finding, ...]
    more: int
    open: bool

    @property
    def distance(self) -> int:
        """How many objections there are: the nearest golden has the fewest."""
        return len(self.findings) + self.more


def compare(facts: Facts, policy: Policy, now: datetime) -> Judgement:
    """Hold ``facts`` against ``policy`` at the moment ``now``."""
    held = [_hold(golden, facts) for golden in policy.goldens if counts(golden, facts.labels, now)]
    matched = tuple(one.golden for one in held if not one.distance and not one.open)
    always = tuple(_whatever_goldens_say(facts, policy))
    refused = any(finding.id.severity is not Severity.WARNING for finding in always)
    undecided = not matched and not refused and any(one.open and not one.distance for one in held)
    differs = tuple(finding for finding in _nearest_differs(held, policy) if finding not in always)
    since, until = span_of(policy.goldens, now)
    return Judgement(
        facts=facts,
        policy=policy,
        findings=always + differs,
        goldens=matched,
        logs_required=undecided,
        since=since,
        until=until,
    )


def _whatever_goldens_say(facts: Facts, policy: Policy) -> Iterator[Finding]:
    yield from _unextended(facts.pcrs)
    yield from _capped(facts.pcrs, policy.cap_pcr)
    if facts.boot is not None:
        yield from facts.boot.findings
    yield from facts.ima_findings


def _unextended(pcrs: QuotedPcrs) -> Iterator[Finding]:
    """Find boot PCRs that still have their reset value.

    That is all zeros or all ones, but for the last byte: PCR 0 starts with the locality of TPM2_Startup or the
    H-CRTM mark there (PC Client Platform Firmware Profile, "PCR[0]" and StartupLocality event).
    """
    for (bank, index), value in pcrs.items():
        if index in FIRMWARE_PCRS and len(set(value[:-1])) == 1 and value[0] in (0x00, 0xFF):
            yield Finding(
                id=FindingId.PCR_UNEXTENDED,
                expected="a value that firmware measured",
                seen=value.hex(),
                where=_place(bank, index),
            )


def _capped(pcrs: QuotedPcrs, cap_pcr: int) -> Iterator[Finding]:
    """Find cap PCRs that are not zero; one that was not quoted is not known to be zero."""
    for bank, _ in pcrs.selection.banks:
        value = pcrs.get(bank, cap_pcr)
        if value is None or any(value):
            yield Finding(
                id=FindingId.PCR_CAPPED,
                expected=bytes(bank.digest_size).hex(),
                seen=_shown(value),
                where=_place(bank, cap_pcr),
            )


def _hold(golden: Golden, facts: Facts) -> _Held:
    findings = [*_mismatches(golden, facts)]
    if golden.platform is not None:
        findings += judge_platform(golden.platform, facts.tpm, facts.firmware_version)
    boot, boot_more, boot_open = _booted(golden, facts)
    ran, ran_more, ran_open = _ran(golden, facts)
    shown = (*findings, *boot, *ran)
    more = boot_more + ran_more + max(0, len(shown) - MAX_FINDINGS)
    return _Held(golden, shown[:MAX_FINDINGS], more, boot_open or ran_open)


def _mismatches(golden: Golden, facts: Facts) -> Iterator[Finding]:
    """Find pinned PCRs whose value is not allowed or was not quoted."""
    for bank, index, allowed in golden.rows():
        value = facts.pcrs.get(bank, index)
        if value not in allowed:
            yield Finding(
                id=FindingId.PCR_MISMATCH,
                expected=_alternatives(allowed),
                seen=_shown(value),
                where=f"{_place(bank, index)}, golden {golden.name}",
                event="" if value is None else _explanation(golden, index, facts),
            )


def _explanation(golden: Golden, index: int, facts: Facts) -> str:
    """Say which event differs, if the boot log was seen."""
    if facts.boot is None or index not in BOOT_PCRS:
        return ""
    if index not in facts.boot.proved:
        return _UNEXPLAINED
    verdict = facts.boot.verdicts.get(golden.digest)
    return verdict.differences.get(index, "") if verdict else ""


def _booted(golden: Golden, facts: Facts) -> tuple[tuple[Finding, ...], int, bool]:
    """Return what the golden's boot rules object to, how much more, and whether that is open."""
    if golden.boot is None:
        return (), 0, False
    verdict = facts.boot.verdicts.get(golden.digest) if facts.boot else None
    if verdict is not None:
        return verdict.findings, verdict.more, False
    if facts.asked.boot_log_sha256:
        return (), 0, True
    return (_missing(FindingId.UEFI_LOG_MISSING, "the boot log", "none", golden),), 0, False


def _ran(golden: Golden, facts: Facts) -> tuple[tuple[Finding, ...], int, bool]:
    """Return what the golden's runtime rules object to, how much more, and whether that is open."""
    if golden.runtime is None:
        return (), 0, False
    verdict = facts.ima.verdicts.get(golden.digest) if facts.ima else None
    if not ima_quoted(facts.pcrs):
        return (_missing(FindingId.IMA_LOG_MISSING, "a quote of PCR 10", str(facts.pcrs.selection), golden),), 0, False
    if verdict is not None:
        return verdict.findings, verdict.more, False
    if facts.asked.ima_offset or facts.ima_findings:
        return (), 0, True
    return (_missing(FindingId.IMA_LOG_MISSING, "the IMA log from its beginning", "none", golden),), 0, False


def ima_quoted(pcrs: QuotedPcrs) -> bool:
    """Tell whether some bank of PCR 10, into which IMA measures, was quoted."""
    return any(IMA_PCR in indices for _, indices in pcrs.selection.banks)


def _missing(finding_id: FindingId, expected: str, seen: str, golden: Golden) -> Finding:
    return Finding(id=finding_id, expected=expected, seen=seen, where=f"golden {golden.name}")


def _nearest_differs(held: Iterable[_Held], policy: Policy) -> Iterator[Finding]:
    """Say how the nearest golden differs, which one that matches does not; or that none is active, or none counts."""
    nearest = min(held, key=lambda one: (one.distance, one.golden.name), default=None)
    if nearest is not None:
        yield from nearest.findings
        if nearest.more:
            yield _left_out(nearest)
    elif policy.goldens:
        yield Finding(
            id=FindingId.GOLDEN_NOT_VALID,
            expected="a golden for this node's labels whose window is open",
            seen=_names(policy.goldens),
        )
    else:
        yield Finding(id=FindingId.GOLDEN_NONE, expected="at least one active golden", seen="none")


def _left_out(held: _Held) -> Finding:
    return Finding(
        id=held.findings[-1].id,
        expected="nothing else that differs",
        seen=f"{held.more} more findings",
        where=f"golden {held.golden.name}",
    )


def _names(goldens: tuple[Golden, ...]) -> str:
    names = sorted(golden.name for golden in goldens)
    more = len(names) - _SHOWN_VALUES
    return "active: " + ", ".join(names[:_SHOWN_VALUES]) + (f" and {more} more" if more > 0 else "")


def _alternatives(allowed: frozenset[bytes]) -> str:
    shown = [value.hex() for value in sorted(allowed)[:_SHOWN_VALUES]]
    more = len(allowed) - len(shown)
    return " or ".join(shown) + (f" or {more} more" if more else "")


def _shown(value: bytes | None) -> str:
    return "not quoted" if value is None else value.hex()


def _place(bank: HashAlg, index: int) -> str:
    return f"{bank.hashlib_name} PCR {index}"
