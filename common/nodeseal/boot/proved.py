"""Prove a boot log by a quote: the PCRs that it replays to are the ones it may be believed about."""

from __future__ import annotations

from dataclasses import dataclass

from nodeseal.boot.quirks import AppliedQuirk, FirmwareFacts
from nodeseal.findings import Finding
from nodeseal.quote import QuotedPcrs
from nodeseal.tcg.algorithms import HashAlg
from nodeseal.tcg.event_log import EventLog


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvedLog:
    """A boot log and the PCRs that it explains; made by :func:`prove_boot_log` and by nothing else.

    Attributes:
        log: all events; only those of ``proved`` PCRs may be believed.
        bank: the bank that was judged; the digests of other banks are not proved.
        proved: PCRs whose quoted value the log replays to, those among them that nothing extended.
        unexplained: quoted PCRs of 0 to 7 that it does not replay to.
        phases: words of systemd that explain PCR 11 beyond the log, in order.
        quirks: known deviations of firmware without which a PCR would not have replayed.
        findings: ``uefi.replay`` and ``uefi.quirk`` by PCR; ``uefi.log-malformed`` for a log that explains nothing.
    """

    log: EventLog
    bank: HashAlg
    proved: frozenset[int]
    unexplained: tuple[int, ...]
    phases: tuple[str, ...]
    quirks: tuple[AppliedQuirk, ...]
    findings: tuple[Finding, ...]


def prove_boot_log(log: EventLog, pcrs: QuotedPcrs, firmware: FirmwareFacts, bank: HashAlg | None = None) -> ProvedLog:
    """Replay ``log`` and hold it against the quoted values.

    Args:
        log: as the node sent it.
        pcrs: values that a quote proved.
        firmware: what the node says of its firmware; it only chooses quirks, which are reported when used.
        bank: the bank to judge; None: the strongest SHA-2 bank that is both quoted and in the log.
    """
    raise NotImplementedError
