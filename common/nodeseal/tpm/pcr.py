"""Selections of platform configuration registers (PCRs), and the digest over their values.

TPML_PCR_SELECTION and TPMS_PCR_SELECTION (TPM Library Part 2). A :class:`PcrSelection` holds the meaning: banks without
a PCR and the number of bitmap bytes (3 or 4) are dropped. The order of the banks is kept, because the digest depends on
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import HashAlg, decode_hash
from nodeseal.tpm.buffer import Reader, u16, u32

LAST_PCR = 23
"""Last PCR of a PC client (PC Client Platform TPM Profile, "PCR Requirements"); higher ones are refused."""
PCR_COUNT = LAST_PCR + 1
_SELECT_SIZES = (3, 4)
MAX_BANKS = 16
"""Most entries of a selection (TPML_PCR_SELECTION)."""
PCR_BITMAP_SIZE = 3
"""Bytes of the bitmap of one bank, as written: a bit for each PCR."""


@dataclass(frozen=True, slots=True)
class PcrSelection:
    """PCRs of one or more banks, in the order in which a TPM hashes them: bank by bank, ascending.

    Attributes:
        banks: pairs of a bank and its PCRs.

    Raises:
        MalformedInput: no bank, a bank that is named twice or selects nothing, or PCRs that do not ascend from 0 to 23.
    """

    banks: tuple[tuple[HashAlg, tuple[int, ...]], ...]

    def __post_init__(self) -> None:
        if not self.banks:
            raise MalformedInput("PCR selection: selects nothing")
        if len({bank for bank, _ in self.banks}) != len(self.banks):
            raise MalformedInput("PCR selection: names a bank twice")
        for bank, indices in self.banks:
            if not indices or list(indices) != sorted(set(indices)):
                raise MalformedInput(f"PCR selection: {bank.hashlib_name} needs ascending indices, each once")
            if indices[0] < 0 or indices[-1] >= PCR_COUNT:
                raise MalformedInput(f"PCR selection: {bank.hashlib_name} has an index outside 0 to {LAST_PCR}")

    @classmethod
    def of(cls, banks: Mapping[HashAlg, Iterable[int]]) -> PcrSelection:
        """Return the selection of these PCRs, with the banks in the mapping's order.

        Raises:
            MalformedInput: no bank, a bank without PCRs, or a PCR outside 0 to 23.
        """
        return cls(tuple((bank, tuple(sorted(set(indices)))) for bank, indices in banks.items()))

    @property
    def size(self) -> int:
        """Number of selected PCR values."""
        return sum(len(indices) for _, indices in self.banks)

    def indices(self) -> Iterator[tuple[HashAlg, int]]:
        """Iterate over bank and number of every selected PCR, in the TPM's order."""
        return ((bank, index) for bank, indices in self.banks for index in indices)

    def encode(self) -> bytes:
        """Return TPML_PCR_SELECTION with bitmaps of three bytes."""
        return u32(len(self.banks)) + b"".join(_encode_bank(bank, indices) for bank, indices in self.banks)

    def __str__(self) -> str:
        return "+".join(f"{bank.hashlib_name}:{','.join(map(str, indices))}" for bank, indices in self.banks)


def decode_pcr_selection(reader: Reader) -> PcrSelection | None:
    """Read a TPML_PCR_SELECTION. None: it selects nothing, which a TPM signs, too.

    Raises:
        MalformedInput: cut off, an unknown bank, a bank named twice, bitmaps of other than 3 or 4 bytes, a PCR
            above 23, or more than 16 entries.
    """
    count = reader.u32("pcrSelections.count")
    if count > MAX_BANKS:
        raise reader.fault("pcrSelections.count", f"is {count}, at most {MAX_BANKS}")
    banks = [_decode_bank(reader) for _ in range(count)]
    if len({bank for bank, _ in banks}) != count:
        raise reader.fault("pcrSelections", "name a bank twice")
    selected = tuple((bank, indices) for bank, indices in banks if indices)
    return _selection(selected) if selected else None


@lru_cache(maxsize=64)
def _selection(banks: tuple[tuple[HashAlg, tuple[int, ...]], ...]) -> PcrSelection:
    """Return a selection. Cached: all nodes of a verifier quote the same one."""
    return PcrSelection(banks)


def pcr_digest(hash_alg: HashAlg, values: Iterable[bytes]) -> bytes:
    """Hash PCR values as TPM2_Quote, TPM2_PolicyPCR and creation data do (Part 1, "Selecting Multiple PCR")."""
    return hash_alg.digest(b"".join(values))


def _decode_bank(reader: Reader) -> tuple[HashAlg, tuple[int, ...]]:
    bank = decode_hash(reader, "pcrSelections.hash")
    size = reader.u8("pcrSelections.sizeofSelect")
    if size not in _SELECT_SIZES:
        raise reader.fault("pcrSelections.sizeofSelect", f"is {size}, neither 3 nor 4")
    bits = int.from_bytes(reader.take(size, "pcrSelections.pcrSelect"), "little")
    return bank, tuple(index for index in range(size * 8) if bits >> index & 1)


def _encode_bank(bank: HashAlg, indices: tuple[int, ...]) -> bytes:
    bits = sum(1 << index for index in indices)
    return u16(bank) + bytes([PCR_BITMAP_SIZE]) + bits.to_bytes(PCR_BITMAP_SIZE, "little")
