"""TCG event logs: the firmware's list of measurements (TCG PC Client Platform Firmware Profile v1.06, "Event Logging").

Three formats are read, all little-endian:

- crypto-agile: a first event in the old format (TCG_PCClientPCREvent) that holds the Specification ID
  (TCG_EfiSpecIDEvent) and names the banks, then events with one digest per bank (TCG_PCR_EVENT2);
- SHA-1: events in the old format only (TCG EFI Platform Specification 1.22);
- CCEL of confidential machines: crypto-agile, but registers are 0 to 4, of which 1 to 4 are a TDX guest's RTMR 0 to 3
  (UEFI 2.10, "Confidential Computing"), and the Specification ID stands in register 1.

A log is a claim; only events that replay into quoted PCR values are believed. Even then no digest covers their *types*,
and :mod:`nodeseal.uefi.event_log_binding` says how much of their data is covered. ``docs/event-logs.md`` lists how real
logs deviate, with a rule for each.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import HASHES_BY_NUMBER, HashAlg, bank_name
from nodeseal.tpm.pcr import PCR_COUNT
from nodeseal.tpm.pcr_usage import STARTUP_LOCALITIES
from nodeseal.uefi.event_log_reader import U32, LogReader
from nodeseal.uefi.event_log_types import EventType

MAX_EVENTS: Final = 16_384
NO_PCR: Final = 0xFFFFFFFF
"""PCR of the events that Windows adds to a log. They are EV_NO_ACTION and belong to no PCR."""
_CC_REGISTERS: Final = 5
_SPEC_ID: Final = b"Spec ID Event03\0"
STARTUP_LOCALITY: Final = b"StartupLocality\0"
"""Start of the event's data that names the locality of TPM2_Startup; 4: an H-CRTM ("Startup Locality Event")."""
_OLD_HEADER: Final = struct.Struct("<II20s")
_SPEC_HEADER: Final = struct.Struct("<16sIBBBBI")
_ALGORITHM: Final = struct.Struct("<HH")
_HEADER: Final = struct.Struct("<III")
_U16: Final = struct.Struct("<H")
_UINTN_64_BIT: Final = 2
_ONLY_UNREAD: Final = "activate the SHA-256 bank in the firmware's settings (TPM, PCR banks), then reboot"
_UNREAD: Final = {0x0012: 32, 0x0027: 32, 0x0028: 48, 0x0029: 64}
"""Digest sizes of registered banks that are skipped: SM3-256 and SHA3-256/384/512 (TCG Algorithm Registry)."""


