"""Safetensors into NumPy, from one buffer that was verified (format: huggingface/safetensors, "Format").

Tensors are views of the buffer: nothing is copied, and the memory lives as long as any of them. Types that NumPy
lacks (bfloat16, the eight-bit floats) become those of ``ml_dtypes``, which must be installed to load them: handing
out their bits as integers would let wrong numbers pass as weights. Types of less than a byte are refused.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass

import numpy as np

from nodeseal import documents
from nodeseal.documents import Fields
from nodeseal.errors import MalformedInput, Unavailable

MAX_HEADER = 100_000_000
"""Bytes; the limit of the reference implementation."""
_MAX_TENSORS = 1_000_000
_MAX_DIMENSIONS = 64
_LENGTH_SIZE = 8

_NUMPY = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "F16": "<f2",
    "U32": "<u4",
    "I32": "<i4",
    "F32": "<f4",
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
    "C64": "<c8",
}
_ML_DTYPES = {
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
}


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


def decode_tensors(raw: memoryview, name: str) -> dict[str, np.ndarray]:
    """Return the tensors of a whole safetensors file by name, as views of ``raw``.

    Raises:
        MalformedInput: a header that does not parse, or tensors that overlap, leave holes, exceed the file or do not
            have the length that type and shape say; or a type that has no NumPy equivalent.
        Unavailable: a type that needs ml_dtypes, which is not installed.
    """
    entries, data = decode_header(raw, name)
    return {entry.name: _view(entry, data, name) for entry in entries}


def decode_header(raw: memoryview, name: str) -> tuple[tuple[TensorEntry, ...], memoryview]:
    """Return the header's tensors in the order of their data, and the bytes they lie in.

    Raises:
        MalformedInput: as :func:`decode_tensors`.
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


def _view(entry: TensorEntry, data: memoryview, name: str) -> np.ndarray:
    dtype = _dtype(entry, name)
    count = math.prod(entry.shape)
    if count * dtype.itemsize != entry.stop - entry.start:
        raise MalformedInput(f"{name}: tensor {entry.name[:80]!a} does not have the length of its shape")
    chunk = data[entry.start : entry.stop]
    return np.frombuffer(chunk, dtype=dtype).reshape(entry.shape) if count else np.empty(entry.shape, dtype)


def _dtype(entry: TensorEntry, name: str) -> np.dtype:
    if entry.dtype in _NUMPY:
        return np.dtype(_NUMPY[entry.dtype])
    if entry.dtype not in _ML_DTYPES:
        raise MalformedInput(f"{name}: tensor {entry.name[:80]!a} has a type without NumPy equivalent")
    try:
        scalar: type[np.generic] = getattr(importlib.import_module("ml_dtypes"), _ML_DTYPES[entry.dtype])
    except ImportError as error:
        message = f"{name}: tensor {entry.name[:80]!a} is {entry.dtype}, which NumPy lacks"
        raise Unavailable(message, remedy="pip install ml-dtypes") from error
    return np.dtype(scalar)
