"""The events of proved PCRs, and how much of each event is proved.

The digest of an event is proved. Its data is proved if the digest was made of it, or of a part of it; then only that
part is read. Its type is not proved, so no decision depends on it (PC Client Platform Firmware Profile 1.06, "Event
Types"); it serves for words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Final, NamedTuple

from nodeseal.boot.proved import ProvedLog
from nodeseal.errors import MalformedInput
from nodeseal.findings import Finding, FindingId
from nodeseal.inert import inert
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log import Event
from nodeseal.uefi.event_log_binding import bound_data
from nodeseal.uefi.event_log_text import MAX_TEXT, describe_event
from nodeseal.uefi.event_log_types import EventType, type_name
from nodeseal.uefi.image_load import decode_image_load

SEPARATORS: Final = (bytes(4), b"\xff" * 4)
"""What firmware measures at the end of its part (PFP, EV_SEPARATOR)."""
ERROR_SEPARATOR: Final = b"\1\0\0\0"
"""What firmware measures instead after a failure."""
_MAX_ACTION: Final = 128
_IMAGES: Final = (
    EventType.EFI_BOOT_SERVICES_APPLICATION,
    EventType.EFI_BOOT_SERVICES_DRIVER,
    EventType.EFI_RUNTIME_SERVICES_DRIVER,
)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One extend that a quote proves.

    Attributes:
        number: the event's place in the log.
        event: the event.
        bank: the replayed bank.
    """

    number: int
    event: Event = field(hash=False)
    bank: HashAlg

    @property
    def digest(self) -> bytes:
        """What was extended."""
        return self.event.digests[self.bank]

    @property
    def is_separator(self) -> bool:
        """Whether this event ends the firmware's part of its PCR."""
        return self.digest in digests_of(SEPARATORS, self.bank)

    def proved_data(self) -> bytes | None:
        """Return the data that the digest was made of; None: the event's data is a description, or other data."""
        return bound_data(self.event, self.bank)

    def unread(self) -> Objection:
        """Return the objection that no digest proves the data."""
        return Objection(
            id=FindingId.UEFI_EVENT,
            expected="data that its digest was made of",
            seen="other data, or none that can be read",
            where=f"{self.bank.hashlib_name} PCR {self.event.pcr}",
            about=self,
        )

    def __str__(self) -> str:
        return event_words(self.number, self.event)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredContent:
    """A content of which an event proves the digest.

    Attributes:
        measurement: the event.
    """

    measurement: Measurement

    @property
    def digest(self) -> bytes:
        """The digest in the replayed bank: proved. Images have an Authenticode digest."""
        return self.measurement.digest


class Objection(NamedTuple):
    """A finding whose words are made on demand.

    A hostile log causes thousands of objections, and a hundred are shown. Certificates and paths in events are decoded
    only for these.

    Attributes:
        id: what is wrong.
        expected: what is expected.
        seen: what was found; its ``str`` is shown.
        where: bank and PCRs.
        about: the event; None: there is none.
    """

    id: FindingId
    expected: str
    seen: object
    where: str
    about: Measurement | None = None

    def finding(self) -> Finding:
        """Return the finding in words."""
        event = "" if self.about is None else str(self.about)
        return Finding(id=self.id, expected=self.expected, seen=str(self.seen), where=self.where, event=event)


def measurements(proved: ProvedLog) -> Mapping[int, tuple[Measurement, ...]]:
    """Return the extends of each proved PCR, in order. PCRs that nothing extended are left out."""
    found: dict[int, list[Measurement]] = {}
    for number, event in _extending(proved):
        found.setdefault(event.pcr, []).append(Measurement(number, event, proved.bank))
    return {pcr: tuple(each) for pcr, each in found.items()}


def measured_into(proved: ProvedLog, pcr: int) -> tuple[Measurement, ...]:
    """Return the extends of one PCR, in order; an empty tuple if the PCR is not proved."""
    return tuple(Measurement(number, event, proved.bank) for number, event in _extending(proved) if event.pcr == pcr)


def _extending(proved: ProvedLog) -> Iterator[tuple[int, Event]]:
    for number, event in proved.log.numbered():
        if event.pcr in proved.proved and proved.bank in event.digests and event.claimed_type != EventType.NO_ACTION:
            yield number, event


@cache
def digests_of(contents: tuple[bytes, ...], bank: HashAlg) -> Mapping[bytes, bytes]:
    """Return contents by their digests in ``bank``."""
    return {bank.digest(content): content for content in contents}


def is_action(data: bytes) -> bool:
    """Tell whether proved data is a short line of ASCII, such as an EV_EFI_ACTION. No image or signature is."""
    text = data.removesuffix(b"\0")
    return 0 < len(text) <= _MAX_ACTION and text.isascii() and text.decode().isprintable()


def event_words(number: int, event: Event) -> str:
    """Name an event for people: its number, claimed type and claimed content."""
    return f"event {number} ({type_name(event.claimed_type)} {describe_briefly(event)})"


def describe_briefly(event: Event, max_text: int = MAX_TEXT) -> str:
    """Return one inert line on what the event claims; for an image, its path."""
    if event.claimed_type in _IMAGES:
        try:
            return inert(decode_image_load(event.data).path) or "no path"
        except MalformedInput:
            return "no path"
    return describe_event(event, max_text)
