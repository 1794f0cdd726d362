"""Where two boot logs part: the first measurement of each PCR that differs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest

from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import STRONG_HASHES, HashAlg
from nodeseal.uefi.event_log import Event, EventLog, replay
from nodeseal.uefi.event_log_types import EventType

_PREFERRED = (*STRONG_HASHES, HashAlg.SHA1)


@dataclass(frozen=True, slots=True)
class NumberedEvent:
    """An event and its place in its log."""

    number: int
    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class LogDifference:
    """How two logs differ in one PCR.

    Attributes:
        pcr: the PCR.
        before: the first event of one log that is not the other's; ``None`` when the log has no more there.
        after: its counterpart.
        same: events of this PCR that come before and are the same.
    """

    pcr: int
    before: NumberedEvent | None
    after: NumberedEvent | None
    same: int


def preferred_bank(*logs: EventLog) -> HashAlg:
    """Return the bank to look at when nobody chose one: SHA-256, else the strongest that all ``logs`` have.

    Raises:
        MalformedInput: they share none.
    """
    for bank in _PREFERRED:
        if all(bank in log.algorithms for log in logs):
            return bank
    raise MalformedInput("event log: the logs have no bank in common")


def diff_event_logs(before: EventLog, after: EventLog, bank: HashAlg) -> tuple[LogDifference, ...]:
    """Return the PCRs that do not replay to the same value in ``bank``, ascending, each with its first difference.

    A PCR 0 that differs in its startup locality alone has the same events: ``before`` and ``after`` are ``None``.

    Raises:
        MalformedInput: a log has no such bank, or an impossible startup locality.
    """
    old, new = replay(before, bank), replay(after, bank)
    pcrs = sorted(pcr for pcr in old.keys() | new.keys() if old.get(pcr) != new.get(pcr))
    return tuple(_first_difference(before, after, bank, pcr) for pcr in pcrs)


def _first_difference(before: EventLog, after: EventLog, bank: HashAlg, pcr: int) -> LogDifference:
    same = 0
    for one, other in zip_longest(_measured(before, bank, pcr), _measured(after, bank, pcr)):
        if one is None or other is None or one.event.digests[bank] != other.event.digests[bank]:
            return LogDifference(pcr=pcr, before=one, after=other, same=same)
        same += 1
    return LogDifference(pcr=pcr, before=None, after=None, same=same)


def _measured(log: EventLog, bank: HashAlg, pcr: int) -> list[NumberedEvent]:
    return [
        NumberedEvent(number, event)
        for number, event in log.numbered()
        if event.pcr == pcr and event.claimed_type != EventType.NO_ACTION and bank in event.digests
    ]
