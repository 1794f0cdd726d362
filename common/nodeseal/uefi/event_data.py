"""Data of boot log events as values, decoded by the type that each event claims.

Types: TCG PC Client Platform Firmware Profile v1.06, "Event Types". No digest covers a type, and a digest may cover
all, a part or nothing of the data (:mod:`nodeseal.uefi.event_log_binding`). So values of a whole event are for display
only; rules decode the bound data.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from nodeseal.errors import MalformedInput
from nodeseal.uefi.boot_strings import BootString, decode_boot_string, decode_text
from nodeseal.uefi.efi_variable import EfiVariable, decode_efi_variable
from nodeseal.uefi.event_log import NO_PCR, STARTUP_LOCALITY, Event
from nodeseal.uefi.event_log_types import EventType
from nodeseal.uefi.firmware_blob import (
    FirmwareBlob,
    HandoffTables,
    decode_firmware_blob,
    decode_firmware_blob2,
    decode_handoff_tables,
    decode_handoff_tables2,
)
from nodeseal.uefi.gpt import PartitionTable, decode_partition_table
from nodeseal.uefi.guid import GUID_SIZE, guid_text
from nodeseal.uefi.image_load import ImageLoad, decode_image_load
from nodeseal.uefi.load_option import BootOrder, LoadOption, decode_boot_order, decode_load_option
from nodeseal.uefi.signature_database import (
    SignatureEntry,
    SignatureList,
    decode_signature_data,
    decode_signature_lists,
)
from nodeseal.uefi.tagged_event import TaggedEvent, decode_tagged_event

SIGNATURE_DATABASES: Final = frozenset({"PK", "KEK", "db", "dbx", "dbt", "dbr", "devdb", "MokList", "MokListX"})
"""Variables that hold signature lists (UEFI 2.10, "Globally Defined Variables" and "Signature Database"; devdb for
devices: PFP, "Event Types"; shim: mok.c)."""
_BOOT_OPTION: Final = re.compile("Boot[0-9A-Fa-f]{4}")
_BLOB_SIZE: Final = 16
_SIGNATURE_SIZE: Final = 16
_SEPARATORS: Final = {bytes(4): "separator", b"\xff" * 4: "separator", b"\1\0\0\0": "separator after an error"}


VariableContent: TypeAlias = tuple[SignatureList, ...] | SignatureEntry | LoadOption | BootOrder | int | str | bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredVariable:
    """A variable and the meaning of its content.

    Attributes:
        vendor: GUID of the vendor.
        name: name of the variable.
        content: content as the name says; of another name a number (one byte), text, or bytes.
    """

    vendor: str
    name: str
    content: VariableContent


@dataclass(frozen=True, slots=True)
class Words:
    """Data that is text, or that the specification has words for.

    Attributes:
        text: the words.
    """

    text: str


EventData: TypeAlias = (
    MeasuredVariable | ImageLoad | PartitionTable | BootString | TaggedEvent | FirmwareBlob | HandoffTables | Words
)


def decode_event_data(event: Event) -> EventData | None:
    """Return an event's data as a value. ``None``: it decodes neither by the claimed type nor as text."""
    if event.pcr == NO_PCR:
        return Words(f"appended by Windows, {len(event.data)} bytes")
    try:
        return _READERS.get(event.claimed_type, _words)(event.data)
    except MalformedInput:
        return None


def _words(data: bytes) -> Words:
    text = decode_text(data)
    if text is None:
        raise MalformedInput("event data: is no text")
    return Words(text)


def _no_action(data: bytes) -> Words:
    if data.startswith(STARTUP_LOCALITY):
        return Words(f"startup locality {data[len(STARTUP_LOCALITY) :].hex() or 'missing'}")
    return _signed(data)


def _signed(data: bytes) -> Words:
    """Read a structure that starts with a signature of 16 characters, such as DEVICE_SECURITY_EVENT_DATA."""
    return Words(f"{_words(data[:_SIGNATURE_SIZE]).text}, {len(data)} bytes")


def _separator(data: bytes) -> Words:
    known = _SEPARATORS.get(data)
    return Words(known) if known else Words(f"separator {_words(data).text}")


def _version(data: bytes) -> Words:
    text = decode_text(data)
    if text is None and len(data) == GUID_SIZE:
        text = guid_text(data)
    if text is None:
        raise MalformedInput("version: is no text")
    return Words(f"version {text}")


def _post_code(data: bytes) -> Words | FirmwareBlob:
    return _words(data) if len(data) != _BLOB_SIZE or decode_text(data) else decode_firmware_blob(data)


def _tagged(data: bytes) -> Words | TaggedEvent:
    return _words(data) if decode_text(data) else decode_tagged_event(data)


def _variable(data: bytes) -> MeasuredVariable:
    variable = decode_efi_variable(data)
    return MeasuredVariable(vendor=variable.vendor, name=variable.name, content=_content(variable))


def _authority(data: bytes) -> MeasuredVariable:
    variable = decode_efi_variable(data)
    try:
        content = decode_signature_data(variable.data)
    except MalformedInput:
        return _variable(data)
    return MeasuredVariable(vendor=variable.vendor, name=variable.name, content=content)


def _content(variable: EfiVariable) -> VariableContent:
    data = variable.data
    try:
        if variable.name in SIGNATURE_DATABASES:
            return decode_signature_lists(data)
        if variable.name == "BootOrder":
            return decode_boot_order(data)
        if _BOOT_OPTION.fullmatch(variable.name):
            return decode_load_option(data)
    except MalformedInput:
        return data
    return data[0] if len(data) == 1 else decode_text(data) or data


_READERS: Final[dict[int, Callable[[bytes], EventData]]] = {
    EventType.POST_CODE: _post_code,
    EventType.NO_ACTION: _no_action,
    EventType.SEPARATOR: _separator,
    EventType.EVENT_TAG: _tagged,
    EventType.S_CRTM_VERSION: _version,
    EventType.IPL: decode_boot_string,
    EventType.EFI_VARIABLE_DRIVER_CONFIG: _variable,
    EventType.EFI_VARIABLE_BOOT: _variable,
    EventType.EFI_VARIABLE_BOOT2: _variable,
    EventType.EFI_VARIABLE_AUTHORITY: _authority,
    EventType.EFI_SPDM_FIRMWARE_BLOB: _signed,
    EventType.EFI_SPDM_FIRMWARE_CONFIG: _signed,
    EventType.EFI_SPDM_DEVICE_POLICY: _variable,
    EventType.EFI_SPDM_DEVICE_AUTHORITY: _authority,
    EventType.EFI_BOOT_SERVICES_APPLICATION: decode_image_load,
    EventType.EFI_BOOT_SERVICES_DRIVER: decode_image_load,
    EventType.EFI_RUNTIME_SERVICES_DRIVER: decode_image_load,
    EventType.EFI_GPT_EVENT: decode_partition_table,
    EventType.EFI_GPT_EVENT2: decode_partition_table,
    EventType.EFI_PLATFORM_FIRMWARE_BLOB: decode_firmware_blob,
    EventType.EFI_PLATFORM_FIRMWARE_BLOB2: decode_firmware_blob2,
    EventType.EFI_HANDOFF_TABLES: decode_handoff_tables,
    EventType.EFI_HANDOFF_TABLES2: decode_handoff_tables2,
}
