"""PCR files as tpm2-tools write them, made here so that tests can change one byte of them."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from nodeseal.tpm.buffer import sized, u32
from nodeseal.tpm.pcr import PcrSelection


def serialized(selection: PcrSelection, values: Sequence[bytes]) -> bytes:
    """Return little-endian C structures: TPML_PCR_SELECTION, a count, and TPML_DIGESTs of eight."""
    banks = [
        struct.pack("<HB4sx", bank, 3, sum(1 << index for index in indices).to_bytes(4, "little"))
        for bank, indices in selection.banks
    ]
    banks += [bytes(8)] * (16 - len(banks))
    return struct.pack("<I", len(selection.banks)) + b"".join(banks) + digest_lists(values)


def digest_lists(values: Sequence[bytes]) -> bytes:
    """Return the second half of that: a count and TPML_DIGESTs of eight."""
    lists = [values[at : at + 8] for at in range(0, len(values), 8)]
    return struct.pack("<I", len(lists)) + b"".join(
        struct.pack("<I", len(each))
        + b"".join(struct.pack("<H64s", len(value), value) for value in each).ljust(8 * 66, b"\0")
        for each in lists
    )


def marshaled(selection: PcrSelection, values: Sequence[bytes]) -> bytes:
    """Return the TPM's own encoding of the same."""
    lists = [values[at : at + 8] for at in range(0, len(values), 8)]
    body = b"".join(u32(len(each)) + b"".join(map(sized, each)) for each in lists)
    return selection.encode() + u32(len(lists)) + body