class EventLogFormat(Enum):
    """Format of a log."""

    CRYPTO_AGILE = "crypto-agile"
    SHA1 = "sha1"
    CCEL = "ccel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event (TCG_PCR_EVENT2).

    Attributes:
        pcr: the extended PCR, or in a CCEL the register; :data:`NO_PCR` for events of Windows.
        claimed_type: type of the event, which no digest covers (:class:`~nodeseal.uefi.event_log_types.EventType`).
        digests: extended digests by bank; an absent bank was not extended (TPM2_PCR_Extend).
        data: description by the firmware.
    """

    pcr: int
    claimed_type: int
    digests: Mapping[HashAlg, bytes]
    data: bytes


@dataclass(frozen=True, slots=True)
class EventLog:
    """A whole log.

    Attributes:
        algorithms: banks of the events' digests.
        events: all events in order, without the Specification ID.
        form: the format.
        unread: TCG numbers of further banks, whose digests are skipped.
    """

    algorithms: tuple[HashAlg, ...]
    events: tuple[Event, ...]
    form: EventLogFormat = EventLogFormat.CRYPTO_AGILE
    unread: tuple[int, ...] = ()

    def extended(self) -> Iterator[Event]:
        """Iterate over the events that extend a PCR: all except EV_NO_ACTION."""
        return (event for event in self.events if event.claimed_type != EventType.NO_ACTION)

    def numbered(self) -> Iterator[tuple[int, Event]]:
        """Iterate over the events and their numbers in the file. The Specification ID has number 0."""
        return enumerate(self.events, start=0 if self.form is EventLogFormat.SHA1 else 1)


def decode_event_log(raw: bytes, max_events: int = MAX_EVENTS) -> EventLog:
    """Decode a log. Filler behind the last event (equal bytes 00 or ff) is ignored.

    Raises:
        MalformedInput: no log, cut off, a bank that is unknown or not announced, a PCR out of range, more than
            ``max_events`` events, or more bytes than ``event_log_reader.MAX_LOG`` or ``MAX_EVENT_DATA``.
    """
    reader = LogReader(raw)
    if raw[_OLD_HEADER.size + U32.size :].startswith(_SPEC_ID):
        form, sizes = _decode_specification_id(reader)
        algorithms = tuple(HashAlg(number) for number in sizes if number not in _UNREAD)
    else:
        form, sizes, algorithms = EventLogFormat.SHA1, {}, (HashAlg.SHA1,)
    events: list[Event] = []
    while not reader.only_filler_left():
        if len(events) == max_events:
            raise reader.fault(f"more than {max_events} events")
        reader.event = len(events) + bool(sizes)
        events.append(_decode_event(reader, form, sizes))
    return EventLog(algorithms, tuple(events), form, tuple(number for number in sizes if number in _UNREAD))


def encode_event_log(log: EventLog) -> bytes:
    """Return the bytes that decode to ``log``, without its unread banks."""
    if log.form is EventLogFormat.SHA1:
        return b"".join(_encode_old_event(event, event.digests[HashAlg.SHA1]) for event in log.events)
    return _encode_specification_id(log) + b"".join(_encode_event(event) for event in log.events)


def replay(log: EventLog, bank: HashAlg) -> dict[int, bytes]:
    """Return the PCR values that the log gives, by replay of TPM2_PCR_Extend (TPM Library Part 3).

    The result holds the PCRs that an event extends in this bank, and PCR 0 if the log names a startup locality.

    Raises:
        MalformedInput: the log has no such bank.
    """
    if bank not in log.algorithms:
        raise MalformedInput(f"event log: has no {bank.hashlib_name} bank")
    locality = startup_locality(log)
    values = {0: locality.to_bytes(bank.digest_size, "big")} if locality else {}
    for event in log.extended():
        if bank in event.digests:
            before = values.get(event.pcr, bytes(bank.digest_size))
            values[event.pcr] = bank.digest(before + event.digests[bank])
    return values


def startup_locality(log: EventLog) -> int:
    """Return the locality of TPM2_Startup, which PCR 0 starts with ("Startup Locality Event"); 0 if the log names none.

    Raises:
        MalformedInput: two localities, or an impossible one.
    """
    named = {
        number: event.data[len(STARTUP_LOCALITY) :]
        for number, event in log.numbered()
        if event.claimed_type == EventType.NO_ACTION and event.pcr == 0 and event.data.startswith(STARTUP_LOCALITY)
    }
    values = set(named.values())
    if len(values) > 1 or not values <= {bytes([locality]) for locality in STARTUP_LOCALITIES}:
        places = ", ".join(map(str, named))
        raise MalformedInput(f"event log: event {places}: names a startup locality that cannot be")
    return values.pop()[0] if values else 0


def _decode_specification_id(reader: LogReader) -> tuple[EventLogFormat, dict[int, int]]:
    """Read the first event; return the log's format, and the digest size of each bank by its TCG number."""
    pcr, claimed_type, _ = reader.unpack(_OLD_HEADER)
    if claimed_type != EventType.NO_ACTION or pcr not in (0, 1):
        raise reader.fault("a Specification ID of another type or PCR")
    data = reader.data()
    if len(data) < _SPEC_HEADER.size:
        raise reader.fault("its Specification ID is cut off")
    count = _SPEC_HEADER.unpack_from(data)[-1]
    end = _SPEC_HEADER.size + count * _ALGORITHM.size
    if len(data) <= end:
        raise reader.fault("its Specification ID is cut off")
    sizes = _bank_sizes(reader, data[_SPEC_HEADER.size : end])
    # some firmware states a size that leaves out the vendor information
    reader.take(max(0, data[end] - len(data[end + 1 :])))
    return (EventLogFormat.CCEL if pcr else EventLogFormat.CRYPTO_AGILE), sizes


