"""Boot logs as plain values for JSON: all that was read, and how much of it the digests prove."""

from __future__ import annotations

import contextlib
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.boot_strings import BootString
from nodeseal.uefi.event_data import MeasuredVariable, Words, decode_event_data
from nodeseal.uefi.event_log import NO_PCR, Event
from nodeseal.uefi.event_log_binding import binding
from nodeseal.uefi.event_log_diff import NumberedEvent
from nodeseal.uefi.event_log_types import type_name
from nodeseal.uefi.firmware_blob import FirmwareBlob, HandoffTables
from nodeseal.uefi.gpt import PartitionTable
from nodeseal.uefi.image_load import ImageLoad
from nodeseal.uefi.signature_database import X509, SignatureEntry, SignatureList
from nodeseal.uefi.signature_text import summarise_certificate
from nodeseal.uefi.tagged_event import TaggedEvent, decode_tagged_events

_NAMES: Final[dict[type, str]] = {
    MeasuredVariable: "variable",
    ImageLoad: "image",
    PartitionTable: "partition_table",
    BootString: "string",
    TaggedEvent: "tagged_event",
    FirmwareBlob: "firmware",
    HandoffTables: "tables",
    Words: "words",
}
_MAX_DEPTH: Final = 8


def plain_event(place: NumberedEvent, bank: HashAlg, description: str) -> dict[str, object]:
    """Return an event. Its decoded data stands under the name of its kind, or is ``null`` if it does not decode."""
    event = place.event
    return {
        "number": place.number,
        "pcr": None if event.pcr == NO_PCR else event.pcr,
        "claimed_type": type_name(event.claimed_type),
        "claimed_type_number": event.claimed_type,
        "digests": {each.hashlib_name: digest.hex() for each, digest in event.digests.items()},
        "data_bound": binding(event, bank).value,
        "description": description,
        "decoded": _decoded(event),
        "data": event.data.hex(),
    }


def _decoded(event: Event) -> object:
    found = decode_event_data(event)
    return None if found is None else {_NAMES[type(found)]: _plain_value(found)}


def _plain_value(value: object) -> object:
    match value:
        case SignatureEntry():
            plain: object = _plain_signature(value)
        case SignatureList():
            plain = {"kind": value.kind, "signatures": [_plain_signature(each) for each in value.entries()]}
        case TaggedEvent():
            plain = _plain_tagged(value, _MAX_DEPTH)
        case bytes():
            plain = value.hex()
        case Enum():
            plain = value.value
        case datetime():
            plain = value.isoformat()
        case tuple():
            plain = [_plain_value(each) for each in value]
        case _ if is_dataclass(value):
            plain = {field.name: _plain_value(getattr(value, field.name)) for field in fields(value)}
        case _:
            plain = value
    return plain


def _plain_signature(entry: SignatureEntry) -> dict[str, object]:
    what = {"certificate": _plain_value(summarise_certificate(entry.data))} if entry.kind == X509 else {}
    return {"kind": entry.kind, "owner": entry.owner, **what, "data": entry.data.hex()}


def _plain_tagged(event: TaggedEvent, depth: int) -> dict[str, object]:
    """Return a tagged event with its nested ones as ``events``, to a depth that Windows does not reach."""
    plain: dict[str, object] = {"tag": f"0x{event.tag:08x}", "name": event.name}
    if event.is_container and depth:
        with contextlib.suppress(MalformedInput):
            return {**plain, "events": [_plain_tagged(each, depth - 1) for each in decode_tagged_events(event.data)]}
    return {**plain, "data": event.data.hex()}
