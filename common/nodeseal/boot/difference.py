"""Name the first event that differs from what a golden's machine measured."""

from __future__ import annotations

from collections.abc import Iterable

from nodeseal.boot.proved import ProvedLog
from nodeseal.golden.rules import ReferenceEvent
from nodeseal.tcg.algorithms import HashAlg
from nodeseal.tcg.event_log import EventLog


def reference_events(log: EventLog, banks: Iterable[HashAlg]) -> tuple[ReferenceEvent, ...]:
    """Return the extended events of ``log`` as a golden keeps them, with their digests in ``banks``."""
    raise NotImplementedError


def first_difference(proved: ProvedLog, reference: tuple[ReferenceEvent, ...], pcr: int) -> str:
    """Say in words for ``Finding.event`` where PCR ``pcr`` first differs; empty when not proved or nothing differs."""
    raise NotImplementedError
