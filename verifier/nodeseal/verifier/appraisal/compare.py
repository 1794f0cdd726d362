"""Compare proved PCR values with policy; every difference is a finding.

A node is as it should be when *one* active golden matches whole. If none does, the findings are the differences from
the nearest golden, the one with the fewest, since that is most likely the one the node was meant to match.
Two rules hold whatever goldens say: boot PCRs (0 to 7) that firmware never extended prove nothing, and a node whose
cap PCR was extended has lost its leases until it reboots.
"""

from __future__ import annotations

from collections.abc import Iterator

from nodeseal.findings import Finding, FindingId
from nodeseal.golden.model import Golden
from nodeseal.quote import QuotedPcrs
from nodeseal.tcg.algorithms import HashAlg
from nodeseal.verifier.appraisal.model import Judgement, Policy

_BOOT_PCRS = range(8)
_SHOWN_VALUES = 3


def compare(pcrs: QuotedPcrs, policy: Policy) -> Judgement:
    """Hold proved PCR values against ``policy``."""
    matched = tuple(golden for golden in policy.goldens if not any(_differing(golden, pcrs)))
    findings = (*_unextended(pcrs), *_capped(pcrs, policy.cap_pcr), *(() if matched else _unmatched(pcrs, policy)))
    return Judgement(pcrs=pcrs, policy=policy, findings=findings, goldens=matched)


def _unextended(pcrs: QuotedPcrs) -> Iterator[Finding]:
    """Find boot PCRs that still have their reset value.

    That is all zeros or all ones, but for the last byte: PCR 0 starts with the locality of TPM2_Startup or the
    H-CRTM mark there (PC Client Platform Firmware Profile, "PCR[0]" and StartupLocality event).
    """
    for (bank, index), value in pcrs.items():
        if index in _BOOT_PCRS and len(set(value[:-1])) == 1 and value[0] in (0x00, 0xFF):
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


def _unmatched(pcrs: QuotedPcrs, policy: Policy) -> Iterator[Finding]:
    if not policy.goldens:
        yield Finding(id=FindingId.GOLDEN_NONE, expected="at least one active golden", seen="none")
        return
    nearest = min(policy.goldens, key=lambda golden: (sum(1 for _ in _differing(golden, pcrs)), golden.name))
    for bank, index, allowed in _differing(nearest, pcrs):
        yield Finding(
            id=FindingId.PCR_MISMATCH,
            expected=_alternatives(allowed),
            seen=_shown(pcrs.get(bank, index)),
            where=f"{_place(bank, index)}, golden {nearest.name}",
        )


def _differing(golden: Golden, pcrs: QuotedPcrs) -> Iterator[tuple[HashAlg, int, frozenset[bytes]]]:
    """Iterate the pinned PCRs whose value is not allowed or was not quoted."""
    return (row for row in golden.rows() if pcrs.get(row[0], row[1]) not in row[2])


def _alternatives(allowed: frozenset[bytes]) -> str:
    shown = [value.hex() for value in sorted(allowed)[:_SHOWN_VALUES]]
    more = len(allowed) - len(shown)
    return " or ".join(shown) + (f" or {more} more" if more else "")


def _shown(value: bytes | None) -> str:
    return "not quoted" if value is None else value.hex()


def _place(bank: HashAlg, index: int) -> str:
    return f"{bank.hashlib_name} PCR {index}"
