"""Partition tables in boot logs: UEFI_GPT_DATA (TCG PC Client Platform Firmware Profile v1.06).

EV_EFI_GPT_EVENT measures the header of the table and the partitions in use. EV_EFI_GPT_EVENT2 measures the same, with
zeros as GUIDs of disk and partitions. Structures: UEFI Specification 2.10, "GPT Header" and "GPT Partition Entry
Array".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from nodeseal.tpm.buffer import Reader
from nodeseal.uefi.guid import guid_text

MAX_PARTITIONS: Final = 1024
"""Most partitions; tables have room for 128 by default."""
_HEADER: Final = struct.Struct("<8s48x16s12xI4xQ")
_SIGNATURE: Final = b"EFI PART"
_PARTITION: Final = struct.Struct("<16s16sQQQ72s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """One partition.

    Attributes:
        kind: GUID of the type.
        guid: GUID of the partition.
        first: first block.
        last: last block.
        attributes: flags.
        name: name, up to the first NUL.
    """

    kind: str
    guid: str
    first: int
    last: int
    attributes: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionTable:
    """A partition table.

    Attributes:
        disk: GUID of the disk.
        partitions: partitions in use.
    """

    disk: str
    partitions: tuple[Partition, ...]


def decode_partition_table(raw: bytes) -> PartitionTable:
    """Decode a UEFI_GPT_DATA.

    Raises:
        MalformedInput: no partition table, cut off, too many or too small entries, or bytes behind them.
    """
    reader = Reader(raw, "partition table")
    signature, disk, size, count = reader.unpack(_HEADER, "header")
    if signature != _SIGNATURE:
        raise reader.fault("header", "is not that of a partition table")
    if size < _PARTITION.size or count > MAX_PARTITIONS:
        raise reader.fault("header", f"states {count} partitions of {size} bytes")
    partitions = tuple(_partition(reader, size) for _ in range(count))
    reader.end()
    return PartitionTable(disk=guid_text(disk), partitions=partitions)


def _partition(reader: Reader, size: int) -> Partition:
    kind, guid, first, last, attributes, name = _PARTITION.unpack_from(reader.take(size, "partition"))
    return Partition(
        kind=guid_text(kind), guid=guid_text(guid), first=first, last=last, attributes=attributes, name=_name(name)
    )


def _name(raw: bytes) -> str:
    """Return a name without the bytes behind its NUL, which are random. Invalid UTF-16 becomes U+FFFD."""
    return raw.decode("utf-16-le", errors="replace").partition("\0")[0]
