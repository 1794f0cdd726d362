"""What a machine will measure after an update, before it is rolled out.

A prediction starts from a golden's reference events and gives the events that the new files and words change their new
digests (:mod:`nodeseal.golden.predicted_events`). Exact values follow by replay, rules by name
(:mod:`nodeseal.golden.predicted_rules`).

Nothing is guessed that files alone do not tell: an image by another signer also changes the authorities that firmware
measures (PCR 7), and a new boot loader may measure other things.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from nodeseal.errors import MalformedInput
from nodeseal.golden.model import Golden, PcrValues
from nodeseal.golden.predicted_events import Renaming, Replacement, Step, Steps, renamed, replaced
from nodeseal.golden.predicted_rules import predicted_rules
from nodeseal.golden.rules import ReferenceEvent
from nodeseal.tpm.algorithms import HashAlg


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The golden for machines after the update.

    Attributes:
        golden: the new golden.
        changed: the reference events that differ, before and after; either is ``None`` where there are more or fewer.
    """

    golden: Golden
    changed: tuple[Step, ...]


def predict(
    golden: Golden, replacements: Sequence[Replacement], renamings: Sequence[Renaming], *, name: str, keep: bool
) -> Prediction:
    """Return the golden that machines will match after they boot with the new files.

    Args:
        golden: the golden that they match now; it must hold reference events.
        replacements: the new files.
        renamings: words that change in measured texts.
        name: of the new golden.
        keep: also allow what the golden allows now, for a rollout with one golden.

    Raises:
        MalformedInput: the golden holds no reference events, a target or an old word is not among them, or a file
            does not parse as what it replaces.
    """
    if not golden.reference:
        raise MalformedInput(
            f"golden {golden.name}: holds no reference events to predict from",
            remedy="capture it from evidence with a boot log: nodeseal golden capture",
        )
    banks = tuple(golden.reference[0].digests)
    steps: Steps = [(event, event) for event in golden.reference]
    for replacement in replacements:
        steps = replaced(steps, replacement, banks)
    for renaming in renamings:
        steps = renamed(steps, renaming, banks)
    changed = tuple((old, new) for old, new in steps if old != new)
    events = tuple(new for _, new in steps if new is not None)
    predicted = replace(
        golden,
        name=name,
        pcrs=_pcrs(golden, changed, events, keep=keep),
        boot=predicted_rules(golden.boot, steps, renamings, keep=keep) if golden.boot else None,
        reference=events,
    )
    return Prediction(golden=predicted, changed=changed)


def _pcrs(golden: Golden, changed: tuple[Step, ...], events: Sequence[ReferenceEvent], *, keep: bool) -> PcrValues:
    moved = {event.pcr for pair in changed for event in pair if event is not None}
    return {
        bank: {
            pcr: _replay(events, bank, pcr) | (allowed if keep else frozenset()) if pcr in moved else allowed
            for pcr, allowed in rows.items()
        }
        for bank, rows in golden.pcrs.items()
    }


def _replay(events: Iterable[ReferenceEvent], bank: HashAlg, pcr: int) -> frozenset[bytes]:
    value = bytes(bank.digest_size)
    for event in events:
        if event.pcr == pcr and bank in event.digests:
            value = bank.digest(value + event.digests[bank])
    return frozenset({value})
