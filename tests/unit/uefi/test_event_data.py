"""What the data of events says, by the type that they claim."""

from __future__ import annotations

import struct

import pytest

from nodeseal.uefi.boot_strings import BootString, StringKind
from nodeseal.uefi.event_data import MeasuredVariable, VariableContent, Words, decode_event_data
from nodeseal.uefi.event_log import NO_PCR, Event
from nodeseal.uefi.event_log_types import EventType
from nodeseal.uefi.firmware_blob import FirmwareBlob, HandoffTables
from nodeseal.uefi.gpt import PartitionTable
from nodeseal.uefi.guid import GLOBAL_VARIABLE, SHIM_LOCK
from nodeseal.uefi.image_load import ImageLoad
from nodeseal.uefi.load_option import BootOrder, decode_load_option
from nodeseal.uefi.signature_database import SignatureEntry, decode_signature_lists
from nodeseal.uefi.tagged_event import TaggedEvent
from support import uefi

DATABASE = uefi.signature_list(uefi.SHA256_KIND, bytes(32))
OPTION = uefi.load_option("Debian", uefi.file_path("\\a.efi"))


def event(claimed_type: int, data: bytes, pcr: int = 4) -> Event:
    return Event(pcr=pcr, claimed_type=claimed_type, digests={}, data=data)


@pytest.mark.parametrize(
    ("claimed_type", "data", "kind"),
    [
        (EventType.EFI_BOOT_SERVICES_DRIVER, bytes(32), ImageLoad),
        (EventType.EFI_RUNTIME_SERVICES_DRIVER, bytes(32), ImageLoad),
        (EventType.EFI_GPT_EVENT2, uefi.partition_table(), PartitionTable),
        (EventType.EVENT_TAG, struct.pack("<II", 1, 0), TaggedEvent),
        (EventType.EVENT_TAG, b"LOADED_IMAGE::LoadOptions\0", Words),
        (EventType.POST_CODE, bytes(16), FirmwareBlob),
        (EventType.POST_CODE, b"SIXTEEN  LETTERS", Words),
        (EventType.EFI_PLATFORM_FIRMWARE_BLOB2, bytes(17), FirmwareBlob),
        (EventType.EFI_HANDOFF_TABLES2, bytes(9), HandoffTables),
        (EventType.EFI_HCRTM_EVENT, b"HCRTM", Words),
        (EventType.EFI_SPDM_FIRMWARE_BLOB, b"SPDM Device Sec\0" + bytes(20), Words),
        (EventType.EFI_SPDM_DEVICE_POLICY, uefi.variable("devdb", b""), MeasuredVariable),
        (0x40E, b"\1\2", type(None)),
        (EventType.S_CRTM_VERSION, b"\1\2", type(None)),
        (EventType.EFI_GPT_EVENT, b"short", type(None)),
    ],
)
def test_data_is_what_the_claimed_type_says(claimed_type: int, data: bytes, kind: type) -> None:
    assert type(decode_event_data(event(claimed_type, data))) is kind


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        pytest.param("SecureBoot", b"\1", 1, id="a number"),
        pytest.param("SbatLevel", b"sbat,1,2021030218\n", "sbat,1,2021030218\n", id="text"),
        pytest.param("Setup", b"\1\2", b"\1\2", id="bytes"),
        pytest.param("PK", b"", (), id="a database that is not there"),
        pytest.param("dbx", DATABASE, decode_signature_lists(DATABASE), id="a database"),
        pytest.param("MokListX", DATABASE, decode_signature_lists(DATABASE), id="a database of shim"),
        pytest.param("dbx", DATABASE[:-1], DATABASE[:-1], id="a database that is cut off"),
        pytest.param("BootOrder", b"\1\0", BootOrder(("Boot0001",)), id="the boot order"),
        pytest.param("Boot00aF", OPTION, decode_load_option(OPTION), id="a boot option"),
        pytest.param("Boot0001", OPTION[:9], OPTION[:9], id="a boot option that is cut off"),
        pytest.param("BootNext", b"\1\0", b"\1\0", id="another boot variable"),
    ],
)
def test_the_content_of_a_variable_is_what_its_name_says(name: str, content: bytes, expected: VariableContent) -> None:
    found = decode_event_data(event(EventType.EFI_VARIABLE_BOOT, uefi.variable(name, content)))
    assert found == MeasuredVariable(vendor=GLOBAL_VARIABLE, name=name, content=expected)


def test_an_authority_is_a_signature_or_else_an_ordinary_variable() -> None:
    certificate = b"\x30\x03\x02\x01\x05"
    accepted = event(EventType.EFI_VARIABLE_AUTHORITY, uefi.variable("Shim", certificate, SHIM_LOCK))
    assert decode_event_data(accepted) == MeasuredVariable(
        vendor=SHIM_LOCK, name="Shim", content=SignatureEntry(kind="x509", owner="", data=certificate)
    )
    level = event(EventType.EFI_VARIABLE_AUTHORITY, uefi.variable("MokListTrusted", b"\1", SHIM_LOCK))
    assert decode_event_data(level) == MeasuredVariable(vendor=SHIM_LOCK, name="MokListTrusted", content=1)


def test_strings_keep_what_they_are_said_to_be() -> None:
    assert decode_event_data(event(EventType.IPL, b"grub_cmd: ls\0")) == BootString(StringKind.COMMAND, "ls")


def test_what_windows_appends_is_not_looked_into() -> None:
    assert decode_event_data(event(EventType.NO_ACTION, bytes(9), NO_PCR)) == Words("appended by Windows, 9 bytes")
