"""The events that a proved log may be believed about, PCR by PCR, and how much of each.

Of an event the digest is proved. Its data is proved where the digest was made of it, or of a part of it, and then
that part alone is read. Its type is not proved by anything, so nothing is decided by it (PC Client Platform Firmware
Profile 1.06, "Event Types"); it serves for words.
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
"""What firmware measures when it has done its part (PFP, EV_SEPARATOR)."""
ERROR_SEPARATOR: Final = b"\1\0\0\0"
"""What it measures instead when it failed."""
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
        bank: the judged bank.
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
        """Whether this ends what firmware measures into its PCR before it boots something."""
        return self.digest in digests_of(SEPARATORS, self.bank)

    def proved_data(self) -> bytes | None:
        """Return what the digest was made of; None: the data is a mere description, or other data."""
        return bound_data(self.event, self.bank)

    def unread(self) -> Objection:
        """Return the objection of whoever must know the data, but no digest proves it."""
        return Objection(
            id=FindingId.UEFI_EVENT,
            expected="data that its digest was made of",
            seen="other data, or none that can be read",
            where=f"{self.bank.hashlib_name} PCR {self.event.pcr}",
            about=self,
        )

    def __str__(self) -> str:
        return event_words(self.number, self.event)


class Objection(NamedTuple):
    """A finding that has yet to be put into words.

    A hostile log gives thousands of them, of which a hundred are shown: certificates and paths in events are decoded
    only for those.

    Attributes:
        id: what is wrong.
        expected: what is due.
        seen: what was found instead; its ``str`` is shown.
        where: bank and PCRs.
        about: the event; None: there is none.
    """

    id: FindingId
    expected: str
    seen: object
    where: str
    about: Measurement | None = None

    def finding(self) -> Finding:
        """Put it into words."""
        event = "" if self.about is None else str(self.about)
        return Finding(id=self.id, expected=self.expected, seen=str(self.seen), where=self.where, event=event)


def measurements(proved: ProvedLog) -> Mapping[int, tuple[Measurement, ...]]:
    """Return what was extended into each proved PCR, in order; PCRs that nothing extended are not there."""
    found: dict[int, list[Measurement]] = {}
    for number, event in _extending(proved):
        found.setdefault(event.pcr, []).append(Measurement(number, event, proved.bank))
    return {pcr: tuple(each) for pcr, each in found.items()}


def measured_into(proved: ProvedLog, pcr: int) -> tuple[Measurement, ...]:
    """Return what was extended into one PCR, in order; nothing if it is not proved."""
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
    """Tell whether proved data is a short line of ASCII, such as an EV_EFI_ACTION; no image or signature is one."""
    text = data.removesuffix(b"\0")
    return 0 < len(text) <= _MAX_ACTION and text.isascii() and text.decode().isprintable()


def event_words(number: int, event: Event) -> str:
    """Name an event for people: its place, claimed type, and what it claims to be."""
    return f"event {number} ({type_name(event.claimed_type)} {describe_briefly(event)})"


def describe_briefly(event: Event, max_text: int = MAX_TEXT) -> str:
    """Return one inert line on what the event claims: of an image its path."""
    if event.claimed_type in _IMAGES:
        try:
            return inert(decode_image_load(event.data).path) or "no path"
        except MalformedInput:
            return "no path"
    return describe_event(event, max_text)
