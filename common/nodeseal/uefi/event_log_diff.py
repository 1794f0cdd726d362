"""Where two boot logs differ: the first measurement in each PCR."""

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
    """An event and its number in the log."""

    number: int
    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class LogDifference:
    """How two logs differ in one PCR.

    Attributes:
        pcr: the PCR.
        before: first event of the older log that differs; ``None``: the log has no further event there.
        after: its counterpart in the newer log, likewise.
        same: number of equal events of this PCR before them.
    """

    pcr: int
    before: NumberedEvent | None
    after: NumberedEvent | None
    same: int


def preferred_bank(*logs: EventLog) -> HashAlg:
    """Return the default bank: the first of SHA-256, SHA-384, SHA-512 and SHA-1 that all ``logs`` have.

    Raises:
        MalformedInput: no common bank.
    """
    for bank in _PREFERRED:
        if all(bank in log.algorithms for log in logs):
            return bank
    raise MalformedInput("event log: the logs have no bank in common")


def diff_event_logs(before: EventLog, after: EventLog, bank: HashAlg) -> tuple[LogDifference, ...]:
    """Return the first difference of each PCR that does not replay to the same value in ``bank``, by ascending PCR.

    If PCR 0 differs only in its startup locality, its events are equal: ``before`` and ``after`` are ``None``.

    Raises:
        MalformedInput: a log without that bank, or with an impossible startup locality.
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
