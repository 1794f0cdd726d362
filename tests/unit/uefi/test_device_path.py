"""Device paths as text."""

from __future__ import annotations

import struct
import uuid

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.uefi.device_path import decode_device_path

END = b"\x7f\xff\4\0"
GUID = uuid.UUID("a11d1065-b147-440b-a4e8-300e3db974f2")


def node(kind: int, subtype: int, content: bytes) -> bytes:
    return struct.pack("<BBH", kind, subtype, 4 + len(content)) + content


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (node(2, 1, struct.pack("<II", 0x0A0341D0, 1)), "PciRoot(1)"),
        (node(2, 1, struct.pack("<II", 0x060441D0, 1)), "Acpi(0x060441d0,1)"),
        (node(1, 1, b"\2\x1f"), "Pci(31,2)"),
        (node(1, 4, GUID.bytes_le + b"more"), f"VenHw({GUID})"),
        (node(3, 18, struct.pack("<HHH", 0, 65535, 0)), "Sata(0,65535,0)"),
        (node(3, 23, struct.pack("<I8s", 1, bytes(range(8)))), "NVMe(1,07-06-05-04-03-02-01-00)"),
        (node(3, 11, b"\x48\x0f\xcf\x44\x6b\x0a" + bytes(27)), "MAC(480fcf446b0a)"),
        (node(3, 12, bytes(19)), "IPv4()"),
        (node(3, 24, b"https://boot.example/x.efi"), "Uri(https://boot.example/x.efi)"),
        (node(4, 1, struct.pack("<IQQ16sBB", 1, 0, 0, GUID.bytes_le, 2, 2)), f"HD(1,GPT,{GUID})"),
        (node(4, 1, struct.pack("<IQQ16sBB", 2, 0, 0, bytes(16), 1, 1)), "HD(2,MBR)"),
        (node(4, 4, "\\a.efi\0".encode("utf-16-le")), "\\a.efi"),
        (node(4, 6, GUID.bytes_le), f"FvFile({GUID})"),
        (node(4, 8, struct.pack("<4xQQ", 1, 2)), "Offset(1,2)"),
        (node(3, 20, b"\7\0"), "Vlan(7)"),
        (node(3, 26, b"\1"), "SD(1)"),
        (node(3, 29, b"\1"), "eMMC(1)"),
        (node(5, 1, b"\2\0\0\0Disk 1\0"), "BBS(HD,Disk 1)"),
        (node(5, 1, b"\xff\0\0\0"), "BBS(0xff,)"),
        (node(5, 1, b"\2\0\0\0\xff"), "Path(5,1,02000000ff)"),
        (node(5, 1, b"\2\0"), "Path(5,1,0200)"),
        (node(9, 9, bytes(17)), f"Path(9,9,{bytes(16).hex()}…)"),
        (node(1, 1, b"\2"), "Path(1,1,02)"),
        (node(3, 24, b"\xff"), "Path(3,24,ff)"),
        (node(4, 4, b""), "Path(4,4,)"),
        (node(1, 1, b"\1\0") + node(1, 1, b"\0\0") + END + b"ignored", "Pci(0,1)/Pci(0,0)"),
        (END, ""),
        (b"", ""),
    ],
)
def test_nodes_are_spelled_as_the_specification_does(raw: bytes, expected: str) -> None:
    assert decode_device_path(raw).text == expected


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(b"\1\1\6", "cut off", id="half a header"),
        pytest.param(node(1, 1, b"\1\2")[:-1], "cut off", id="half a node"),
        pytest.param(b"\1\1\3\0", "without end", id="a node smaller than its header"),
        pytest.param(b"\1\1\0\0" * 2, "without end", id="a node without size"),
        pytest.param(node(1, 1, b"\1\2") * 65, "too many", id="65 nodes"),
    ],
)
def test_a_path_that_does_not_end_well_is_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(MalformedInput, match=f"device path.*{reason}"):
        decode_device_path(raw)
