"""TCG event logs: what firmware says it measured (TCG PC Client Platform Firmware Profile v1.06, "Event Logging").

Only the crypto-agile format is read: a first event in the old SHA-1 format (TCG_PCClientPCREvent) that holds the
Specification ID (TCG_EfiSpecIDEvent) and names the banks, then events with one digest per bank (TCG_PCR_EVENT2). All
integers are little-endian.

A log is a claim. What is believed of it is what replays into PCR values that a quote proved; even then the *types* of
events are not covered by any digest, and an event's data only where its digest is a hash of that data.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from nodeseal.errors import MalformedInput
from nodeseal.tcg.algorithms import HashAlg
from nodeseal.tcg.pcr import PCR_COUNT

MAX_EVENTS: Final = 65_536
MAX_EVENT_DATA: Final = 1024 * 1024
"""Largest data of one event; whole certificates databases (dbx) have tens of kilobytes."""
_SPEC_ID: Final = b"Spec ID Event03\0"
_STARTUP_LOCALITY: Final = b"StartupLocality\0"
_LOCALITIES: Final = (0, 3, 4)
"""Whence TPM2_Startup may come: 4 stands for an H-CRTM sequence ("Startup Locality Event")."""
_OLD_HEADER: Final = struct.Struct("<II20sI")
_SPEC_HEADER: Final = struct.Struct("<16sIBBBBI")
_ALGORITHM: Final = struct.Struct("<HH")
_HEADER: Final = struct.Struct("<III")
_U16: Final = struct.Struct("<H")
_U32: Final = struct.Struct("<I")
_MAX_ALGORITHMS: Final = 16
_UINTN_64_BIT: Final = 2
_FILLER: Final = (b"\0", b"\xff")


class EventType(IntEnum):
    """Event types that mean something before any policy does ("Event Types"); a claim, like all of the log."""

    NO_ACTION = 0x00000003
    SEPARATOR = 0x00000004


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event (TCG_PCR_EVENT2).

    Attributes:
        pcr: the PCR that was extended.
        claimed_type: the event's type, which no digest covers; see :class:`EventType`.
        digests: what was extended, by bank.
        data: what the firmware says about it.
    """

    pcr: int
    claimed_type: int
    digests: Mapping[HashAlg, bytes]
    data: bytes


@dataclass(frozen=True, slots=True)
class EventLog:
    """A whole log.

    Attributes:
        algorithms: banks that every event has a digest for.
        events: all events behind the Specification ID, in order.
    """

    algorithms: tuple[HashAlg, ...]
    events: tuple[Event, ...]

    def extended(self) -> Iterator[Event]:
        """Iterate over the events that were extended: all but EV_NO_ACTION."""
        return (event for event in self.events if event.claimed_type != EventType.NO_ACTION)


def decode_event_log(raw: bytes, max_events: int = MAX_EVENTS) -> EventLog:
    """Decode a crypto-agile log; filler of equal bytes 00 or ff behind the last event is ignored.

    Raises:
        MalformedInput: not crypto-agile, cut off, a bank that is unknown or missing in an event, a PCR above 23, more
            than ``max_events`` events, or an event with more than :data:`MAX_EVENT_DATA` bytes of data.
    """
    reader = _Reader(raw)
    algorithms = _decode_specification_id(reader)
    events: list[Event] = []
    while not reader.only_filler_left():
        if len(events) == max_events:
            raise reader.fault(f"more than {max_events} events")
        reader.event = len(events) + 1
        events.append(_decode_event(reader, algorithms))
    return EventLog(algorithms, tuple(events))


def encode_event_log(log: EventLog) -> bytes:
    """Return the bytes that decode to ``log``."""
    return _encode_specification_id(log.algorithms) + b"".join(_encode_event(event) for event in log.events)


def replay(log: EventLog, bank: HashAlg) -> dict[int, bytes]:
    """Return the PCR values that the log accounts for, as TPM2_PCR_Extend would have made them (TPM Library Part 3).

    Only PCRs that an event extends are there, and PCR 0 when the log names a startup locality.

    Raises:
        MalformedInput: the log has no such bank.
    """
    if bank not in log.algorithms:
        raise MalformedInput(f"event log: has no {bank.hashlib_name} bank")
    locality = startup_locality(log)
    values = {0: locality.to_bytes(bank.digest_size, "big")} if locality else {}
    for event in log.extended():
        before = values.get(event.pcr, bytes(bank.digest_size))
        values[event.pcr] = bank.digest(before + event.digests[bank])
    return values


