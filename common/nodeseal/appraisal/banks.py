"""Which PCRs a node must quote: in the banks that its TPM has, that the settings name and that its goldens judge by.

A node says which banks its TPM has. That is a claim, and a lie gains nothing: a golden counts only in the banks that it
names, and a quote must cover exactly the PCRs that were asked for. SHA-1 is never chosen, alone or beside others.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from nodeseal.appraisal.applicable import serves
from nodeseal.appraisal.model import KnownNode, Policy
from nodeseal.findings import Finding, FindingId
from nodeseal.golden.model import Golden
from nodeseal.tpm.algorithms import STRONG_HASHES, HashAlg, bank_name
from nodeseal.tpm.pcr import PcrSelection


def choose_selection(asked: PcrSelection, banks: tuple[int, ...], node: KnownNode, policy: Policy) -> PcrSelection:
    """Return the PCRs that a node quotes.

    Args:
        asked: the PCRs that the settings name.
        banks: numbers (TPM_ALG_ID) of the banks that the node says it has; empty: it says nothing, as agents of older
            releases do. Without a bank that counts, the answer is ``asked``, too: the node cannot quote that, and says
            so (:func:`no_bank`).
        node: the node.
        policy: its goldens choose banks beside those that the settings name.
    """
    usable = usable_banks(banks)
    if not usable or len(usable) == len(asked.banks) == sum(bank in usable for bank, _ in asked.banks):
        return asked
    serving = (golden for golden in policy.goldens if serves(golden, node.labels))
    wanted = dict.fromkeys((*(bank for bank, _ in asked.banks), *_judged_by(serving)))
    chosen = [bank for bank in wanted if bank in usable] or usable[:1]
    return _selection(asked, tuple(chosen))


def usable_banks(banks: tuple[int, ...]) -> list[HashAlg]:
    """Return the banks that may be quoted, weakest first: SHA-1 and unknown ones are none."""
    return [bank for bank in STRONG_HASHES if bank in banks]


@lru_cache(maxsize=64)
def _selection(asked: PcrSelection, banks: tuple[HashAlg, ...]) -> PcrSelection:
    return PcrSelection.of({bank: pcrs_in(asked, bank) for bank in banks})


def pcrs_in(asked: PcrSelection, bank: HashAlg) -> tuple[int, ...]:
    """Return the PCRs to quote of a bank: those that the settings name for it, else those that they name at all."""
    return dict(asked.banks).get(bank) or tuple(sorted({pcr for _, pcr in asked.indices()}))


def no_bank(banks: tuple[int, ...]) -> Finding:
    """Return the finding for a TPM in which no bank that counts is active."""
    seen = ", ".join(map(bank_name, banks)) or "none"
    return Finding(id=FindingId.PCR_NO_BANK, expected="an active PCR bank of SHA-2", seen=f"only {seen}")


def _judged_by(goldens: Iterable[Golden]) -> list[HashAlg]:
    return sorted({bank for golden in goldens for bank in golden.static_pcrs()})
