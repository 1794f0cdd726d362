"""PE/COFF images of our own: small, valid, and with one fact changed at a time."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT = 512
_PE_AT = 0x80


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Kind of image to build.

    Attributes:
        wide: PE32+ instead of PE32.
        directories: entries of the data directory; four or fewer leave out the certificate table.
        checksum: of the header, which no digest covers.
        certificates: the attribute certificate table.
        trailing: bytes behind the last section.
    """

    wide: bool = True
    directories: int = 16
    checksum: int = 0
    certificates: bytes = b""
    trailing: bytes = b""


def build_pe(sections: Sequence[tuple[str, bytes]] = ((".text", b"code"),), shape: Shape | None = None) -> bytes:
    """Return an image with these sections, each padded to 512 bytes in the file but not in memory."""
    shape = shape or Shape()
    fixed = 112 if shape.wide else 96
    optional_size = fixed + 8 * shape.directories
    headers = _PE_AT + 24 + optional_size + 40 * len(sections)
    headers_size = _aligned(headers)
    table, body, at, address = b"", b"", headers_size, 0x1000
    for name, content in sections:
        size = _aligned(len(content))
        table += struct.pack("<8sIIIIIIHHI", name.encode(), len(content), address, size, at, 0, 0, 0, 0, 0)
        body += content.ljust(size, b"\0")
        at, address = at + size, address + 0x1000 * (size // 0x1000 + 1)
    optional = bytearray(optional_size)
    struct.pack_into("<H", optional, 0, 0x20B if shape.wide else 0x10B)
    struct.pack_into("<II", optional, 60, headers_size, shape.checksum)
    struct.pack_into("<I", optional, fixed - 4, shape.directories)
    if shape.certificates:
        struct.pack_into("<II", optional, fixed + 32, at + len(shape.trailing), len(shape.certificates))
    coff = struct.pack("<HHIIIHH", 0x8664, len(sections), 0, 0, 0, optional_size, 0x22)
    dos = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", _PE_AT)
    header = (dos.ljust(_PE_AT, b"\0") + b"PE\0\0" + coff + bytes(optional) + table).ljust(headers_size, b"\0")
    return header + body + shape.trailing + shape.certificates


def build_uki(kernel: bytes, command_line: str, initrd: bytes = b"initrd") -> bytes:
    """Return a unified kernel image as ukify lays it out: stub code first, then the sections with a meaning."""
    return build_pe(
        [
            (".text", b"stub"),
            (".osrel", b"ID=test\n"),
            (".cmdline", command_line.encode()),
            (".initrd", initrd),
            (".uname", b"6.12.0"),
            (".pcrsig", b"{}"),
            (".linux", kernel),
        ]
    )


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