def startup_locality(log: EventLog) -> int:
    """Return the locality of TPM2_Startup, where PCR 0 starts ("Startup Locality Event"): 0 when the log does not say.

    Raises:
        MalformedInput: the log names two, or one that cannot be.
    """
    named = {
        event.data[len(_STARTUP_LOCALITY) :]
        for event in log.events
        if event.claimed_type == EventType.NO_ACTION and event.pcr == 0 and event.data.startswith(_STARTUP_LOCALITY)
    }
    if len(named) > 1 or not named <= {bytes([locality]) for locality in _LOCALITIES}:
        raise MalformedInput("event log: its startup locality cannot be")
    return named.pop()[0] if named else 0


class _Reader:
    """A cursor over little-endian bytes that knows the number of the event it is in."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0
        self.event = 0

    def fault(self, problem: str) -> MalformedInput:
        return MalformedInput(f"event log: event {self.event} at byte {self._at} of {len(self._raw)}: {problem}")

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        return layout.unpack(self.take(layout.size))

    def take(self, size: int) -> bytes:
        if size > len(self._raw) - self._at:
            raise self.fault(f"cut off, {size} bytes are due")
        self._at += size
        return self._raw[self._at - size : self._at]

    def data(self) -> bytes:
        (size,) = self.unpack(_U32)
        if size > MAX_EVENT_DATA:
            raise self.fault(f"{size} bytes of data, at most {MAX_EVENT_DATA}")
        return self.take(size)

    def only_filler_left(self) -> bool:
        """Tell whether what is left is nothing or filler; an event that could be confused with it has no digests."""
        header = self._raw[self._at : self._at + _HEADER.size]
        if not header:
            return True
        # the whole rest only where no event can begin: else the time would be quadratic
        filler = header[:1]
        return filler in _FILLER and not header.strip(filler) and not self._raw[self._at :].strip(filler)


def _decode_specification_id(reader: _Reader) -> tuple[HashAlg, ...]:
    pcr, claimed_type, _, size = _OLD_HEADER.unpack(reader.take(_OLD_HEADER.size))
    if (pcr, claimed_type) != (0, EventType.NO_ACTION):
        raise reader.fault("no Specification ID: not a crypto-agile log")
    data = reader.take(size)
    if not data.startswith(_SPEC_ID):
        raise reader.fault("no Specification ID: not a crypto-agile log")
    inner = _Reader(data)
    count = _SPEC_HEADER.unpack(inner.take(_SPEC_HEADER.size))[-1]
    if not 0 < count <= _MAX_ALGORITHMS:
        raise reader.fault(f"{count} banks, at most {_MAX_ALGORITHMS}")
    algorithms = tuple(_algorithm(inner, *inner.unpack(_ALGORITHM)) for _ in range(count))
    if len(set(algorithms)) != count:
        raise reader.fault("names a bank twice")
    inner.take(*inner.take(1))  # vendor information
    return algorithms


def _algorithm(reader: _Reader, number: int, size: int) -> HashAlg:
    try:
        algorithm = HashAlg(number)
    except ValueError:
        raise reader.fault(f"bank 0x{number:04x} is unknown or not accepted") from None
    if size != algorithm.digest_size:
        raise reader.fault(f"a digest of {algorithm.hashlib_name} does not have {size} bytes")
    return algorithm


def _decode_event(reader: _Reader, algorithms: tuple[HashAlg, ...]) -> Event:
    pcr, claimed_type, count = reader.unpack(_HEADER)
    if pcr >= PCR_COUNT:
        raise reader.fault(f"PCR {pcr}")
    if count != len(algorithms):
        raise reader.fault(f"{count} digests for {len(algorithms)} banks")
    digests: dict[HashAlg, bytes] = {}
    for _ in range(count):
        (number,) = reader.unpack(_U16)
        if number not in algorithms or number in digests:
            raise reader.fault(f"a digest of bank 0x{number:04x}, which is not due")
        algorithm = HashAlg(number)
        digests[algorithm] = reader.take(algorithm.digest_size)
    return Event(pcr=pcr, claimed_type=claimed_type, digests=digests, data=reader.data())


def _encode_specification_id(algorithms: tuple[HashAlg, ...]) -> bytes:
    head = _SPEC_HEADER.pack(_SPEC_ID, 0, 0, 2, 0, _UINTN_64_BIT, len(algorithms))
    data = head + b"".join(_ALGORITHM.pack(each, each.digest_size) for each in algorithms) + b"\0"
    return _OLD_HEADER.pack(0, EventType.NO_ACTION, bytes(20), len(data)) + data


def _encode_event(event: Event) -> bytes:
    digests = b"".join(_U16.pack(bank) + digest for bank, digest in event.digests.items())
    return (
        _HEADER.pack(event.pcr, event.claimed_type, len(event.digests))
        + digests
        + _U32.pack(len(event.data))
        + event.data
    )
