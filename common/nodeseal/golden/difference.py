"""What two goldens judge differently."""

from __future__ import annotations

from dataclasses import dataclass

from nodeseal.golden.model import Golden
from nodeseal.tcg.algorithms import HashAlg


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenDifference:
    """One PCR that two goldens do not allow the same values for.

    Attributes:
        bank: its bank.
        pcr: its index.
        before: values the first golden allows; empty: it does not pin this PCR.
        after: values the second one allows.
    """

    bank: HashAlg
    pcr: int
    before: frozenset[bytes]
    after: frozenset[bytes]


def diff_goldens(before: Golden, after: Golden) -> tuple[GoldenDifference, ...]:
    """Return the PCRs whose allowed values differ, banks and PCRs ascending."""
    old, new = ({(bank, pcr): allowed for bank, pcr, allowed in g.rows()} for g in (before, after))
    nothing: frozenset[bytes] = frozenset()
    rows = ((place, old.get(place, nothing), new.get(place, nothing)) for place in sorted(old.keys() | new.keys()))
    return tuple(
        GoldenDifference(bank=bank, pcr=pcr, before=was, after=now) for (bank, pcr), was, now in rows if was != now
    )
