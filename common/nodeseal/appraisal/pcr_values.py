"""PCR values, the base of all kinds of evidence: which of them count, and how they compare with goldens.

Values count only if the quote's digest covers them. A round that continues the last one may leave them out while
selection and digest are the ones proved before; any other round is judged by the values that it carries itself.

One rule holds whatever goldens say: boot PCRs (0 to 7) that firmware never extended prove nothing. PCR 23, the lease
epoch, is quoted and never judged: an honest node changes it while it runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nodeseal.appraisal.kinds import boot
from nodeseal.appraisal.model import AuthenticEvidence, Continuity, Facts
from nodeseal.errors import ProofFailed
from nodeseal.evidence.quote import QuotedPcrs, prove_pcr_values
from nodeseal.findings import Finding, FindingId
from nodeseal.golden.model import Golden
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.attest import Quoted
from nodeseal.tpm.pcr import PcrSelection
from nodeseal.tpm.pcr_usage import FIRMWARE_PCRS

_SHOWN_VALUES: Final = 3


def prove(authentic: AuthenticEvidence, continuity: Continuity) -> QuotedPcrs | None:
    """Return the values that the quote proves; None: the node rebooted or its time broke, and it sent none.

    Raises:
        ProofFailed: PCR_DIGEST: values that were not proved before are missing, or the sent ones are not those quoted.
    """
    quoted, values, node = authentic.attest.quoted, authentic.sent.pcr_values, authentic.node
    known = node.baseline.judgement.facts.pcrs if node.baseline and node.baseline.judgement else None
    same = known is not None and (known.quoted is quoted or known.quoted == quoted)
    if values is not None:
        proved = prove_pcr_values(quoted, node.keys.verifier.hash_alg, values)
        return known if same else proved
    if continuity in (Continuity.REBOOTED, Continuity.BROKEN):
        return None
    if not same:
        raise ProofFailed(_missing(quoted))
    return known


def check(pcrs: QuotedPcrs) -> Iterator[Finding]:
    """Find boot PCRs that still have their reset value, whatever goldens say.

    That is all zeros or all ones, except for the last byte: PCR 0 starts with the locality of TPM2_Startup or the
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


def judge_banks(golden: Golden, selection: PcrSelection) -> Iterator[Finding]:
    """Find banks by which a golden judges and that a quote does not cover: nothing in them can be compared."""
    quoted = {bank for bank, _ in selection.banks}
    for bank in sorted(golden.static_pcrs().keys() - quoted):
        yield Finding(
            id=FindingId.PCR_BANK,
            expected=f"a quote of {bank.hashlib_name}",
            seen=f"one of {', '.join(each.hashlib_name for each in sorted(quoted))}",
            where=f"golden {golden.name}",
        )


def judge(golden: Golden, facts: Facts) -> Iterator[Finding]:
    """Find pinned PCRs whose value is not allowed or was not quoted; the boot log explains the first event."""
    for bank, index, allowed in golden.rows():
        value = facts.pcrs.get(bank, index)
        if value not in allowed:
            yield Finding(
                id=FindingId.PCR_MISMATCH,
                expected=_alternatives(allowed),
                seen=_shown(value),
                where=f"{_place(bank, index)}, golden {golden.name}",
                event="" if value is None else boot.explain(facts, golden, index),
            )


def _missing(quoted: Quoted) -> Finding:
    return Finding(
        id=FindingId.PCR_DIGEST,
        expected="PCR values, since these were not proved before",
        seen=f"none, with digest {quoted.pcr_digest.hex()}",
    )


def _alternatives(allowed: frozenset[bytes]) -> str:
    shown = [value.hex() for value in sorted(allowed)[:_SHOWN_VALUES]]
    more = len(allowed) - len(shown)
    return " or ".join(shown) + (f" or {more} more" if more else "")


def _shown(value: bytes | None) -> str:
    return "not quoted" if value is None else value.hex()


def _place(bank: HashAlg, index: int) -> str:
    return f"{bank.hashlib_name} PCR {index}"
