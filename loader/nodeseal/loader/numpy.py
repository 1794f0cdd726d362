"""Tensors as NumPy arrays: views of verified memory, without a copy.

The memory lives as long as any of the arrays. Types that NumPy lacks (bfloat16, floats of eight and four bits) become
types of ``ml_dtypes``, which must then be installed: their bits as integers would be wrong numbers that look like
weights. An element of ``ml_dtypes`` has a byte, so arrays of floats of four bits are copies.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nodeseal.crypto.secret import allocate
from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.loader.frameworks import Framework, lacks
from nodeseal.loader.keys import KeyProvider
from nodeseal.loader.safetensors import TensorEntry
from nodeseal.loader.save import Plain, save_tensors
from nodeseal.loader.tensors import BACKENDS, safe_open
from nodeseal.sealed.content import Content
from nodeseal.sealed.model_key import ModelKey

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
    "F4": "float4_e2m1fn",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
}
_PACKED = "F4"
"""A byte of the file holds two of them, the first one in its lower half (OCP Microscaling Formats, MXFP4)."""


def load_file(
    path: Path | str, *, backend: str = BACKENDS[0], raw: Collection[str] = (), keys: KeyProvider | None = None
) -> dict[str, np.ndarray]:
    """Return all tensors of one sealed safetensors file, as ``safetensors.numpy.load_file`` does.

    The whole file is verified before anything is returned: every segment, the last one, and ``tags_digest``. The
    model is closed before the function returns. Use :func:`nodeseal.loader.open_model` to read several files or to
    learn of revocations.

    Args:
        path: as in :func:`nodeseal.loader.safe_open`.
        backend: as in :func:`nodeseal.loader.safe_open`; so is ``raw``.
        raw: types whose tensors are bytes.
        keys: as in :func:`nodeseal.loader.open_model`.

    Raises:
        NotFound: the path is not in a sealed model, or the model has no such file.
        MalformedInput: not safetensors, or NumPy and ml_dtypes lack a type.
        ProofFailed: the model is not what was sealed.
        PolicyRefused: the node may not open the model, or the lease ends during the read.
        Unavailable: no agent answers, or a file cannot be read.
    """
    with safe_open(path, "np", backend=backend, raw=raw, keys=keys) as file:
        return file.get_tensors()


def save_file(
    tensors: Mapping[str, np.ndarray],
    path: Path | str,
    metadata: Mapping[str, str] | None = None,
    *,
    model_keys: Sequence[ModelKey | Path | str],
    **label: Any,
) -> Content:
    """Seal arrays into a new folder, as ``safetensors.numpy.save_file`` writes them. No plaintext reaches a disk.

    Args:
        tensors: the arrays.
        path: as in :func:`nodeseal.loader.save.save_tensors`; so are all arguments that follow.
        metadata: texts for the header.
        model_keys: public keys or their files.
        **label: ``model_id`` and ``version``.

    Raises:
        MalformedInput: the folder exists, NumPy's type has no equivalent, or a key or name is malformed.
        Unavailable: a key cannot be read, or the disk is full or too small; nothing is left behind.
    """
    plain = {name: _plain(name, array) for name, array in tensors.items()}
    return save_tensors(plain, path, model_keys, metadata=metadata, **label)


def _plain(name: str, array: np.ndarray) -> Plain:
    little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False)).reshape(array.shape)
    little = little if little.flags.writeable else little.copy()  # reads share its memory without the GIL
    spelled = little.dtype.str.replace("|", "").replace("<", "") if little.dtype.kind in "biufc" else ""
    names = {dtype.strip("<"): key for key, dtype in _NUMPY.items()} | {"b1": "BOOL"}
    extra = {dtype: key for key, dtype in _ML_DTYPES.items() if key != _PACKED}
    found = names.get(spelled) or extra.get(little.dtype.name)
    if found is None:
        raise MalformedInput(f"tensor {name[:80]!a} has the type {little.dtype.name}, which safetensors lack")
    return Plain(dtype=found, shape=little.shape, data=little.reshape(-1).view(np.uint8).data)


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

    def stored(self, entry: TensorEntry) -> TensorEntry:
        _dtype(entry)
        return entry

    def item_size(self, entry: TensorEntry) -> int:
        return 0 if entry.dtype == _PACKED else _dtype(entry).itemsize

    def view(self, entry: TensorEntry, shape: Sequence[int], data: memoryview) -> np.ndarray:
        return _array(self._unpacked(data) if entry.dtype == _PACKED else data, shape, _dtype(entry))

    def _unpacked(self, data: memoryview) -> memoryview:
        """Return a byte for each half of a byte, in memory that core dumps leave out."""
        memory = self.allocate(2 * len(data))
        if len(data):
            pairs, packed = np.frombuffer(memory, np.uint8).reshape(-1, 2), np.frombuffer(data, np.uint8)
            np.bitwise_and(packed, 0x0F, out=pairs[:, 0])
            np.right_shift(packed, 4, out=pairs[:, 1])
        return memory

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
        if entry.dtype == _PACKED or tensor.dtype != _dtype(entry) or tensor.shape != entry.shape:
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
        raise lacks(entry, "NumPy")
    try:
        scalar: type[np.generic] = getattr(importlib.import_module("ml_dtypes"), _ML_DTYPES[entry.dtype])
    except ImportError as error:
        message = f"tensor {entry.name[:80]!a} is {entry.dtype}, which NumPy lacks"
        raise Unavailable(message, remedy="pip install ml-dtypes") from error
    return np.dtype(scalar)
