"""Tensors of PyTorch: views of verified memory, without a copy on the CPU.

The memory lives as long as any of the tensors. bfloat16 and the eight-bit floats are PyTorch's own types.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch

from nodeseal.crypto.secret import allocate
from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.loader.frameworks import Framework
from nodeseal.loader.keys import KeyProvider
from nodeseal.loader.safetensors import TensorEntry
from nodeseal.loader.tensors import safe_open

DTYPES: Final = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "U16": torch.uint16,
    "I16": torch.int16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "F32": torch.float32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F64": torch.float64,
    "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F8_E8M0": torch.float8_e8m0fnu,
}
"""Types by their names in safetensors."""


def load_file(
    path: Path | str, device: str = "cpu", *, pin_memory: bool = False, keys: KeyProvider | None = None
) -> dict[str, torch.Tensor]:
    """Return all tensors of one sealed safetensors file, as ``safetensors.torch.load_file`` does.

    The whole file is verified before anything is returned: every segment, the last one, and ``tags_digest``. The
    model is closed before the function returns. Use :func:`nodeseal.loader.open_model` to read several files or to
    learn of revocations.

    Args:
        path: as in :func:`nodeseal.loader.safe_open`.
        device: device of the tensors, such as ``cuda:0``.
        pin_memory: decrypt into page-locked memory.
        keys: as in :func:`nodeseal.loader.open_model`.

    Raises:
        NotFound: the path is not in a sealed model, or the model has no such file.
        MalformedInput: not safetensors, or PyTorch lacks a type.
        ProofFailed: the model is not what was sealed.
        PolicyRefused: the node may not open the model, or the lease ends during the read.
        Unavailable: no agent answers, or a file cannot be read.
    """
    with safe_open(path, "pt", device, pin_memory=pin_memory, keys=keys) as file:
        return file.get_tensors()


def framework(device: str, *, pin_memory: bool = False) -> Framework[torch.Tensor]:
    """Return PyTorch for one device."""
    return _Torch(torch.device(device), pin_memory=pin_memory)


class _Torch:
    def __init__(self, device: torch.device, *, pin_memory: bool) -> None:
        self._device: Final = device
        self._pin_memory: Final = pin_memory

    def allocate(self, size: int) -> memoryview:
        memory = allocate(size)
        if self._pin_memory and size:  # CUDA takes nothing for an error
            _pin(memory)
        return memory

    def item_size(self, entry: TensorEntry) -> int:
        return int(_dtype(entry).itemsize)

    def view(self, entry: TensorEntry, shape: Sequence[int], data: memoryview) -> torch.Tensor:
        return _tensor(data, shape, _dtype(entry))

    def stack(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack(tensors, out=self._empty((len(tensors), *tensors[0].shape), tensors[0].dtype))

    def deliver(self, tensor: torch.Tensor) -> torch.Tensor:
        whole = tensor if tensor.is_contiguous() else self._empty(tensor.shape, tensor.dtype).copy_(tensor)
        return whole.to(self._device)

    def _empty(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """Return a tensor in memory that core dumps leave out, unlike PyTorch's own."""
        return _tensor(self.allocate(math.prod(shape) * dtype.itemsize), shape, dtype)

    def memory(self, entry: TensorEntry, tensor: torch.Tensor) -> memoryview:
        if tensor.dtype != _dtype(entry) or tuple(tensor.shape) != entry.shape:
            raise ValueError(f"{entry.name}: a tensor of another type or shape than the file's")
        if tensor.device.type != "cpu" or not tensor.is_contiguous():
            raise ValueError(f"{entry.name}: a tensor that is not contiguous in main memory")
        size = entry.stop - entry.start
        return (
            memoryview((ctypes.c_ubyte * size).from_address(tensor.data_ptr())).cast("B") if size else memoryview(b"")
        )


def _tensor(data: memoryview, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    return torch.frombuffer(data, dtype=dtype).reshape(tuple(shape)) if len(data) else torch.empty(shape, dtype=dtype)


def _dtype(entry: TensorEntry) -> torch.dtype:
    if entry.dtype not in DTYPES:
        raise MalformedInput(f"tensor {entry.name[:80]!a} has a type without PyTorch equivalent")
    return DTYPES[entry.dtype]


def _pin(memory: memoryview) -> None:
    """Lock the pages of our own memory. Memory that PyTorch allocates and pins could be part of a core dump."""
    if not torch.cuda.is_available():
        raise Unavailable("memory cannot be pinned without a CUDA device")
    address = ctypes.addressof(ctypes.c_ubyte.from_buffer(memory.obj))
    runtime = torch.cuda.cudart()
    if int(runtime.cudaHostRegister(address, len(memory), 0)) != 0:
        raise Unavailable(f"{len(memory)} bytes of memory cannot be pinned")
    weakref.finalize(memory.obj, runtime.cudaHostUnregister, address)
