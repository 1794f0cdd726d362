"""PCR files of other tools, read as claimed values in the order of a quoted selection.

Three binary forms of tpm2-tools are read (``tpm2_quote -F``: `serialized`, little-endian C structures; `marshaled`, the
TPM's own encoding; `values`, digests alone), and text (:mod:`nodeseal.tpm.pcr_text`). The values are claims, which
:func:`nodeseal.evidence.quote.prove_pcr_values` proves.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.buffer import MAX_DIGEST, Reader, u16, u32
from nodeseal.tpm.pcr import PcrSelection, decode_pcr_selection
from nodeseal.tpm.pcr_text import looks_like_text, parse_pcr_values

MAX_PCR_FILE = 1024 * 1024
_SELECTION = "selection of the PCR file"
_MAX_BANKS = 16
_MAX_LISTS = 32
_LIST_DIGESTS = 8
_SERIALIZED_SELECTION = struct.Struct("<HB4sx")
"""TPMS_PCR_SELECTION as a C structure: hash, sizeofSelect, four bytes of bitmap, padding."""
_SERIALIZED_HEAD = 4 + _MAX_BANKS * _SERIALIZED_SELECTION.size + 4
_SERIALIZED_DIGEST = struct.Struct(f"<H{MAX_DIGEST}s")
_SERIALIZED_LIST = 4 + _LIST_DIGESTS * _SERIALIZED_DIGEST.size


@dataclass(frozen=True, slots=True)
class ClaimedPcrs:
    """Values of quoted PCRs in a file.

    Attributes:
        values: one for each selected PCR, in the selection's order.
        ignored: number of values in the file that the quote does not cover.
    """

    values: tuple[bytes, ...]
    ignored: int = 0


def decode_pcr_file(raw: bytes, selection: PcrSelection) -> ClaimedPcrs:
    """Read the claimed values of the quoted PCRs.

    Args:
        raw: the file.
        selection: the quoted PCRs.

    Raises:
        MalformedInput: no known form, no value for a selected PCR, or a binary form of another selection.
    """
    if len(raw) > MAX_PCR_FILE:
        raise MalformedInput(f"PCR file: {len(raw)} bytes, at most {MAX_PCR_FILE}")
    if looks_like_text(raw):
        claimed = parse_pcr_values(raw, selection)
        return ClaimedPcrs(_picked(claimed, selection), len(claimed) - selection.size)
    if _counts_banks(raw[:4][::-1]) and (len(raw) - _SERIALIZED_HEAD) % _SERIALIZED_LIST == 0:
        return ClaimedPcrs(_decode_serialized(raw, selection))
    if _counts_banks(raw[:4]):
        return ClaimedPcrs(_decode_marshaled(raw, selection))
    return ClaimedPcrs(_decode_values(raw, selection))


def _picked(claimed: dict[tuple[HashAlg, int], bytes], selection: PcrSelection) -> tuple[bytes, ...]:
    missing = [f"{bank.hashlib_name}:{index}" for bank, index in selection.indices() if (bank, index) not in claimed]
    if missing:
        raise MalformedInput(f"PCR file: no value for {', '.join(missing)}, which the quote selects")
    return tuple(claimed[place] for place in selection.indices())


def _counts_banks(number: bytes) -> bool:
    return number[:3] == bytes(3) and number[3:] != b"" and 0 < number[3] <= _MAX_BANKS


def _decode_serialized(raw: bytes, selection: PcrSelection) -> tuple[bytes, ...]:
    banks = _SERIALIZED_SELECTION.iter_unpack(raw[4 : _SERIALIZED_HEAD - 4])
    entries = [u16(bank) + bytes([size]) + bitmap[:size] for bank, size, bitmap in list(banks)[: raw[0]]]
    _require(decode_pcr_selection(Reader(u32(len(entries)) + b"".join(entries), _SELECTION)), selection)
    (lists,) = struct.unpack_from("<I", raw, _SERIALIZED_HEAD - 4)
    if lists != (len(raw) - _SERIALIZED_HEAD) // _SERIALIZED_LIST:
        raise MalformedInput(f"PCR file: declares {lists} lists of digests, which its size does not fit")
    starts = range(_SERIALIZED_HEAD, len(raw), _SERIALIZED_LIST)
    return tuple(value for start in starts for value in _serialized_list(raw[start : start + _SERIALIZED_LIST]))


def _serialized_list(raw: bytes) -> Iterator[bytes]:
    (count,) = struct.unpack_from("<I", raw)
    if count > _LIST_DIGESTS:
        raise MalformedInput(f"PCR file: a list of {count} digests, at most {_LIST_DIGESTS}")
    for size, buffer in list(_SERIALIZED_DIGEST.iter_unpack(raw[4:]))[:count]:
        yield buffer[:size]


def _decode_marshaled(raw: bytes, selection: PcrSelection) -> tuple[bytes, ...]:
    reader = Reader(raw, "marshaled PCR file")
    _require(decode_pcr_selection(reader), selection)
    values: list[bytes] = []
    for _ in range(_limited(reader, "number of lists", _MAX_LISTS)):
        count = _limited(reader, "TPML_DIGEST.count", _LIST_DIGESTS)
        values += [reader.sized("digest", MAX_DIGEST) for _ in range(count)]
    reader.end()
    return tuple(values)


def _decode_values(raw: bytes, selection: PcrSelection) -> tuple[bytes, ...]:
    reader = Reader(raw, "PCR values")
    values = tuple(reader.take(bank.digest_size, f"{bank.hashlib_name}:{index}") for bank, index in selection.indices())
    reader.end()
    return values


def _limited(reader: Reader, field: str, maximum: int) -> int:
    number = reader.u32(field)
    if number > maximum:
        raise reader.fault(field, f"is {number}, at most {maximum}")
    return number


def _require(claimed: PcrSelection | None, quoted: PcrSelection) -> None:
    if claimed != quoted:
        raise MalformedInput(f"PCR file: holds values of {claimed or 'no PCR'}, the quote covers {quoted}")
