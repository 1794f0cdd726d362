"""The section ``reference`` of a golden: what a machine measured when the golden was made, event by event.

It explains differences and is the base of predictions. No verdict depends on it. So that it cannot mislead, the events
of a PCR with exact values must replay to one of these values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from nodeseal.documents import Fields, Item
from nodeseal.golden.model import PcrValues
from nodeseal.golden.rules import MAX_WHAT, ReferenceEvent
from nodeseal.tpm.algorithms import STRONG_HASHES_BY_NAME, HashAlg
from nodeseal.tpm.pcr import LAST_PCR
from nodeseal.tpm.pcr_usage import DYNAMIC_PCRS, STARTUP_LOCALITIES
from nodeseal.uefi.event_log_types import EventType, type_name

MAX_REFERENCE_EVENTS = 8192
_NUMBER = re.compile(r"0x[0-9a-f]{8}")
_TYPES = {type_name(each): each.value for each in EventType}


def take_reference(fields: Fields, pcrs: PcrValues) -> tuple[ReferenceEvent, ...]:
    """Parse the section.

    Args:
        fields: the golden's document.
        pcrs: the golden's exact PCR values.

    Raises:
        MalformedInput: the section is wrong; the message names source, line and key.
    """
    events = tuple(_event(item) for item in fields.each("reference", max_items=MAX_REFERENCE_EVENTS))
    for bank, rows in pcrs.items():
        for pcr, allowed in rows.items():
            measured = [event.digests[bank] for event in events if event.pcr == pcr and bank in event.digests]
            if measured and not allowed & set(_replays(bank, pcr, measured)):
                raise fields.wrong("reference", f"what makes {bank.hashlib_name} PCR {pcr} one of its allowed values")
    return events


def _event(item: Item) -> ReferenceEvent:
    fields = item.fields()
    event = ReferenceEvent(
        pcr=fields.integer("pcr", low=0, high=LAST_PCR),
        claimed_type=_take_type(fields),
        digests={
            bank: fields.hex(name, size=bank.digest_size)
            for name, bank in STRONG_HASHES_BY_NAME.items()
            if fields.has(name)
        },
        what=fields.text("what", max_length=MAX_WHAT) if fields.has("what") else "",
    )
    fields.done()
    if not event.digests:
        raise item.wrong(f"an event with a digest: {', '.join(STRONG_HASHES_BY_NAME)}")
    return event


def _take_type(fields: Fields) -> int:
    name = fields.text("type")
    if name in _TYPES:
        return _TYPES[name]
    if not _NUMBER.fullmatch(name):
        raise fields.wrong("type", 'the name of an event type, or its number as "0x0000000d"')
    return int(name, 16)


def _replays(bank: HashAlg, pcr: int, digests: Sequence[bytes]) -> Iterator[bytes]:
    for value in _starts(bank, pcr):
        for digest in digests:
            value = bank.digest(value + digest)  # noqa: PLW2901 - that is what extending does
        yield value


def _starts(bank: HashAlg, pcr: int) -> tuple[bytes, ...]:
    zeros = bytes(bank.digest_size)
    if pcr == 0:
        return tuple(locality.to_bytes(bank.digest_size, "big") for locality in STARTUP_LOCALITIES)
    return (zeros, b"\xff" * bank.digest_size) if pcr in DYNAMIC_PCRS else (zeros,)
