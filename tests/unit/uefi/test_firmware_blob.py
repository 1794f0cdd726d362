"""Firmware volumes and tables that firmware hands over."""

from __future__ import annotations

import struct

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.uefi.firmware_blob import (
    FirmwareBlob,
    HandoffTables,
    decode_firmware_blob,
    decode_firmware_blob2,
    decode_handoff_tables,
    decode_handoff_tables2,
)
from support.codec import assert_exact
from support.uefi import DISK, guid

SMBIOS = "eb9d2d31-2d88-11d3-9a16-0090273fc14d"
PLACE = struct.pack("<QQ", 0x1000, 64)
TABLES = struct.pack("<Q", 2) + b"".join(guid(each) + struct.pack("<Q", 16) for each in (SMBIOS, DISK))


def test_firmware_has_a_place_and_since_2019_a_name() -> None:
    assert decode_firmware_blob(PLACE) == FirmwareBlob(base=0x1000, length=64)
    assert decode_firmware_blob2(b"\5Fv(A)" + PLACE) == FirmwareBlob(base=0x1000, length=64, description="Fv(A)")
    assert decode_firmware_blob2(b"\2A\0" + PLACE).description == "A"


def test_tables_have_names_where_somebody_gave_one() -> None:
    tables = decode_handoff_tables(TABLES)
    assert tables == HandoffTables(tables=((SMBIOS, 16), (DISK, 16)))
    assert tables.names == ("SMBIOS", DISK)
    assert decode_handoff_tables2(b"\4Tdx\0" + TABLES).description == "Tdx"


def test_they_are_refused_when_cut_anywhere_or_a_byte_too_long() -> None:
    assert_exact(decode_firmware_blob, PLACE)
    assert_exact(decode_firmware_blob2, b"\5Fv(A)" + PLACE)
    assert_exact(decode_handoff_tables, TABLES)
    assert_exact(decode_handoff_tables2, b"\4Tdx\0" + TABLES)


def test_as_many_tables_are_read_as_any_machine_has() -> None:
    assert len(decode_handoff_tables(struct.pack("<Q", 256) + bytes(24 * 256)).tables) == 256


@pytest.mark.parametrize("count", [257, 2**64 - 1])
def test_more_tables_than_a_machine_has_are_refused(count: int) -> None:
    with pytest.raises(MalformedInput, match=f"handoff tables: number of tables is {count}, at most 256"):
        decode_handoff_tables(struct.pack("<Q", count) + bytes(24 * 257))
