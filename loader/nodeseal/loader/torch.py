"""Tensors of PyTorch: views of verified memory, without a copy on the CPU.

The memory lives as long as any of the tensors. bfloat16 and the floats of eight and four bits are PyTorch's own types.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import torch

from nodeseal.crypto.secret import allocate
from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.loader.frameworks import Framework, lacks
from nodeseal.loader.keys import KeyProvider
from nodeseal.loader.safetensors import TensorEntry
from nodeseal.loader.save import Plain, save_tensors
from nodeseal.loader.tensors import BACKENDS, safe_open
from nodeseal.sealed.content import Content
from nodeseal.sealed.model_key import ModelKey

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
if hasattr(torch, "float4_e2m1fn_x2"):  # PyTorch 2.8
    DTYPES["F4"] = torch.float4_e2m1fn_x2
"""Types by their names in safetensors. An element of ``float4_e2m1fn_x2`` is a byte with two numbers."""
_HALVED: Final = "F4"


def load_file(  # noqa: PLR0913 - safetensors' arguments and ours
    path: Path | str,
    device: str = "cpu",
    *,
    backend: str = BACKENDS[0],
    pin_memory: bool = False,
    raw: Collection[str] = (),
    keys: KeyProvider | None = None,
) -> dict[str, torch.Tensor]:
    """Return all tensors of one sealed safetensors file, as ``safetensors.torch.load_file`` does.

    The whole file is verified before anything is returned: every segment, the last one, and ``tags_digest``. The
    model is closed before the function returns. Use :func:`nodeseal.loader.open_model` to read several files or to
    learn of revocations.

    Args:
        path: as in :func:`nodeseal.loader.safe_open`.
        device: device of the tensors, such as ``cuda:0``.
        backend: as in :func:`nodeseal.loader.safe_open`; so is ``raw``.
        pin_memory: decrypt into page-locked memory.
        raw: types whose tensors are bytes.
        keys: as in :func:`nodeseal.loader.open_model`.

    Raises:
        NotFound: the path is not in a sealed model, or the model has no such file.
        MalformedInput: not safetensors, or PyTorch lacks a type.
        ProofFailed: the model is not what was sealed.
        PolicyRefused: the node may not open the model, or the lease ends during the read.
        Unavailable: no agent answers, or a file cannot be read.
    """
    with safe_open(path, "pt", device, backend=backend, pin_memory=pin_memory, raw=raw, keys=keys) as file:
        return file.get_tensors()


def load_model(  # noqa: PLR0913 - safetensors' arguments and ours
    model: torch.nn.Module,
    path: Path | str,
    strict: bool = True,  # noqa: FBT001, FBT002 - as in safetensors
    device: str = "cpu",
    *,
    backend: str = BACKENDS[0],
    keys: KeyProvider | None = None,
) -> tuple[list[str], list[str]]:
    """Load one sealed file into a module, as ``safetensors.torch.load_model`` does.

    Args:
        model: the module.
        path: as in :func:`load_file`; so are ``device``, ``backend`` and ``keys``.
        strict: whether missing and unexpected names are an error.
        device: device of the tensors.
        backend: as in :func:`nodeseal.loader.safe_open`.
        keys: as in :func:`nodeseal.loader.open_model`.

    Returns:
        The names that the file lacks, and those that the module lacks.

    Raises:
        RuntimeError: names are missing or unexpected; or of another shape.
        NotFound: as :func:`load_file`, like all others of nodeseal's errors.
    """
    tensors = load_file(path, device, backend=backend, keys=keys)
    shared = _shared(model.state_dict())
    missing, unexpected = map(set, model.load_state_dict(tensors, strict=False))
    for group in shared:
        kept = min(group & tensors.keys() or group)
        for name in group - {kept}:  # one of several names of a tensor is enough, and the others are too many
            (missing.discard if name in missing else unexpected.add)(name)
    if strict and (missing or unexpected):
        kinds = {"Missing": sorted(missing), "Unexpected": sorted(unexpected)}
        told = "".join(
            f"\n    {kind} key(s) in state_dict: " + ", ".join(f'"{name}"' for name in names)
            for kind, names in kinds.items()
            if names
        )
        raise RuntimeError(f"Error(s) in loading state_dict for {type(model).__name__}:{told}")  # PyTorch's words
    return sorted(missing), sorted(unexpected)


def save_file(
    tensors: Mapping[str, torch.Tensor],
    path: Path | str,
    metadata: Mapping[str, str] | None = None,
    *,
    model_keys: Sequence[ModelKey | Path | str],
    **label: Any,
) -> Content:
    """Seal tensors into a new folder, as ``safetensors.torch.save_file`` writes them. No plaintext reaches a disk.

    Args:
        tensors: the tensors: dense, contiguous, and none sharing memory with another.
        path: as in :func:`nodeseal.loader.save.save_tensors`; so are all arguments that follow.
        metadata: texts for the header.
        model_keys: public keys or their files.
        **label: ``model_id`` and ``version``.

    Raises:
        ValueError: a tensor is sparse or not contiguous.
        RuntimeError: two tensors share memory.
        MalformedInput: the folder exists, PyTorch's type has no equivalent, or a key or name is malformed.
        Unavailable: a key cannot be read, or the disk is full or too small; nothing is left behind.
    """
    _refuse_overlaps(tensors)
    plain = {name: _plain(name, tensor) for name, tensor in tensors.items()}
    return save_tensors(plain, path, model_keys, metadata=metadata, **label)


def save_model(
    model: torch.nn.Module,
    path: Path | str,
    metadata: Mapping[str, str] | None = None,
    force_contiguous: bool = True,  # noqa: FBT001, FBT002 - as in safetensors
    *,
    model_keys: Sequence[ModelKey | Path | str],
    **label: Any,
) -> Content:
    """Seal a module's tensors into a new folder; a tensor of several names once, as ``safetensors.torch.save_model``.

    Args:
        model: the module.
        path: as in :func:`save_file`; so are ``metadata``, ``model_keys`` and ``label``.
        metadata: texts for the header; names that are left out are added.
        force_contiguous: whether tensors in another order are copied into the usual one.
        model_keys: public keys or their files.
        **label: ``model_id`` and ``version``.

    Raises:
        ValueError: as :func:`save_file`, like all others.
    """
    state, texts = dict(model.state_dict()), dict(metadata or {})
    for group in _shared(state):
        kept = min(group)
        for name in group - {kept}:
            texts.setdefault(name, kept)
            del state[name]
    if force_contiguous:
        state = {name: tensor.contiguous() for name, tensor in state.items()}
    return save_file(state, path, texts or None, model_keys=model_keys, **label)


def _shared(state: Mapping[str, torch.Tensor]) -> list[set[str]]:
    """Return the groups of names that mean the same memory."""
    groups: dict[object, set[str]] = {}
    for name, tensor in state.items():
        if tensor.device.type != "meta" and tensor.nbytes:
            place = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
            groups.setdefault(place, set()).add(name)
    return [group for group in groups.values() if len(group) > 1]


def _refuse_overlaps(tensors: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or not tensor.is_contiguous():
            raise ValueError(f"{name}: not a dense, contiguous tensor; say .to_dense() or .contiguous()")
    places = sorted((str(tensor.device), tensor.data_ptr(), name) for name, tensor in tensors.items() if tensor.nbytes)
    for (device, start, name), (other, next_start, next_name) in pairwise(places):
        if device == other != "meta" and start + tensors[name].nbytes > next_start:
            raise RuntimeError(f"{name} and {next_name} share memory; save_model saves such tensors once")


def _plain(name: str, tensor: torch.Tensor) -> Plain:
    names = {dtype: key for key, dtype in DTYPES.items()}
    if tensor.dtype not in names:
        raise MalformedInput(f"tensor {name[:80]!a} has the type {tensor.dtype}, which safetensors lack")
    dtype, shape = names[tensor.dtype], tuple(tensor.shape)
    if dtype == _HALVED and shape:
        shape = (*shape[:-1], 2 * shape[-1])
    there = tensor.detach().to("cpu")
    return Plain(dtype=dtype, shape=shape, data=_bytes(there))


def _bytes(tensor: torch.Tensor) -> memoryview:
    """Return the memory of a contiguous tensor in main memory, which lives as long as the view."""
    if not tensor.nbytes:
        return memoryview(b"")
    array = (ctypes.c_ubyte * tensor.nbytes).from_address(tensor.data_ptr())
    array._tensor = tensor  # noqa: SLF001 - keeps the memory
    return memoryview(array).cast("B")


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

    def stored(self, entry: TensorEntry) -> TensorEntry:
        _dtype(entry)
        if entry.dtype != _HALVED:
            return entry
        if not entry.shape or entry.shape[-1] % 2:
            raise MalformedInput(f"tensor {entry.name[:80]!a} is F4, and its last dimension is not even")
        return replace(entry, shape=(*entry.shape[:-1], entry.shape[-1] // 2))

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
        return _bytes(tensor)


def _tensor(data: memoryview, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    return torch.frombuffer(data, dtype=dtype).reshape(tuple(shape)) if len(data) else torch.empty(shape, dtype=dtype)


def _dtype(entry: TensorEntry) -> torch.dtype:
    if entry.dtype not in DTYPES:
        raise lacks(entry, "PyTorch")
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
