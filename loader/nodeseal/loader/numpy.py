"""Tensors as NumPy arrays: views of verified memory, without a copy.

The memory lives as long as any of the arrays. Types that NumPy lacks (bfloat16, the eight-bit floats) become types of
``ml_dtypes``, which must then be installed: their bits as integers would be wrong numbers that look like weights. Types
of less than a byte are refused.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nodeseal.crypto.secret import allocate
from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.loader.frameworks import Framework
from nodeseal.loader.keys import KeyProvider
from nodeseal.loader.safetensors import TensorEntry
from nodeseal.loader.tensors import safe_open

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


def load_file(path: Path | str, *, keys: KeyProvider | None = None) -> dict[str, np.ndarray]:
    """Return all tensors of one sealed safetensors file, as ``safetensors.numpy.load_file`` does.

    The whole file is verified before anything is returned: every segment, the last one, and ``tags_digest``. The
    model is closed before the function returns. Use :func:`nodeseal.loader.open_model` to read several files or to
    learn of revocations.

    Args:
        path: as in :func:`nodeseal.loader.safe_open`.
        keys: as in :func:`nodeseal.loader.open_model`.

    Raises:
        NotFound: the path is not in a sealed model, or the model has no such file.
        MalformedInput: not safetensors, or NumPy and ml_dtypes lack a type.
        ProofFailed: the model is not what was sealed.
        PolicyRefused: the node may not open the model, or the lease ends during the read.
        Unavailable: no agent answers, or a file cannot be read.
    """
    with safe_open(path, "np", keys=keys) as file:
        return file.get_tensors()


def framework(device: str, *, pin_memory: bool = False) -> Framework[np.ndarray]:
    """Return NumPy. It knows only main memory, and no pinned memory.

    Raises:
        ValueError: another device, or pinned memory.
    """
    if device != "cpu" or pin_memory:
        raise ValueError("NumPy knows main memory alone; use framework='pt'")
    return _NumPy()


class _NumPy:
    def allocate(self, size: int) -> memoryview:
        return allocate(size)

    def item_size(self, entry: TensorEntry) -> int:
        return _dtype(entry).itemsize

    def view(self, entry: TensorEntry, shape: Sequence[int], data: memoryview) -> np.ndarray:
        return _array(data, shape, _dtype(entry))

    def stack(self, tensors: list[np.ndarray]) -> np.ndarray:
        return np.stack(tensors, out=self._empty((len(tensors), *tensors[0].shape), tensors[0].dtype))

    def deliver(self, tensor: np.ndarray) -> np.ndarray:
        if tensor.flags.c_contiguous:
            return tensor
        copy = self._empty(tensor.shape, tensor.dtype)
        copy[...] = tensor
        return copy

    def _empty(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        """Return an array in memory that core dumps leave out, unlike NumPy's own."""
        return _array(self.allocate(math.prod(shape) * dtype.itemsize), shape, dtype)

    def memory(self, entry: TensorEntry, tensor: np.ndarray) -> memoryview:
        if tensor.dtype != _dtype(entry) or tensor.shape != entry.shape:
            raise ValueError(f"{entry.name}: an array of another type or shape than the file's")
        if not (tensor.flags.c_contiguous and tensor.flags.writeable):
            raise ValueError(f"{entry.name}: an array that is not contiguous or cannot be written")
        return tensor.reshape(-1).view(np.uint8).data


def _array(data: memoryview, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    return np.frombuffer(data, dtype=dtype).reshape(shape) if len(data) else np.empty(shape, dtype)


def _dtype(entry: TensorEntry) -> np.dtype:
    if entry.dtype in _NUMPY:
        return np.dtype(_NUMPY[entry.dtype])
    if entry.dtype not in _ML_DTYPES:
        raise MalformedInput(f"tensor {entry.name[:80]!a} has a type without NumPy equivalent")
    try:
        scalar: type[np.generic] = getattr(importlib.import_module("ml_dtypes"), _ML_DTYPES[entry.dtype])
    except ImportError as error:
        message = f"tensor {entry.name[:80]!a} is {entry.dtype}, which NumPy lacks"
        raise Unavailable(message, remedy="pip install ml-dtypes") from error
    return np.dtype(scalar)
