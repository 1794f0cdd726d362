"""Boot logs in JSON: everything decoded, under the name of what it is."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import pytest

from nodeseal.cli.log_json import plain_event
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log import Event
from nodeseal.uefi.event_log_diff import NumberedEvent
from nodeseal.uefi.event_log_types import EventType
from nodeseal.uefi.guid import GLOBAL_VARIABLE
from support import uefi
from support.certificates import root

SHA256 = HashAlg.SHA256
BOUNDARY = 0x40010001


def decoded(claimed_type: int, data: bytes) -> Any:
    event = Event(pcr=1, claimed_type=claimed_type, digests={SHA256: SHA256.digest(data)}, data=data)
    return plain_event(NumberedEvent(3, event), SHA256, "words")["decoded"]


def tagged(tag: int, data: bytes) -> bytes:
    return struct.pack("<II", tag, len(data)) + data


@pytest.mark.parametrize(
    ("claimed_type", "data", "expected"),
    [
        pytest.param(
            EventType.IPL,
            b"kernel_cmdline: quiet\0",
            {"string": {"claimed_kind": "kernel command line", "text": "quiet"}},
            id="a command line",
        ),
        pytest.param(
            EventType.EFI_BOOT_SERVICES_APPLICATION,
            uefi.image_load(uefi.file_path("\\a.efi"), 9),
            {"image": {"location": 0x1000, "length": 9, "link_address": 0, "path": "\\a.efi", "file": "\\a.efi"}},
            id="an image",
        ),
        pytest.param(
            EventType.EFI_VARIABLE_BOOT,
            uefi.variable("BootOrder", b"\1\0"),
            {"variable": {"vendor": GLOBAL_VARIABLE, "name": "BootOrder", "content": {"options": ["Boot0001"]}}},
            id="the boot order",
        ),
        pytest.param(
            EventType.EFI_VARIABLE_DRIVER_CONFIG,
            uefi.variable("Setup", b"\1\2"),
            {"variable": {"vendor": GLOBAL_VARIABLE, "name": "Setup", "content": "0102"}},
            id="a variable that is not known",
        ),
        pytest.param(
            EventType.EFI_PLATFORM_FIRMWARE_BLOB,
            struct.pack("<QQ", 1, 2),
            {"firmware": {"base": 1, "length": 2, "description": ""}},
            id="firmware",
        ),
        pytest.param(
            EventType.EFI_HANDOFF_TABLES,
            struct.pack("<Q", 1) + uefi.guid(uefi.DISK) + bytes(8),
            {"tables": {"tables": [[uefi.DISK, 0]], "description": ""}},
            id="tables",
        ),
        pytest.param(EventType.COMPACT_HASH, b"\1", None, id="data that does not decode"),
    ],
)
def test_data_is_decoded(claimed_type: int, data: bytes, expected: object) -> None:
    assert decoded(claimed_type, data) == expected


def test_every_signature_of_a_database_is_there_with_its_certificate() -> None:
    certificate = root()
    hashes = uefi.signature_list(uefi.SHA256_KIND, *(bytes([n]) * 32 for n in range(9)))
    data = uefi.variable("db", uefi.signature_list(uefi.X509_KIND, certificate) + hashes)
    first, second = decoded(EventType.EFI_VARIABLE_DRIVER_CONFIG, data)["variable"]["content"]
    (signature,) = first["signatures"]
    assert (first["kind"], signature["owner"], signature["data"]) == ("x509", uefi.OWNER, certificate.hex())
    assert signature["certificate"]["sha256"] == hashlib.sha256(certificate).hexdigest()
    assert signature["certificate"]["not_after"].startswith("20")
    assert [each["data"] for each in second["signatures"]] == [(bytes([n]) * 32).hex() for n in range(9)]


def test_an_authority_is_one_signature() -> None:
    data = uefi.variable("db", uefi.guid(uefi.OWNER) + bytes(32))
    content = decoded(EventType.EFI_VARIABLE_AUTHORITY, data)["variable"]["content"]
    assert content == {"kind": "sha256", "owner": uefi.OWNER, "data": "00" * 32}


def test_containers_are_opened_as_deep_as_they_are_sound() -> None:
    found = decoded(EventType.EVENT_TAG, tagged(BOUNDARY, tagged(0x00020002, b"\7") + tagged(BOUNDARY, b"broken")))
    assert found["tagged_event"]["events"] == [
        {"tag": "0x00020002", "name": "boot counter", "data": "07"},
        {"tag": "0x40010001", "name": "trust boundary", "data": b"broken".hex()},
    ]


def test_containers_in_containers_end_somewhere() -> None:
    data = b"x"
    for _ in range(40):
        data = tagged(BOUNDARY, data)
    plain, depth = decoded(EventType.EVENT_TAG, data)["tagged_event"], 0
    while "events" in plain:
        (plain,), depth = plain["events"], depth + 1
    assert depth == 8
