"""Boot log events in words. For display only: nothing here is evidence.

Data is decoded by the event's claimed type (:mod:`nodeseal.uefi.event_data`).
:mod:`nodeseal.uefi.event_log_binding` says how much of it is proved. The text is inert: control, invisible and
bidirectional characters are spelled out, so a terminal obeys none of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nodeseal.errors import MalformedInput
from nodeseal.inert import inert
from nodeseal.uefi.boot_strings import BootString, StringKind, decode_text
from nodeseal.uefi.event_data import EventData, MeasuredVariable, VariableContent, Words, decode_event_data
from nodeseal.uefi.event_log import Event
from nodeseal.uefi.firmware_blob import FirmwareBlob, HandoffTables
from nodeseal.uefi.gpt import Partition, PartitionTable
from nodeseal.uefi.guid import GLOBAL_VARIABLE, IMAGE_SECURITY_DATABASE, SHIM_LOCK
from nodeseal.uefi.image_load import ImageLoad
from nodeseal.uefi.load_option import BootOrder, LoadOption
from nodeseal.uefi.signature_database import SignatureEntry
from nodeseal.uefi.signature_text import count_signatures, describe_signature, describe_signatures
from nodeseal.uefi.tagged_event import TaggedEvent, decode_tagged_events

MAX_TEXT: Final = 512
"""Most characters of a line."""
_MAX_HEX: Final = 16
_MAX_LINES: Final = 64
_MAX_INDENT: Final = 16
"""Deepest indent of nested containers, two spaces for each level; Windows nests two or three."""
_NAMED_VENDORS: Final = {
    GLOBAL_VARIABLE: "",
    IMAGE_SECURITY_DATABASE: "",
    SHIM_LOCK: "shim ",
    "77fa9abd-0359-4d32-bd60-28f4e78f784b": "Microsoft ",
}
"""Names of vendors of variables; the two of UEFI itself are not shown."""
_STRING_PREFIXES: Final = {
    StringKind.COMMAND: "grub_cmd: ",
    StringKind.KERNEL: "kernel_cmdline: ",
    StringKind.MODULE: "module_cmdline: ",
}


def describe_event(event: Event, max_text: int = MAX_TEXT) -> str:
    """Return one inert line about the event's data. Data that does not decode is shown in hex."""
    found = decode_event_data(event)
    return _line(_hex(event.data) if found is None else _describe(found), max_text)


def event_details(event: Event) -> tuple[str, ...]:
    """Return up to 64 further inert lines: signatures, partitions, or the events of a container."""
    lines = _details(decode_event_data(event))
    shown = tuple(_line(text) for text, _ in zip(lines, range(_MAX_LINES), strict=False))
    return (*shown, "…") if len(shown) == _MAX_LINES else shown


def _line(text: str, max_text: int = MAX_TEXT) -> str:
    return inert(text if len(text) <= max_text else f"{text[:max_text]}…")


def _hex(data: bytes) -> str:
    shown = f"{data[:_MAX_HEX].hex()}{'…' if len(data) > _MAX_HEX else ''}"
    return f"{len(data)} bytes {shown}" if data else "no data"


def _describe(found: EventData) -> str:
    match found:
        case BootString():
            text = _STRING_PREFIXES.get(found.claimed_kind, "") + found.text
        case MeasuredVariable():
            vendor = _NAMED_VENDORS.get(found.vendor, f"{found.vendor} ")
            text = f"{vendor}{found.name}: {_content(found.content)}"
        case ImageLoad():
            text = f"image of {found.length} bytes: {found.path or 'no path'}"
        case PartitionTable():
            names = ", ".join(each.name or "unnamed" for each in found.partitions)
            text = f"disk {found.disk}, {len(found.partitions)} partitions: {names}"
        case TaggedEvent():
            text = f"{found.name}: {decode_text(found.data) or _hex(found.data)}"
        case FirmwareBlob():
            text = f"{found.description or 'firmware'} at 0x{found.base:x}, {found.length} bytes"
        case HandoffTables():
            text = f"{found.description or 'tables'}: {', '.join(found.names) or 'none'}"
        case Words():
            text = found.text
    return text


def _content(content: VariableContent) -> str:
    match content:
        case int() | str():
            text = str(content)
        case bytes():
            text = _hex(content)
        case SignatureEntry():
            text = describe_signature(content)
        case LoadOption():
            text = f'"{content.description}" {content.path.text}{"" if content.active else " (inactive)"}'
        case BootOrder():
            text = " ".join(name.removeprefix("Boot") for name in content.options) or "empty"
        case tuple():
            text = count_signatures(content)
    return text


def _details(found: EventData | None) -> Iterator[str]:
    match found:
        case MeasuredVariable(content=tuple(lists)):
            yield from describe_signatures(lists)
        case MeasuredVariable(content=LoadOption(optional=optional)) if optional:
            yield f"optional data: {decode_text(optional) or _hex(optional)}"
        case PartitionTable():
            yield from map(_partition, found.partitions)
        case TaggedEvent() if found.is_container:
            yield from _contained(found, "")
        case _:
            return


def _partition(partition: Partition) -> str:
    blocks = f"blocks {partition.first} to {partition.last}"
    return f"{partition.name or 'unnamed'}: {blocks}, type {partition.kind}, {partition.guid}"


def _contained(container: TaggedEvent, indent: str) -> Iterator[str]:
    """Yield the events of a Windows container, nested ones included; its size limits their number."""
    try:
        events = decode_tagged_events(container.data)
    except MalformedInput as error:
        yield f"{indent}{error}"
        return
    for event in events:
        if event.is_container and len(indent) < _MAX_INDENT:
            yield f"{indent}{event.name}"
            yield from _contained(event, f"{indent}  ")
        else:
            yield f"{indent}{event.name}: {decode_text(event.data) or _hex(event.data)}"
