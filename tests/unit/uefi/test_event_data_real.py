"""Event data of real machines: all of it decodes, and as other readers have it."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml

from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.boot_strings import BootString, StringKind
from nodeseal.uefi.efi_variable import EfiVariable, decode_efi_variable
from nodeseal.uefi.event_data import MeasuredVariable, decode_event_data
from nodeseal.uefi.event_log import Event, EventLog, decode_event_log
from nodeseal.uefi.event_log_binding import Binding, binding
from nodeseal.uefi.event_log_diff import preferred_bank
from nodeseal.uefi.event_log_text import describe_event, event_details
from nodeseal.uefi.event_log_types import EventType
from nodeseal.uefi.gpt import PartitionTable
from nodeseal.uefi.image_load import ImageLoad, decode_image_load
from nodeseal.uefi.signature_database import SignatureEntry, decode_signature_lists
from support.data import shared_data
from support.uefi import decode_signature_database, file_name

GUIDS = {"x509": "a5c059a1-94e4-4aa7-87b5-ab155c2bf072", "sha256": "c1c41626-504c-4092-aca9-41f936934328"}
VARIABLES = (
    EventType.EFI_VARIABLE_DRIVER_CONFIG,
    EventType.EFI_VARIABLE_BOOT,
    EventType.EFI_VARIABLE_BOOT2,
    EventType.EFI_VARIABLE_AUTHORITY,
)


@cache
def logs() -> dict[str, EventLog]:
    found = {}
    for path in sorted(shared_data("uefi-eventlogs").glob("*.bin")):
        with contextlib.suppress(MalformedInput):
            found[path.stem] = decode_event_log(path.read_bytes())
    return found


def events() -> Iterator[tuple[str, Event, HashAlg]]:
    for name, log in logs().items():
        bank = preferred_bank(log)
        yield from ((name, event, bank) for event in log.events)


def test_all_data_that_has_a_structure_decodes() -> None:
    binary = {EventType.EFI_PLATFORM_FIRMWARE_BLOB, EventType.EVENT_TAG, EventType.IPL, EventType.EFI_GPT_EVENT}
    binary |= set(VARIABLES) | {EventType.EFI_BOOT_SERVICES_APPLICATION, EventType.EFI_BOOT_SERVICES_DRIVER}
    binary |= {EventType.EFI_HANDOFF_TABLES, EventType.EFI_HANDOFF_TABLES2, EventType.EFI_PLATFORM_FIRMWARE_BLOB2}
    structured = [(name, event) for name, event, _ in events() if event.claimed_type in binary]
    assert [(name, event) for name, event in structured if decode_event_data(event) is None] == []
    assert len(structured) > 2500


def test_all_of_it_reads_as_inert_lines() -> None:
    for _, event, _ in events():
        assert describe_event(event).isprintable()
        assert all(line.isprintable() for line in event_details(event))


def test_signature_databases_have_certificates_that_decode_and_hashes() -> None:
    entries = [entry for content in _contents("PK", "KEK", "db", "dbx") for entry in decode_signature_database(content)]
    assert {entry.kind for entry in entries} == {"x509", "sha256"}
    assert len(entries) > 4000
    assert all(len(entry.data) == 32 for entry in entries if entry.kind == "sha256")


def _contents(*names: str) -> Iterator[bytes]:
    for _, event, _ in events():
        if event.claimed_type == EventType.EFI_VARIABLE_DRIVER_CONFIG:
            variable = decode_efi_variable(event.data)
            if variable.name in names:
                yield variable.data


def test_lists_count_as_many_signatures_as_they_have() -> None:
    for content in _contents("db", "dbx"):
        lists = decode_signature_lists(content)
        assert sum(map(len, lists)) == len(decode_signature_database(content))
        assert [data for each in lists for data in each.data()] == [
            entry.data for entry in decode_signature_database(content)
        ]


def test_authorities_are_certificates_of_those_who_sign_boot_loaders() -> None:
    names = set()
    for _, event, _ in events():
        found = decode_event_data(event)
        if isinstance(found, MeasuredVariable) and isinstance(found.content, SignatureEntry):
            assert found.content.kind == "x509"
            names.add(describe_event(event).partition("certificate ")[2].partition(", serial")[0])
    assert "Microsoft Corporation UEFI CA 2011, Microsoft Corporation, Redmond, Washington, US" in names
    assert "Debian Secure Boot CA" in names


def test_every_variable_is_proved_by_its_digest_as_a_whole_or_without_its_name() -> None:
    bound = [binding(event, bank) for _, event, bank in events() if event.claimed_type in VARIABLES]
    assert set(bound) == {Binding.ALL, Binding.PART}
    assert len(bound) > 700


def test_names_of_sections_are_proved_and_their_contents_are_not_in_the_log() -> None:
    kinds = [
        (found.text, binding(event, HashAlg.SHA256))
        for event in logs()["lenovo-x1c-hahuri-sdboot"].events
        if isinstance(found := decode_event_data(event), BootString) and found.claimed_kind is StringKind.SECTION
    ]
    assert kinds == [
        (name, bound) for name in (".linux", ".osrel", ".cmdline", ".initrd") for bound in (Binding.ALL, Binding.NONE)
    ]


def test_structures_are_those_that_tpm2_tools_shows() -> None:
    compared = {EfiVariable: 0, PartitionTable: 0, ImageLoad: 0}
    for event, shown in _shown_by_tpm2_tools():
        if "UnicodeName" in shown:
            compared[EfiVariable] += 1
            _compare_variable(decode_efi_variable(event.data), shown)
        elif "NumberOfPartitions" in shown:
            compared[PartitionTable] += 1
            _compare_partitions(decode_event_data(event), shown)
        elif "ImageLengthInMemory" in shown:
            compared[ImageLoad] += 1
            _compare_image(decode_image_load(event.data), shown)
    assert compared == {EfiVariable: 78, PartitionTable: 3, ImageLoad: 22}


def _shown_by_tpm2_tools() -> Iterator[tuple[Event, dict[str, Any]]]:
    for dump in sorted(shared_data("uefi-eventlogs", "upstream-dumps").glob("*.tpm2-tools.yaml")):
        log = logs()[dump.name.split(".")[0]]
        numbered = dict(log.numbered())
        shown_events = yaml.safe_load(dump.read_text())["events"]
        for each in shown_events if isinstance(shown_events, list) else ():  # it lists no events of SHA-1 format
            shown = each.get("Event")
            shown = shown[0] if isinstance(shown, list) else shown
            if isinstance(shown, dict):
                yield numbered[each["EventNum"]], shown


def _compare_variable(variable: EfiVariable, shown: dict[str, Any]) -> None:
    assert (variable.vendor, variable.name) == (shown["VariableName"], shown["UnicodeName"])
    content = shown.get("VariableData")
    if isinstance(content, list) and content and "Keys" in content[0]:
        assert [
            (GUIDS[each.kind], each.owner, each.data.hex()) for each in decode_signature_database(variable.data)
        ] == [
            (each["SignatureType"], key["SignatureOwner"], str(key["SignatureData"]))
            for each in content
            for key in each["Keys"]
        ]
    elif isinstance(content, str):
        assert variable.data.hex() == content


def _compare_partitions(table: object, shown: dict[str, Any]) -> None:
    assert isinstance(table, PartitionTable)
    assert table.disk == shown["Header"]["DiskGUID"]
    keys = ("PartitionTypeGUID", "UniquePartitionGUID", "StartingLBA", "EndingLBA", "Attributes", "PartitionName")
    assert [(each.kind, each.guid, each.first, each.last, each.attributes, each.name) for each in table.partitions] == [
        tuple(each[key] for key in keys) for each in shown["Partitions"]
    ]


def _compare_image(image: ImageLoad, shown: dict[str, Any]) -> None:
    assert (image.location, image.length) == (shown["ImageLocationInMemory"], shown["ImageLengthInMemory"])
    path = shown.get("DevicePath") or ""
    assert file_name(image) in path
    assert bool(image.file) == ("\\" in path)


def test_variables_of_windows_are_as_another_reader_has_them() -> None:
    shown = json.loads(shared_data("uefi-eventlogs", "upstream-dumps", "win-yogax1v2.guard.json").read_text())
    named = [each for each in shown if each.get("VariableName")]
    read = [decode_efi_variable(base64.b64decode(each["Data"])) for each in named]
    assert [(each.vendor, each.name) for each in read] == [
        (_guid(**each["VariableGUID"]), each["VariableName"]) for each in named
    ]
    assert [each.data for each in read] == [base64.b64decode(each["VariableData"]) for each in named]
    assert len(read) > 10


def _guid(Data1: int, Data2: int, Data3: int, Data4: list[int]) -> str:  # noqa: N803 - as the reader names them
    last = bytes(Data4).hex()
    return f"{Data1:08x}-{Data2:04x}-{Data3:04x}-{last[:4]}-{last[4:]}"
