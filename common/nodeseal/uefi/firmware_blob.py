"""Firmware volumes, and tables for the operating system (TCG PC Client Platform Firmware Profile v1.06).

UEFI_PLATFORM_FIRMWARE_BLOB(2) and, for ACPI and SMBIOS tables, UEFI_HANDOFF_TABLE_POINTERS(2). They describe the hashed
objects; no digest covers the descriptions.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from nodeseal.tpm.buffer import Reader
from nodeseal.uefi.guid import guid_text

MAX_TABLES: Final = 256
_BLOB: Final = struct.Struct("<QQ")
_COUNT: Final = struct.Struct("<Q")
_TABLE: Final = struct.Struct("<16sQ")
_NAMES: Final = {
    "eb9d2d30-2d88-11d3-9a16-0090273fc14d": "ACPI 1.0",
    "8868e871-e4f1-11d3-bc22-0080c73c8881": "ACPI",
    "eb9d2d31-2d88-11d3-9a16-0090273fc14d": "SMBIOS",
    "f2fd1544-9794-4a2c-992e-e5bbcf20e394": "SMBIOS 3",
    "eb9d2d2f-2d88-11d3-9a16-0090273fc14d": "MPS",
}
"""Configuration tables (UEFI 2.10, "EFI Configuration Table & Properties Table")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareBlob:
    """A piece of firmware.

    Attributes:
        base: address.
        length: size in bytes.
        description: name, for example of a firmware volume; empty: none.
    """

    base: int
    length: int
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoffTables:
    """Tables that firmware passes to the operating system.

    Attributes:
        tables: GUID and address of each table.
        description: name; empty: none.
    """

    tables: tuple[tuple[str, int], ...]
    description: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tables, such as ``SMBIOS``; GUIDs of unknown ones."""
        return tuple(_NAMES.get(guid, guid) for guid, _ in self.tables)


def decode_firmware_blob(raw: bytes) -> FirmwareBlob:
    """Decode a UEFI_PLATFORM_FIRMWARE_BLOB.

    Raises:
        MalformedInput: cut off, or too long.
    """
    reader = Reader(raw, "firmware blob")
    base, length = reader.unpack(_BLOB, "place")
    reader.end()
    return FirmwareBlob(base=base, length=length)


def decode_firmware_blob2(raw: bytes) -> FirmwareBlob:
    """Decode a UEFI_PLATFORM_FIRMWARE_BLOB2, which has a description before the place.

    Raises:
        MalformedInput: cut off, or too long.
    """
    reader = Reader(raw, "firmware blob")
    description = _description(reader)
    base, length = reader.unpack(_BLOB, "place")
    reader.end()
    return FirmwareBlob(base=base, length=length, description=description)


def decode_handoff_tables(raw: bytes) -> HandoffTables:
    """Decode a UEFI_HANDOFF_TABLE_POINTERS.

    Raises:
        MalformedInput: cut off, too long, or more than :data:`MAX_TABLES`.
    """
    return _handoff_tables(Reader(raw, "handoff tables"), "")


def decode_handoff_tables2(raw: bytes) -> HandoffTables:
    """Decode a UEFI_HANDOFF_TABLE_POINTERS2, which has a description before the tables.

    Raises:
        MalformedInput: cut off, too long, or more than :data:`MAX_TABLES`.
    """
    reader = Reader(raw, "handoff tables")
    return _handoff_tables(reader, _description(reader))


def _handoff_tables(reader: Reader, description: str) -> HandoffTables:
    (count,) = reader.unpack(_COUNT, "number of tables")
    if count > MAX_TABLES:
        raise reader.fault("number of tables", f"is {count}, at most {MAX_TABLES}")
    tables = tuple(reader.unpack(_TABLE, "table") for _ in range(count))
    reader.end()
    return HandoffTables(tables=tuple((guid_text(guid), at) for guid, at in tables), description=description)


def _description(reader: Reader) -> str:
    """Read a size (UINT8) and that many bytes of text, without final NULs."""
    return reader.take(reader.u8("description size"), "description").rstrip(b"\0").decode("latin-1")
