"""How events read, and that a hostile log cannot drive the terminal that shows it."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator

import pytest

from nodeseal.inert import inert
from nodeseal.uefi.event_log import NO_PCR, Event, decode_event_log
from nodeseal.uefi.event_log_text import describe_event, event_details
from nodeseal.uefi.event_log_types import EventType, type_name
from support.data import shared_data

GLOBAL = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c").bytes_le
DISK = uuid.UUID("586b18b3-e62a-491e-80b1-2db37651c0d4")
END = b"\x7f\xff\4\0"
FILE = "\\EFI\\x.efi\0".encode("utf-16-le")
PATH = b"\4\4" + struct.pack("<H", 4 + len(FILE)) + FILE + END


def event(claimed_type: int, data: bytes) -> Event:
    return Event(pcr=4, claimed_type=claimed_type, digests={}, data=data)


def variable(name: str, content: bytes, vendor: bytes = GLOBAL) -> bytes:
    return struct.pack("<16sQQ", vendor, len(name), len(content)) + name.encode("utf-16-le") + content


def option(text: str, path: bytes = PATH) -> bytes:
    return struct.pack("<IH", 1, len(path)) + f"{text}\0".encode("utf-16-le") + path


def table(*names: str) -> bytes:
    entries = (struct.pack("<32xQQQ72s", 0, 0, 0, name.encode("utf-16-le")) for name in names)
    return struct.pack("<8s48x16s12xI4xQ", b"EFI PART", DISK.bytes_le, 128, len(names)) + b"".join(entries)


@pytest.mark.parametrize(
    ("claimed_type", "data", "expected"),
    [
        (EventType.NO_ACTION, b"StartupLocality\0\3", "startup locality 03"),
        (EventType.NO_ACTION, b"SP800-155 Event3" + bytes(9), "SP800-155 Event3, 25 bytes"),
        (EventType.SEPARATOR, bytes(4), "separator"),
        (EventType.SEPARATOR, b"\xff" * 4, "separator"),
        (EventType.SEPARATOR, b"\1\0\0\0", "separator after an error"),
        (EventType.SEPARATOR, b"WBCL", "separator WBCL"),
        (EventType.S_CRTM_VERSION, "1.0\0".encode("utf-16-le"), "version 1.0"),
        (EventType.S_CRTM_VERSION, DISK.bytes_le, f"version {DISK}"),
        (EventType.EFI_ACTION, b"Exit Boot Services Invocation", "Exit Boot Services Invocation"),
        (EventType.IPL, b"grub_cmd: a\n\tb\0", r"grub_cmd: a\n\tb"),
        (EventType.IPL, "initrd=\\x".encode("utf-16-le"), "initrd=\\x"),
        (EventType.IPL, b"", "no data"),
        (EventType.COMPACT_HASH, b"\x10\0\0\0", "4 bytes 10000000"),
        (EventType.POST_CODE, struct.pack("<QQ", 0xFF000000, 4096), "firmware at 0xff000000, 4096 bytes"),
        (EventType.POST_CODE, b"ACPI DATA", "ACPI DATA"),
        (EventType.EFI_PLATFORM_FIRMWARE_BLOB, struct.pack("<QQ", 16, 1), "firmware at 0x10, 1 bytes"),
        (EventType.EFI_PLATFORM_FIRMWARE_BLOB2, b"\5Fv(A)" + bytes(16), "Fv(A) at 0x0, 0 bytes"),
        (EventType.EFI_HANDOFF_TABLES2, b"\0" + bytes(8), "tables: none"),
        (
            EventType.EFI_HANDOFF_TABLES,
            struct.pack("<Q", 1) + DISK.bytes_le + bytes(8),
            f"tables: {DISK}",
        ),
        (EventType.EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", b"\1"), "SecureBoot: 1"),
        (EventType.EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", b""), "SecureBoot: no data"),
        (EventType.EFI_VARIABLE_DRIVER_CONFIG, variable("db", b"\xa5" * 99), f"db: 99 bytes {'a5' * 16}…"),
        (EventType.EFI_VARIABLE_DRIVER_CONFIG, variable("X", b"\1", DISK.bytes_le), f"{DISK} X: 1"),
        (EventType.EFI_VARIABLE_BOOT, variable("BootOrder", b"\1\0\x1a\0"), "BootOrder: 0001 001A"),
        (EventType.EFI_VARIABLE_BOOT, variable("BootOrder", b""), "BootOrder: empty"),
        (
            EventType.EFI_VARIABLE_BOOT,
            variable("Boot0001", b"\0\0\0\0" + option("Old")[4:]),
            'Boot0001: "Old" \\EFI\\x.efi (inactive)',
        ),
        (EventType.EFI_VARIABLE_BOOT2, variable("Boot0001", option("Debian")), 'Boot0001: "Debian" \\EFI\\x.efi'),
        (
            EventType.EFI_BOOT_SERVICES_APPLICATION,
            struct.pack("<QQQQ", 0, 9, 0, len(PATH)) + PATH,
            "image of 9 bytes: \\EFI\\x.efi",
        ),
        (EventType.EFI_BOOT_SERVICES_DRIVER, bytes(32), "image of 0 bytes: no path"),
        (EventType.EFI_GPT_EVENT, table("ESP", ""), f"disk {DISK}, 2 partitions: ESP, unnamed"),
        (EventType.EVENT_TAG, struct.pack("<II", 7, 5) + b"hello", "tag 0x00000007: hello"),
        (EventType.EVENT_TAG, b"LOADED_IMAGE::LoadOptions\0", "LOADED_IMAGE::LoadOptions"),
        (0x40E, b"\x01\x02", "2 bytes 0102"),
    ],
)
def test_an_event_reads_as_its_claimed_type_says(claimed_type: int, data: bytes, expected: str) -> None:
    assert describe_event(event(claimed_type, data)) == expected


def test_what_windows_appends_is_named() -> None:
    appended = Event(pcr=NO_PCR, claimed_type=EventType.NO_ACTION, digests={}, data=bytes(461))
    assert describe_event(appended) == "appended by Windows, 461 bytes"


@pytest.mark.parametrize(
    ("claimed_type", "data"),
    [
        pytest.param(EventType.EFI_VARIABLE_BOOT, b"short", id="a variable that is cut off"),
        pytest.param(EventType.EFI_VARIABLE_BOOT, struct.pack("<16sQQ", GLOBAL, 2**63, 0), id="a name without end"),
        pytest.param(EventType.EFI_VARIABLE_BOOT, variable("d", b"")[:-1] + b"\xd8", id="half a pair"),
        pytest.param(EventType.EFI_GPT_EVENT, table()[:-8] + struct.pack("<Q", 2**40), id="2^40 partitions"),
        pytest.param(EventType.EFI_GPT_EVENT, table("a")[:-1], id="a partition that is cut off"),
        pytest.param(EventType.EFI_PLATFORM_FIRMWARE_BLOB, bytes(15), id="a blob that is cut off"),
        pytest.param(EventType.EFI_HANDOFF_TABLES, bytes(9), id="tables that are cut off"),
        pytest.param(EventType.EFI_PLATFORM_FIRMWARE_BLOB2, b"\xffx", id="a description that is cut off"),
        pytest.param(EventType.EFI_BOOT_SERVICES_DRIVER, struct.pack("<QQQQ", 0, 0, 0, 2**64 - 1), id="a path of 2^64"),
    ],
)
def test_data_that_does_not_decode_is_shown_in_hex(claimed_type: int, data: bytes) -> None:
    assert describe_event(event(claimed_type, data)).startswith(f"{len(data)} bytes {data[:16].hex()}")


HOSTILE = "\x1b]0;owned\x07\u202e\u200b\x9b2J\r"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(variable(HOSTILE, b"\1"), id="in a variable's name"),
        pytest.param(variable("Boot0001", option(HOSTILE)), id="in a boot option"),
        pytest.param(variable("x", HOSTILE.encode()), id="in a variable's content"),
    ],
)
def test_text_from_a_log_drives_no_terminal(data: bytes) -> None:
    assert describe_event(event(EventType.EFI_VARIABLE_BOOT, data)).isprintable()


@pytest.mark.parametrize(
    ("claimed_type", "data"),
    [
        pytest.param(EventType.EFI_GPT_EVENT, table(HOSTILE), id="in a partition's name"),
        pytest.param(
            EventType.EFI_VARIABLE_BOOT,
            variable("Boot0001", option("x") + HOSTILE.replace("\x1b", "").replace("\7", "").encode("utf-16-le")),
            id="in a boot option's data",
        ),
        pytest.param(
            EventType.EVENT_TAG,
            struct.pack("<II", 0x40010001, 8 + 3) + struct.pack("<II", 1, 3) + "\u202e".encode(),
            id="in a container of Windows",
        ),
    ],
)
def test_further_lines_drive_no_terminal_either(claimed_type: int, data: bytes) -> None:
    lines = event_details(event(claimed_type, data))
    assert lines
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("claimed_type", "data", "expected"),
    [
        pytest.param(
            EventType.EFI_GPT_EVENT,
            table("ESP"),
            (f"ESP: blocks 0 to 0, type {uuid.UUID(int=0)}, {uuid.UUID(int=0)}",),
            id="partitions",
        ),
        pytest.param(
            EventType.EFI_VARIABLE_BOOT,
            variable("Boot0001", option("x") + b"quiet"),
            ("optional data: quiet",),
            id="what a boot option passes on",
        ),
        pytest.param(EventType.EFI_VARIABLE_BOOT, variable("Boot0001", option("x")), (), id="nothing passed on"),
        pytest.param(EventType.EVENT_TAG, struct.pack("<II", 7, 1) + b"x", (), id="no container"),
        pytest.param(
            EventType.EVENT_TAG,
            struct.pack("<II", 0x40010001, 17) + struct.pack("<II", 0x40010003, 9) + struct.pack("<IIB", 0x20002, 1, 7),
            ("loaded module", "  boot counter: 1 bytes 07"),
            id="a container in a container",
        ),
        pytest.param(
            EventType.EVENT_TAG,
            struct.pack("<II", 0x40010001, 1) + b"x",
            ("tagged events: header is cut off, before byte 8 of 1",),
            id="a container of nonsense",
        ),
        pytest.param(EventType.EFI_GPT_EVENT, b"short", (), id="data that does not decode"),
    ],
)
def test_an_event_has_further_lines_where_one_is_not_enough(
    claimed_type: int, data: bytes, expected: tuple[str, ...]
) -> None:
    assert event_details(event(claimed_type, data)) == expected


def test_further_lines_end_somewhere() -> None:
    lines = event_details(event(EventType.EFI_GPT_EVENT, table(*(str(n) for n in range(1000)))))
    assert (len(lines), lines[-1]) == (65, "…")


def test_containers_are_opened_to_a_depth_only() -> None:
    data = b"x"
    for _ in range(100):
        data = struct.pack("<II", 0x40010001, len(data)) + data
    lines = event_details(event(EventType.EVENT_TAG, data))
    assert lines[:-1] == tuple("  " * depth + "trust boundary" for depth in range(8))
    assert lines[-1].startswith("  " * 8 + "trust boundary: 721 bytes")


def test_what_a_terminal_obeys_or_hides_is_spelled_out() -> None:
    assert inert("a\x1b[2J\u202eb\n") == r"a\x1b[2J\u202eb\n"
    assert inert("Größe 5") == "Größe 5"
    assert inert("Größe\x07") == r"Größe\x07"


def test_long_text_is_cut() -> None:
    assert describe_event(event(EventType.IPL, b"x" * 10_000)) == "x" * 512 + "…"


def test_types_have_the_names_of_the_specification() -> None:
    assert type_name(EventType.EFI_VARIABLE_AUTHORITY) == "EV_EFI_VARIABLE_AUTHORITY"
    assert type_name(0x40E) == "0x0000040e"


def _shown() -> Iterator[str]:
    for path in sorted(shared_data("uefi-eventlogs").glob("gce-*.bin")):
        yield from (describe_event(each) for each in decode_event_log(path.read_bytes()).events)


def test_events_of_real_machines_read_well() -> None:
    shown = list(_shown())
    assert len(shown) > 500
    assert all(text.isprintable() for text in shown)
    assert any(text.startswith("kernel_cmdline: ") for text in shown)
    assert any(text.endswith("/\\EFI\\ubuntu\\shimx64.efi") for text in shown)
