"""Where two IMA logs differ: the first entry. Logs of one boot in two banks do not differ."""

from __future__ import annotations

from collections.abc import Sequence

from nodeseal.ima.log import ImaEntry


def entries_alike(before: Sequence[ImaEntry], after: Sequence[ImaEntry]) -> int:
    """Return the number of entries, from the first on, by which two logs measure the same into the same PCR."""
    pairs = zip(before, after, strict=False)
    return next(
        (number for number, (one, other) in enumerate(pairs) if _differ(one, other)), min(len(before), len(after))
    )


def _differ(one: ImaEntry, other: ImaEntry) -> bool:
    return (one.pcr, one.template, one.data, one.violation) != (other.pcr, other.template, other.data, other.violation)
