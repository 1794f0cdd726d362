"""UEFI device paths as text, for display only (UEFI Specification 2.10, "Device Path Protocol").

Nodes that occur in boot paths of real machines have the specification's spelling; any other node has its generic form,
``Path(type,subtype,hex)``. The text is raw: the caller makes it inert.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from nodeseal.errors import MalformedInput
from nodeseal.tpm.buffer import Reader
from nodeseal.uefi.guid import guid_text

_NODE: Final = struct.Struct("<BBH")
_END: Final = (0x7F, 0xFF)
_FILE: Final = (4, 4)
"""A Media File Path node; a path may have several, which belong together (UEFI 2.10, "File Path Media Device Path")."""
_SEPARATORS: Final = re.compile(r"\\{2,}")
_MAX_NODES: Final = 64
_MAX_HEX: Final = 16
_EISA_PCI_ROOTS: Final = (0x0A0341D0, 0x0A0841D0)
"""PNP0A03 and PNP0A08 as compressed EISA identifiers."""
_PARTITION_GUID: Final = 2
_BIOS_DEVICES: Final = {1: "Floppy", 2: "HD", 3: "CDROM", 4: "PCMCIA", 5: "USB", 6: "Network"}
"""Device types of the BIOS Boot Specification (UEFI 2.10, "BIOS Boot Specification Device Path")."""


@dataclass(frozen=True, slots=True)
class DevicePath:
    r"""A device path in words.

    Attributes:
        text: all nodes, with ``/`` between them.
        file: the file in the path, with ``\`` between folders; empty: none.
    """

    text: str
    file: str


def decode_device_path(raw: bytes) -> DevicePath:
    r"""Decode a device path, such as ``PciRoot(0)/Pci(31,2)/Sata(0,65535,0)/HD(1,GPT,…)/\EFI\BOOT\BOOTX64.EFI``.

    Bytes behind the path's end, such as a second path of the same list, are not read.

    Raises:
        MalformedInput: a node is cut off, or there are more than 64.
    """
    reader, nodes, files = Reader(raw, "device path"), list[str](), list[str]()
    left = len(raw)
    while left:
        kind, subtype, size = reader.unpack(_NODE, "node")
        left -= size
        if size < _NODE.size or len(nodes) == _MAX_NODES:
            raise MalformedInput("device path: a node without end, or too many")
        content = reader.take(size - _NODE.size, "node")
        if (kind, subtype) == _END:
            break
        known = _known_text(kind, subtype, content)
        nodes.append(known or _generic_text(kind, subtype, content))
        if known and (kind, subtype) == _FILE:
            files.append(known)
    return DevicePath("/".join(nodes), _SEPARATORS.sub(r"\\", "\\".join(files)))


def _known_text(kind: int, subtype: int, content: bytes) -> str:
    """Return a node in its own spelling; empty: it has none, or its content does not fit."""
    read = _NODES.get((kind, subtype))
    try:
        return read(content) if read else ""
    except (struct.error, UnicodeDecodeError):
        return ""


def _generic_text(kind: int, subtype: int, content: bytes) -> str:
    return f"Path({kind},{subtype},{content[:_MAX_HEX].hex()}{'…' * (len(content) > _MAX_HEX)})"


def _numbers(name: str, layout: str) -> Callable[[bytes], str]:
    packed = struct.Struct(layout)
    return lambda content: f"{name}({','.join(map(str, packed.unpack_from(content)))})"


def _guid(name: str) -> Callable[[bytes], str]:
    return lambda content: f"{name}({guid_text(content)})"


def _pci(content: bytes) -> str:
    function, device = struct.unpack("<BB", content)
    return f"Pci({device},{function})"


def _acpi(content: bytes) -> str:
    hid, uid = struct.unpack_from("<II", content)
    return f"PciRoot({uid})" if hid in _EISA_PCI_ROOTS else f"Acpi(0x{hid:08x},{uid})"


def _hard_drive(content: bytes) -> str:
    number, _, _, signature, _, signature_kind = struct.unpack("<IQQ16sBB", content)
    return f"HD({number},GPT,{guid_text(signature)})" if signature_kind == _PARTITION_GUID else f"HD({number},MBR)"


def _nvme(content: bytes) -> str:
    namespace, identifier = struct.unpack("<I8s", content)
    return f"NVMe({namespace},{identifier[::-1].hex('-')})"


def _bios_boot(content: bytes) -> str:
    kind, _ = struct.unpack_from("<HH", content)
    name = content[4:].split(b"\0")[0].decode("ascii")
    return f"BBS({_BIOS_DEVICES.get(kind, f'0x{kind:x}')},{name})"


def _mac(content: bytes) -> str:
    return f"MAC({struct.unpack('<6s26sB', content)[0].hex()})"


_NODES: Final[dict[tuple[int, int], Callable[[bytes], str]]] = {
    (1, 1): _pci,
    (1, 3): _numbers("MemoryMapped", "<IQQ"),
    (1, 4): _guid("VenHw"),
    (1, 5): _numbers("Ctrl", "<I"),
    (2, 1): _acpi,
    (3, 1): _numbers("Ata", "<BBH"),
    (3, 2): _numbers("Scsi", "<HH"),
    (3, 5): _numbers("USB", "<BB"),
    (3, 10): _guid("VenMsg"),
    (3, 11): _mac,
    (3, 12): lambda _: "IPv4()",
    (3, 13): lambda _: "IPv6()",
    (3, 17): _numbers("Unit", "<B"),
    (3, 18): _numbers("Sata", "<HHH"),
    (3, 20): _numbers("Vlan", "<H"),
    (3, 23): _nvme,
    (3, 24): lambda content: f"Uri({content.decode('ascii')})",
    (3, 26): _numbers("SD", "<B"),
    (3, 29): _numbers("eMMC", "<B"),
    (4, 1): _hard_drive,
    (4, 2): _numbers("CDROM", "<I"),
    (4, 3): _guid("VenMedia"),
    (4, 4): lambda content: content.decode("utf-16-le").rstrip("\0"),
    (4, 6): _guid("FvFile"),
    (4, 7): _guid("Fv"),
    (4, 8): _numbers("Offset", "<4xQQ"),
    (5, 1): _bios_boot,
}
