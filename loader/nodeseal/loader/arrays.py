"""Tensors of a safetensors file as NumPy arrays: views of one buffer that was verified, so nothing is copied.

The memory lives as long as any of the arrays. Types that NumPy lacks (bfloat16, the eight-bit floats) become those of
``ml_dtypes``, which must be installed to load them: handing out their bits as integers would let wrong numbers pass as
weights. Types of less than a byte are refused.
"""

from __future__ import annotations

import importlib
import math

import numpy as np

from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.loader.safetensors import TensorEntry, decode_header

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


def decode_tensors(raw: memoryview, name: str) -> dict[str, np.ndarray]:
    """Return the tensors of a whole safetensors file by name, as views of ``raw``.

    Raises:
        MalformedInput: a header that does not parse, or tensors that overlap, leave holes, exceed the file or do not
            have the length that type and shape say; or a type that has no NumPy equivalent.
        Unavailable: a type that needs ml_dtypes, which is not installed.
    """
    entries, data = decode_header(raw, name)
    return {entry.name: _view(entry, data, name) for entry in entries}


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