def _bank_sizes(reader: LogReader, table: bytes) -> dict[int, int]:
    sizes: dict[int, int] = {}
    for number, size in _ALGORITHM.iter_unpack(table):
        due = _UNREAD.get(number) or _digest_size(reader, number)
        if number in sizes:
            raise reader.fault("names a bank twice")
        if size != due:
            raise reader.fault(f"a digest of bank 0x{number:04x} has {due} bytes, not {size}")
        sizes[number] = size
    if sizes.keys() <= _UNREAD.keys():
        only = ", ".join(map(bank_name, sizes))
        raise reader.fault(f"has none of the banks that are read{only and f', only {only}'}", remedy=_ONLY_UNREAD)
    return sizes


def _digest_size(reader: LogReader, number: int) -> int:
    try:
        return HashAlg(number).digest_size
    except ValueError:
        raise reader.fault(f"bank 0x{number:04x} is unknown") from None


def _decode_event(reader: LogReader, form: EventLogFormat, sizes: Mapping[int, int]) -> Event:
    digests: dict[HashAlg, bytes]
    if form is EventLogFormat.SHA1:
        pcr, claimed_type, digest = _OLD_HEADER.unpack(reader.take(_OLD_HEADER.size))
        digests = {HashAlg.SHA1: digest}
    else:
        pcr, claimed_type, count = reader.unpack(_HEADER)
        digests = _decode_digests(reader, count, sizes)
    data = reader.data()
    registers = _CC_REGISTERS if form is EventLogFormat.CCEL else PCR_COUNT
    if pcr >= registers and (pcr, claimed_type) != (NO_PCR, EventType.NO_ACTION):
        raise reader.fault(f"PCR {pcr} of {registers}")
    return Event(pcr=pcr, claimed_type=claimed_type, digests=digests, data=data)


def _decode_digests(reader: LogReader, count: int, sizes: Mapping[int, int]) -> dict[HashAlg, bytes]:
    """Read a TPML_DIGEST_VALUES. Events may differ in the order of their banks, and may leave banks out."""
    if not 0 < count <= len(sizes):
        raise reader.fault(f"{count} digests for {len(sizes)} banks")
    digests: dict[int, bytes] = {}
    for _ in range(count):
        (number,) = reader.unpack(_U16)
        if number not in sizes or number in digests:
            raise reader.fault(f"a digest of bank 0x{number:04x}, which is not due")
        digests[number] = reader.take(sizes[number])
    return {HASHES_BY_NUMBER[number]: digest for number, digest in digests.items() if number in HASHES_BY_NUMBER}


def _encode_specification_id(log: EventLog) -> bytes:
    head = _SPEC_HEADER.pack(_SPEC_ID, 0, 0, 2, 0, _UINTN_64_BIT, len(log.algorithms))
    data = head + b"".join(_ALGORITHM.pack(each, each.digest_size) for each in log.algorithms) + b"\0"
    first = Event(pcr=int(log.form is EventLogFormat.CCEL), claimed_type=EventType.NO_ACTION, digests={}, data=data)
    return _encode_old_event(first, bytes(HashAlg.SHA1.digest_size))


def _encode_old_event(event: Event, digest: bytes) -> bytes:
    return _OLD_HEADER.pack(event.pcr, event.claimed_type, digest) + U32.pack(len(event.data)) + event.data


def _encode_event(event: Event) -> bytes:
    digests = b"".join(_U16.pack(bank) + digest for bank, digest in event.digests.items())
    return (
        _HEADER.pack(event.pcr, event.claimed_type, len(event.digests))
        + digests
        + U32.pack(len(event.data))
        + event.data
    )
