"""Prove a boot log by a quote: the log is believed about the PCRs whose quoted values it replays to.

A log is replayed in one bank, as TPM2_PCR_Extend works (TPM Library Part 3; PC Client Platform Firmware Profile 1.06,
"Event Logging" and "Startup Locality Event"). Only firmware extends PCR 0 to 7 before ExitBootServices, so a log that
does not replay there is wrong. Boot loaders and operating systems extend the other PCRs later; a log that does not
replay there is only not believed about them. systemd measures words without a line in this log: in PCR 11 as the boot
proceeds, and since version 261 one word in most PCRs, which separates what firmware and boot loader measured from what
the system measures (systemd-pcrphase.service(8)). The replay accepts these words after all events. They are constants,
so they neither hide nor add an event.

SHA-1 logs and logs of confidential machines (CCEL) explain nothing in the banks that count here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from nodeseal.boot.quirks import AppliedQuirk, Effect, FirmwareFacts, Quirk, quirks_for
from nodeseal.errors import MalformedInput
from nodeseal.evidence.quote import QuotedPcrs
from nodeseal.findings import Finding, FindingId
from nodeseal.tpm.algorithms import STRONG_HASHES, HashAlg
from nodeseal.tpm.pcr_usage import FIRMWARE_PCRS, STATIC_PCRS, STUB_PCR
from nodeseal.uefi.event_log import EventLog, EventLogFormat, replay

_INITRD: Final = ("enter-initrd", "leave-initrd")
"""An initial RAM disk without systemd (initramfs-tools) leaves these out; one by dracut measures them."""
_UP: Final = ("sysinit", "ready", "shutdown", "final")
"""A soft-reboot begins with the first of them again."""
_MAX_STARTS: Final = 32
"""Starts of userspace in one boot: soft-reboots and one."""
_SEPARATOR: Final = "os-separator"
_SEPARATED: Final = frozenset({*FIRMWARE_PCRS, 9, 12, 13, 14})
"""PCRs of systemd-pcrosseparator.service, which measures its word in the initial RAM disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvedLog:
    """A boot log and the PCRs that it explains. Only :func:`prove_boot_log` makes one.

    Attributes:
        log: all events; only events of ``proved`` PCRs may be believed.
        bank: the replayed bank; the digests of other banks are not proved.
        proved: PCRs whose quoted value the log replays to, including PCRs that nothing extended.
        unexplained: quoted PCRs of 0 to 7 that the log does not replay to.
        by_value: those of them that a quirk leaves to goldens that pin their values.
        phases: words of systemd that explain PCR 11 beyond the log, in order.
        separated: PCRs that systemd's separator explains beyond the log, with their values before the separator.
        quirks: known deviations of firmware without which a PCR would not have replayed.
        findings: ``uefi.replay`` and ``uefi.quirk`` by PCR; ``uefi.log-malformed`` for a log that explains nothing.
    """

    log: EventLog
    bank: HashAlg
    proved: frozenset[int]
    unexplained: tuple[int, ...] = ()
    by_value: frozenset[int] = frozenset()
    phases: tuple[str, ...] = ()
    separated: Mapping[int, bytes] = field(default_factory=dict)
    quirks: tuple[AppliedQuirk, ...] = ()
    findings: tuple[Finding, ...] = ()

    def words(self, pcr: int) -> tuple[str, ...]:
        """Return the words that systemd measured into a PCR after the log's events, in order."""
        if pcr == STUB_PCR:
            return self.phases
        return (_SEPARATOR,) if pcr in self.separated else ()


@dataclass(frozen=True, slots=True)
class _Place:
    """A PCR of a bank."""

    bank: HashAlg
    pcr: int

    def __str__(self) -> str:
        return f"{self.bank.hashlib_name} PCR {self.pcr}"


@dataclass(frozen=True, slots=True)
class _Beyond:
    """What may have been measured beyond the log: by this firmware, and by the system as it starts."""

    firmware: FirmwareFacts
    phases: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Explained:
    """The result of replaying one PCR."""

    place: _Place
    proved: bool = False
    before: bytes = b""
    words: tuple[str, ...] = ()
    quirk: AppliedQuirk | None = None
    finding: Finding | None = None


def prove_boot_log(
    log: EventLog,
    pcrs: QuotedPcrs,
    firmware: FirmwareFacts,
    bank: HashAlg | None = None,
    phases: tuple[str, ...] = (),
) -> ProvedLog:
    """Replay ``log`` and compare it with the quoted values.

    Args:
        log: as the node sent it.
        pcrs: values that a quote proved.
        firmware: the node's claims about its firmware; they only choose quirks, and used quirks are reported.
        bank: the bank to replay; None: the strongest SHA-2 bank that is both quoted and in the log.
        phases: words that a golden expects in PCR 11 beside those of systemd.
    """
    wanted = STRONG_HASHES[::-1] if bank is None else (bank,)
    chosen = next((each for each in wanted if each in STRONG_HASHES and _serves(log, pcrs, each)), None)
    if chosen is None:
        return _nothing(log, wanted[-1], f"none of its banks ({_names(log)}) was quoted{_advice(log)}")
    if log.form is not EventLogFormat.CRYPTO_AGILE:
        return _nothing(log, chosen, f"it is a {log.form.value} log")
    try:
        replayed = replay(log, chosen)
    except MalformedInput as error:
        return _nothing(log, chosen, str(error))
    return _prove(log, pcrs, chosen, replayed, _Beyond(firmware, phases))


