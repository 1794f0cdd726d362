"""Bytes of UEFI structures as firmware writes them into boot logs."""

from __future__ import annotations

import struct
import uuid

from nodeseal.uefi.guid import GLOBAL_VARIABLE
from nodeseal.uefi.image_load import ImageLoad
from nodeseal.uefi.signature_database import SignatureEntry, decode_signature_lists

END = b"\x7f\xff\4\0"
OWNER = "77fa9abd-0359-4d32-bd60-28f4e78f784b"
SHA256_KIND = "c1c41626-504c-4092-aca9-41f936934328"
X509_KIND = "a5c059a1-94e4-4aa7-87b5-ab155c2bf072"
DISK = "586b18b3-e62a-491e-80b1-2db37651c0d4"
PARTITION = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"


def guid(text: str) -> bytes:
    """Return an EFI_GUID."""
    return uuid.UUID(text).bytes_le


def variable(name: str, content: bytes, vendor: str = GLOBAL_VARIABLE) -> bytes:
    """Return a UEFI_VARIABLE_DATA."""
    return struct.pack("<16sQQ", guid(vendor), len(name), len(content)) + name.encode("utf-16-le") + content


def node(kind: int, subtype: int, content: bytes) -> bytes:
    """Return one node of a device path."""
    return struct.pack("<BBH", kind, subtype, 4 + len(content)) + content


def file_path(*names: str) -> bytes:
    """Return a device path of file nodes."""
    return b"".join(node(4, 4, f"{name}\0".encode("utf-16-le")) for name in names) + END


def image_load(path: bytes, length: int = 4096) -> bytes:
    """Return a UEFI_IMAGE_LOAD_EVENT."""
    return struct.pack("<QQQQ", 0x1000, length, 0, len(path)) + path


def file_name(image: ImageLoad) -> str:
    """Return the name of an image's file without folders, such as ``shimx64.efi``."""
    return image.file.replace("/", "\\").rpartition("\\")[2]


def decode_signature_database(raw: bytes) -> tuple[SignatureEntry, ...]:
    """Decode the content of a signature database into all its entries, in order."""
    return tuple(entry for each in decode_signature_lists(raw) for entry in each.entries())


def signature_list(kind: str, *data: bytes, owner: str = OWNER, header: bytes = b"") -> bytes:
    """Return an EFI_SIGNATURE_LIST."""
    size = 16 + len(data[0])
    total = 28 + len(header) + size * len(data)
    signatures = b"".join(guid(owner) + each for each in data)
    return struct.pack("<16sIII", guid(kind), total, len(header), size) + header + signatures


def load_option(text: str, path: bytes, attributes: int = 1, optional: bytes = b"") -> bytes:
    """Return an EFI_LOAD_OPTION."""
    return struct.pack("<IH", attributes, len(path)) + f"{text}\0".encode("utf-16-le") + path + optional


def partition(name: str, first: int = 2048, last: int = 4095) -> bytes:
    """Return an EFI_PARTITION_ENTRY."""
    return struct.pack("<16s16sQQQ72s", guid(PARTITION), guid(DISK), first, last, 0, name.encode("utf-16-le"))


def partition_table(*partitions: bytes, entry_size: int = 128) -> bytes:
    """Return a UEFI_GPT_DATA."""
    header = struct.pack(
        "<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, 1, 99, 34, 98, guid(DISK), 2, 128, entry_size, 0
    )
    return header + struct.pack("<Q", len(partitions)) + b"".join(partitions)
