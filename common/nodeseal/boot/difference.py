"""Name the first event that differs from what a golden's machine measured: words for people, nothing is judged by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from nodeseal.boot.measured import Measurement, describe_briefly, measurements
from nodeseal.boot.proved import ProvedLog
from nodeseal.golden.rules import ReferenceEvent
from nodeseal.tcg.algorithms import HashAlg
from nodeseal.tcg.event_log import NO_PCR, EventLog
from nodeseal.tcg.event_log_text import inert
from nodeseal.tcg.event_log_types import type_name

_SHOWN: Final = 16
"""Hex digits of a digest that tell events apart for people."""


def reference_events(log: EventLog, banks: Iterable[HashAlg]) -> tuple[ReferenceEvent, ...]:
    """Return the extended events of ``log`` as a golden keeps them, with their digests in ``banks``."""
    kept = tuple(banks)
    return tuple(
        ReferenceEvent(
            pcr=event.pcr,
            claimed_type=event.claimed_type,
            digests={bank: event.digests[bank] for bank in kept if bank in event.digests},
            what=describe_briefly(event),
        )
        for event in log.extended()
        if event.pcr != NO_PCR
    )


def first_difference(proved: ProvedLog, reference: tuple[ReferenceEvent, ...], pcr: int) -> str:
    """Say where PCR ``pcr`` first differs from ``reference``, for ``Finding.event``.

    Nothing is said when the log does not explain the PCR, when there is no reference, or when nothing differs.
    """
    if pcr not in proved.proved or not reference:
        return ""
    seen = measurements(proved).get(pcr, ())
    golden = [each for each in reference if each.pcr == pcr and proved.bank in each.digests]
    ours, theirs = [each.digest for each in seen], [each.digests[proved.bank] for each in golden]
    at = next((at for at, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None)
    if at is None:
        at = min(len(ours), len(theirs))
    if ours[at + 1 :] == theirs[at:] and ours[at:]:
        return f"{seen[at]}: digest {_short(ours[at])}, which the golden has not"
    if ours[at:] == theirs[at + 1 :] and theirs[at:]:
        return f"{_place(seen, at)}: golden has {_words(golden[at], proved.bank)}, which was not measured"
    if at < len(ours) and at < len(theirs):
        return f"{seen[at]}: digest {_short(ours[at])}, golden has {_words(golden[at], proved.bank)}"
    return _beyond(proved, seen, golden, at)


def _beyond(proved: ProvedLog, seen: Sequence[Measurement], golden: Sequence[ReferenceEvent], at: int) -> str:
    """Say which side goes on where the other ends, if one does."""
    if at < len(seen):
        return f"{seen[at]}: digest {_short(seen[at].digest)}, and {len(seen) - at - 1} more, which the golden has not"
    if at < len(golden):
        more = len(golden) - at - 1
        return f"{_place(seen, at)}: golden has {_words(golden[at], proved.bank)}, and {more} more, not measured"
    if proved.phases:
        return f"after the log's last event: systemd's {', '.join(proved.phases)}"
    return ""


def _place(seen: Sequence[Measurement], at: int) -> str:
    return f"before {seen[at]}" if at < len(seen) else "after the last event"


def _words(event: ReferenceEvent, bank: HashAlg) -> str:
    return f"{type_name(event.claimed_type)} {inert(event.what)} {_short(event.digests[bank])}"


def _short(digest: bytes) -> str:
    return f"{digest.hex()[:_SHOWN]}…"
