"""Partition tables as boot logs hold them."""

from __future__ import annotations

import struct

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.uefi.gpt import Partition, PartitionTable, decode_partition_table
from support.codec import assert_exact
from support.uefi import DISK, PARTITION, partition, partition_table


def entry(name: str) -> Partition:
    return Partition(kind=PARTITION, guid=DISK, first=2048, last=4095, attributes=0, name=name)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(partition_table(), (), id="none"),
        pytest.param(partition_table(partition("ESP"), partition("")), (entry("ESP"), entry("")), id="two"),
        pytest.param(partition_table(partition("a\0left over")), (entry("a"),), id="a name with leftovers behind it"),
        pytest.param(partition_table(partition("x" * 36)), (entry("x" * 36),), id="a name of full length"),
        pytest.param(
            partition_table(partition("a") + bytes(128), entry_size=256), (entry("a"),), id="entries of 256 bytes"
        ),
        pytest.param(
            partition_table(partition("a").replace("a".encode("utf-16-le"), b"\0\xd8", 1)),
            (entry("\ufffd"),),
            id="a name that is no text",
        ),
    ],
)
def test_partitions_in_use_are_read(raw: bytes, expected: tuple[Partition, ...]) -> None:
    assert decode_partition_table(raw) == PartitionTable(disk=DISK, partitions=expected)


def test_as_many_partitions_are_read_as_any_table_has() -> None:
    assert len(decode_partition_table(partition_table(*[partition("")] * 1024)).partitions) == 1024


def test_a_table_cut_anywhere_or_with_a_byte_more_is_refused() -> None:
    assert_exact(decode_partition_table, partition_table(partition("ESP")))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(b"XXX" + partition_table()[3:], "is not that of a partition table", id="no table"),
        pytest.param(partition_table()[:-8] + struct.pack("<Q", 1025), "1025 partitions", id="too many"),
        pytest.param(partition_table()[:-8] + struct.pack("<Q", 2**64 - 1), "partitions of", id="2^64 partitions"),
        pytest.param(partition_table(entry_size=127), "of 127 bytes", id="entries too small"),
        pytest.param(partition_table(partition("a"), entry_size=2**32 - 1), "is cut off", id="entries of 4 GiB"),
    ],
)
def test_what_is_no_table_is_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(MalformedInput, match=f"partition table: .*{reason}"):
        decode_partition_table(raw)
