"""Explain which events differ from a golden's reference. Display only; no verdict depends on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Final, NamedTuple

from nodeseal.boot.measured import Measurement, describe_briefly, measured_into
from nodeseal.boot.proved import ProvedLog
from nodeseal.golden.rules import MAX_WHAT, ReferenceEvent
from nodeseal.inert import inert
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log import NO_PCR, EventLog
from nodeseal.uefi.event_log_text import MAX_TEXT
from nodeseal.uefi.event_log_types import type_name

_SHOWN: Final = 16
"""Hex digits of a digest that tell events apart for people."""
_MAX_ALIGNED: Final = 512
"""Most events that are aligned; the time for it grows with the square."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One measured event for people.

    Attributes:
        what: inert words that name the event.
        digest: what was extended.
    """

    what: str
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDifference:
    """One difference between a golden's reference and what was measured now.

    Attributes:
        golden: the reference event; None: the reference has none here.
        seen: the event that was measured instead; None: nothing was measured.
    """

    golden: Shown | None
    seen: Shown | None


class _Extended(NamedTuple):
    """One extend. Words are made only for extends that are shown.

    Attributes:
        digest: what was extended.
        about: the source of the digest; words for what no log holds.
    """

    digest: bytes
    about: Measurement | ReferenceEvent | str

    @property
    def what(self) -> str:
        """The event in words for people; types and names in them are claims."""
        if isinstance(self.about, ReferenceEvent):
            return f"{type_name(self.about.claimed_type)} {inert(self.about.what)[:MAX_TEXT]}"
        return str(self.about)

    def __str__(self) -> str:
        return f"{self.what} {_short(self.digest)}"


def reference_events(log: EventLog, banks: Iterable[HashAlg]) -> tuple[ReferenceEvent, ...]:
    """Return the reference events for a golden: the events of ``log`` that extended ``banks``, with their digests.

    Texts keep their full length, up to a golden's limit, because predictions replace words in them.
    """
    kept = frozenset(banks)
    return tuple(
        ReferenceEvent(
            pcr=event.pcr,
            claimed_type=event.claimed_type,
            digests={bank: digest for bank, digest in event.digests.items() if bank in kept},
            what=describe_briefly(event, MAX_WHAT)[:MAX_WHAT],
        )
        for event in log.extended()
        if event.pcr != NO_PCR and not kept.isdisjoint(event.digests)
    )


def first_difference(proved: ProvedLog, reference: tuple[ReferenceEvent, ...], pcr: int) -> str:
    """Say where PCR ``pcr`` first differs from ``reference``, for ``Finding.event``.

    The text is empty if the log does not explain the PCR, if there is no reference, or if nothing differs.
    """
    if pcr not in proved.proved or not reference:
        return ""
    seen, golden = _seen(proved, pcr), _due(reference, pcr, proved.bank)
    ours, theirs = [each.digest for each in seen], [each.digest for each in golden]
    at = _alike(ours, theirs)
    if ours[at + 1 :] == theirs[at:] and ours[at:]:
        return f"{seen[at].what}: digest {_short(ours[at])}, which the golden has not"
    if ours[at:] == theirs[at + 1 :] and theirs[at:]:
        return f"{_place(seen, at)}: golden has {golden[at]}, which was not measured"
    if at < len(ours) and at < len(theirs):
        return f"{seen[at].what}: digest {_short(ours[at])}, golden has {golden[at]}"
    return _beyond(seen, golden, at)


def event_differences(
    proved: ProvedLog, reference: tuple[ReferenceEvent, ...], pcr: int
) -> tuple[EventDifference, ...]:
    """Return all differences of PCR ``pcr`` between ``reference`` and what was measured, in order.

    Returns:
        An empty tuple if the log does not explain the PCR, if there is no reference, or if nothing differs. If very
        many events differ, they are paired by position.
    """
    if pcr not in proved.proved or not reference:
        return ()
    seen, golden = _seen(proved, pcr), _due(reference, pcr, proved.bank)
    at = _alike([each.digest for each in golden], [each.digest for each in seen])
    golden, seen = golden[at:], seen[at:]
    return tuple(
        EventDifference(golden=_shown(before), seen=_shown(now))
        for left, right in _differing(golden, seen)
        for before, now in zip_longest(golden[left], seen[right])
    )


def _shown(event: _Extended | None) -> Shown | None:
    return Shown(event.what, event.digest) if event else None


def _differing(golden: Sequence[_Extended], seen: Sequence[_Extended]) -> Iterator[tuple[slice, slice]]:
    if max(len(golden), len(seen)) > _MAX_ALIGNED:
        yield slice(None), slice(None)
        return
    matcher = SequenceMatcher(None, [each.digest for each in golden], [each.digest for each in seen], autojunk=False)
    for kind, start, end, from_, to in matcher.get_opcodes():
        if kind != "equal":
            yield slice(start, end), slice(from_, to)


def _seen(proved: ProvedLog, pcr: int) -> list[_Extended]:
    """Return what was measured into a PCR: the log's events, then systemd's words."""
    hashed = proved.bank.digest
    return [
        *(_Extended(each.digest, each) for each in measured_into(proved, pcr)),
        *(_Extended(hashed(word.encode()), f"after the log: systemd's {word}") for word in proved.words(pcr)),
    ]


def _due(reference: Iterable[ReferenceEvent], pcr: int, bank: HashAlg) -> list[_Extended]:
    """Return what the golden's machine measured into a PCR."""
    return [_Extended(each.digests[bank], each) for each in reference if each.pcr == pcr and bank in each.digests]


def _alike(ours: list[bytes], theirs: list[bytes]) -> int:
    """Count the equal events at the beginning."""
    pairs = enumerate(zip(ours, theirs, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(ours), len(theirs)))


def _beyond(seen: Sequence[_Extended], golden: Sequence[_Extended], at: int) -> str:
    """Say which side has more events than the other, if one has."""
    if at < len(seen):
        more = len(seen) - at - 1
        return f"{seen[at].what}: digest {_short(seen[at].digest)}, and {more} more, which the golden has not"
    if at < len(golden):
        more = len(golden) - at - 1
        return f"{_place(seen, at)}: golden has {golden[at]}, and {more} more, not measured"
    return ""


def _place(seen: Sequence[_Extended], at: int) -> str:
    return f"before {seen[at].what}" if at < len(seen) else "after the last event"


def _short(digest: bytes) -> str:
    return f"{digest.hex()[:_SHOWN]}…"
