"""The header of a safetensors file (huggingface/safetensors, "Format"): which tensor lies where.

Strict: tensors cover the data without hole or overlap, and JSON has no duplicate key.
"""

from __future__ import annotations

from dataclasses import dataclass

from nodeseal import documents
from nodeseal.documents import Fields
from nodeseal.errors import MalformedInput

MAX_HEADER = 100_000_000
"""Bytes; the limit of the reference implementation."""
_MAX_TENSORS = 1_000_000
_MAX_DIMENSIONS = 64
_LENGTH_SIZE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEntry:
    """One tensor of the header.

    Attributes:
        name: of the tensor.
        dtype: in the format's spelling.
        shape: in elements.
        start: first byte, counted from the end of the header.
        stop: byte after the last.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def decode_header(raw: memoryview, name: str) -> tuple[tuple[TensorEntry, ...], memoryview]:
    """Return the header's tensors in the order of their data, and the bytes they lie in.

    Raises:
        MalformedInput: a header that does not parse, or tensors that overlap, leave holes or exceed the file.
    """
    size = int.from_bytes(raw[:_LENGTH_SIZE], "little")
    if len(raw) < _LENGTH_SIZE or size > min(MAX_HEADER, len(raw) - _LENGTH_SIZE):
        raise MalformedInput(f"{name}: not safetensors: a header longer than the file")
    data = raw[_LENGTH_SIZE + size :]
    header = documents.parse_json(bytes(raw[_LENGTH_SIZE : _LENGTH_SIZE + size]), name)
    if not isinstance(header, dict) or len(header) > _MAX_TENSORS:
        raise MalformedInput(f"{name}: not safetensors: the header is not a mapping")
    entries = [_entry(key, value, name) for key, value in header.items() if key != "__metadata__"]
    entries.sort(key=lambda entry: (entry.start, entry.stop))
    _check_cover(entries, len(data), name)
    return tuple(entries), data


def _entry(key: str, value: object, name: str) -> TensorEntry:
    fields = Fields(value, f"{name}, tensor {key[:80]!a}")
    dtype = fields.text("dtype", max_length=16)
    shape = _naturals(fields, "shape", _MAX_DIMENSIONS)
    offsets = _naturals(fields, "data_offsets", 2)
    fields.done()
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