def _serves(log: EventLog, pcrs: QuotedPcrs, bank: HashAlg) -> bool:
    return bank in log.algorithms and any(bank is each for each, _ in pcrs.selection.banks)


def _names(log: EventLog) -> str:
    return ", ".join(bank.hashlib_name for bank in log.algorithms)


def _advice(log: EventLog) -> str:
    """Return advice for firmware whose SHA-256 bank is turned off."""
    only_sha1 = log.algorithms == (HashAlg.SHA1,)
    return "; if firmware measures into no other, enable its SHA-256 bank in its settings" if only_sha1 else ""


def _nothing(log: EventLog, bank: HashAlg, why: str) -> ProvedLog:
    finding = Finding(
        id=FindingId.UEFI_LOG_MALFORMED,
        expected="a crypto-agile log of a quoted SHA-2 bank",
        seen=why,
        where="boot log",
    )
    return ProvedLog(log=log, bank=bank, proved=frozenset(), findings=(finding,))


def _prove(log: EventLog, pcrs: QuotedPcrs, bank: HashAlg, replayed: dict[int, bytes], beyond: _Beyond) -> ProvedLog:
    explained = [
        _explain(_Place(bank, pcr), replayed.get(pcr, bytes(bank.digest_size)), quoted, beyond)
        for pcr in STATIC_PCRS
        if (quoted := pcrs.get(bank, pcr)) is not None
    ]
    return ProvedLog(
        log=log,
        bank=bank,
        proved=frozenset(each.place.pcr for each in explained if each.proved),
        unexplained=tuple(each.place.pcr for each in explained if not each.proved and each.place.pcr in FIRMWARE_PCRS),
        by_value=frozenset(each.place.pcr for each in explained if each.quirk and not each.proved),
        phases=tuple(word for each in explained if each.place.pcr == STUB_PCR for word in each.words),
        separated={each.place.pcr: each.before for each in explained if each.words and each.place.pcr != STUB_PCR},
        quirks=tuple(each.quirk for each in explained if each.quirk),
        findings=tuple(each.finding for each in explained if each.finding),
    )


def _explain(place: _Place, value: bytes, quoted: bytes, beyond: _Beyond) -> _Explained:
    """Find words and quirks by which the replayed value leads to the quoted one."""
    words = _said(place, value, quoted, beyond)
    if words is not None:
        return _Explained(place=place, proved=True, before=value, words=words)
    for quirk, before in _explaining(beyond.firmware, place, value):
        words = _said(place, before, quoted, beyond)
        if words is not None:
            finding = _quirk_finding(quirk, place)
            return _Explained(place=place, proved=True, before=before, words=words, quirk=quirk, finding=finding)
    for row in quirks_for(beyond.firmware, place.pcr):
        if row.effect is Effect.VALUE_ALONE:
            given_up = _applied(row)
            return _Explained(place=place, quirk=given_up, finding=_quirk_finding(given_up, place))
    if place.pcr in FIRMWARE_PCRS:
        return _Explained(place=place, finding=_replay_finding(place, quoted, value))
    return _Explained(place=place)


def _explaining(firmware: FirmwareFacts, place: _Place, value: bytes) -> Iterator[tuple[AppliedQuirk, bytes]]:
    """Iterate over quirks, each with the value that it makes of the replayed one."""
    for quirk in quirks_for(firmware, place.pcr):
        for actions in quirk.effect.unlogged:
            yield _applied(quirk), _extended(place.bank, value, actions)


def _applied(quirk: Quirk) -> AppliedQuirk:
    return AppliedQuirk(id=quirk.id, pcr=quirk.pcr, deviates=quirk.deviates, gives_up=quirk.gives_up)


def _extended(bank: HashAlg, value: bytes, contents: tuple[bytes, ...]) -> bytes:
    for content in contents:
        value = bank.digest(value + bank.digest(content))
    return value


def _said(place: _Place, value: bytes, quoted: bytes, beyond: _Beyond) -> tuple[str, ...] | None:
    """Return the words that lead from ``value`` to the quoted one, in order; None: no words do."""
    if value == quoted:
        return ()
    for words in _words(place.pcr, beyond.phases):
        reached = value
        for number, word in enumerate(words, start=1):
            reached = _extended(place.bank, reached, (word.encode(),))
            if reached == quoted:
                return words[:number]
    return None


def _words(pcr: int, phases: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Iterate over what the system may have measured after the log's events: a beginning of one of these."""
    if pcr in _SEPARATED:
        yield (_SEPARATOR,)
    if pcr == STUB_PCR:
        yield _UP * _MAX_STARTS
        yield _INITRD + _UP * _MAX_STARTS
        yield phases * _MAX_STARTS


def _replay_finding(place: _Place, quoted: bytes, value: bytes) -> Finding:
    return Finding(
        id=FindingId.UEFI_REPLAY,
        expected=f"the quoted {quoted.hex()}",
        seen=f"a log that gives {value.hex()}",
        where=str(place),
    )


def _quirk_finding(quirk: AppliedQuirk, place: _Place) -> Finding:
    return Finding(
        id=FindingId.UEFI_QUIRK,
        expected="a log that replays as it stands",
        seen=f"{quirk.id}: {quirk.deviates}; {quirk.gives_up}",
        where=str(place),
    )
