"""The header of a safetensors file (huggingface/safetensors, "Format"): the position of each tensor.

The parser is strict: tensors cover the data without hole or overlap, names are printable, and JSON has no duplicate
key.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nodeseal import documents
from nodeseal.documents import Fields
from nodeseal.errors import MalformedInput

MAX_HEADER = 100_000_000
"""Bytes of a header: the limit of the reference implementation."""
MAX_TENSORS = 1_000_000
"""Tensors of a file: more than any model has, and parsed in about ten seconds."""
ITEM_BITS: Final = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}
"""Bits of an element of each type. The reference implementation writes tensors in this order, last ones first."""
_MAX_DIMENSIONS = 64
_MAX_ELEMENTS = 1 << 53
"""More than any file holds. Libraries of tensors compute strides in 63 bits, of empty tensors too."""
_LENGTH_SIZE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEntry:
    """One tensor of the header.

    Attributes:
        name: name of the tensor.
        dtype: type in the format's spelling.
        shape: elements in each dimension.
        start: first byte, counted from the end of the header.
        stop: byte after the last.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The header of a safetensors file.

    Attributes:
        tensors: tensors in the order of their data.
        metadata: texts of the file's writer.
        size: bytes of the header; the data follows.
    """

    tensors: tuple[TensorEntry, ...]
    metadata: Mapping[str, str]
    size: int


def header_size(prefix: memoryview, file_size: int, name: str) -> int:
    """Return the size of the header, from the first 8 bytes of a file.

    Raises:
        MalformedInput: the header is longer than the file or :data:`MAX_HEADER`.
    """
    size = _LENGTH_SIZE + int.from_bytes(prefix[:_LENGTH_SIZE], "little")
    if len(prefix) < _LENGTH_SIZE or size > min(_LENGTH_SIZE + MAX_HEADER, file_size):
        raise MalformedInput(f"{name}: not safetensors: a header longer than the file")
    return size


def decode_header(raw: memoryview, file_size: int, name: str) -> Header:
    """Parse the beginning of a safetensors file.

    Args:
        raw: the beginning; at least the header.
        file_size: bytes of the whole file.
        name: name of the file, for errors.

    Raises:
        MalformedInput: the header does not parse, or tensors overlap, leave holes or exceed the file.
    """
    size = header_size(raw, file_size, name)
    header = documents.parse_json(bytes(raw[_LENGTH_SIZE:size]), name)
    if len(raw) < size or not isinstance(header, dict):
        raise MalformedInput(f"{name}: not safetensors: the header is not a mapping")
    if len(header) > MAX_TENSORS:
        raise MalformedInput(f"{name}: {len(header):,} tensors, at most {MAX_TENSORS:,}", remedy="split the file")
    metadata = _metadata(header.pop("__metadata__", {}), name)
    entries = [_entry(key, value, name) for key, value in header.items()]
    entries.sort(key=lambda entry: (entry.start, entry.stop))
    _check_cover(entries, file_size - size, name)
    return Header(tensors=tuple(entries), metadata=metadata, size=size)


def _metadata(value: object, name: str) -> Mapping[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise MalformedInput(f"{name}: not safetensors: metadata that is not a mapping of texts")
    return value


def _entry(key: str, value: object, name: str) -> TensorEntry:
    if not key.isprintable():
        raise MalformedInput(f"{name}: a tensor's name is not printable: {key[:80]!a}")
    fields = Fields(value, f"{name}, tensor {key[:80]!a}")
    dtype = fields.text("dtype", max_length=16)
    shape = _naturals(fields, "shape", _MAX_DIMENSIONS)
    offsets = _naturals(fields, "data_offsets", 2)
    fields.done()
    if math.prod(size or 1 for size in shape) > _MAX_ELEMENTS:
        raise fields.wrong("shape", f"one of at most {_MAX_ELEMENTS} elements, dimensions of zero aside")
    if len(offsets) != 2 or offsets[0] > offsets[1]:  # noqa: PLR2004 - begin and end
        raise fields.wrong("data_offsets", "begin and end")
    return TensorEntry(name=key, dtype=dtype, shape=shape, start=offsets[0], stop=offsets[1])


def _naturals(fields: Fields, key: str, max_items: int) -> tuple[int, ...]:
    numbers = fields.items(key, max_items=max_items)
    if not all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in numbers):
        raise fields.wrong(key, "a list of natural numbers")
    return tuple(int(str(number)) for number in numbers)


def _check_cover(entries: list[TensorEntry], size: int, name: str) -> None:
    end = 0
    for entry in entries:
        if entry.start != end:
            raise MalformedInput(f"{name}: tensors overlap or leave a hole at byte {end} of the data")
        end = entry.stop
    if end != size:
        raise MalformedInput(f"{name}: tensors take {end} bytes of {size}")


def check_length(entry: TensorEntry, name: str) -> None:
    """Refuse a tensor whose length does not match its shape. The lengths of types that are not known cannot be checked.

    Raises:
        MalformedInput: the byte length does not match the shape.
    """
    bits = ITEM_BITS.get(entry.dtype)
    if bits is not None and math.prod(entry.shape) * bits != 8 * (entry.stop - entry.start):
        raise MalformedInput(f"{name}: tensor {entry.name[:80]!a} does not have the length of its shape")


def encode_header(tensors: Mapping[str, tuple[str, tuple[int, ...], int]], metadata: Mapping[str, str]) -> bytes:
    """Return the beginning of a file, as the reference implementation writes it, padded to eight bytes.

    Args:
        tensors: type, shape and bytes of each tensor, in the order of their data.
        metadata: texts of the writer.

    Raises:
        MalformedInput: the header is longer than :data:`MAX_HEADER`, or holds too many tensors.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER or len(tensors) > MAX_TENSORS:
        raise MalformedInput(f"a header of {len(text):,} bytes and {len(tensors):,} tensors is too large for one file")
    return len(text).to_bytes(_LENGTH_SIZE, "little") + text
