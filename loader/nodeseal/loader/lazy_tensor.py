"""PyTorch tensors that decrypt on first use, so that an engine that keeps a part of a weight reads only that part.

Serving engines iterate over all weights in every process. Each process narrows a weight to its share (tensor parallel
ranks), or drops it (layers and experts of other processes). A lazy tensor remembers narrowing along a dimension and
picking an index; any other operation decrypts the rest. Lazy tensors are in main memory and cannot be changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch.utils import _pytree as pytree

from nodeseal.loader.tensor_slice import TensorSlice
from nodeseal.loader.torch import DTYPES

_ATEN: Final = torch.ops.aten
_SAME: Final = frozenset((_ATEN.alias.default, _ATEN.detach.default))

Indices = tuple[slice | int, ...]
"""The selection in each dimension of the file: a range, or one index."""


class LazyTensor(torch.Tensor):  # type: ignore[misc] # PyTorch is an extra, so mypy does not see its classes
    """A part of a sealed tensor. Make one with :func:`lazy_tensor`."""

    def __new__(cls, piece: TensorSlice, window: Indices) -> Any:
        """Make a tensor that has a shape and no memory."""
        shape = [part.stop - part.start for part in window if isinstance(part, slice)]
        return torch.Tensor._make_wrapper_subclass(cls, shape, dtype=DTYPES[piece.get_dtype()], device="cpu")  # noqa: SLF001 - the documented way to make tensors without memory

    def __init__(self, piece: TensorSlice, window: Indices) -> None:
        self._piece = piece
        self._window = window

    def __repr__(self) -> str:  # type: ignore[explicit-override, unused-ignore] # one that shows no elements
        return f"LazyTensor(shape={tuple(self.shape)}, dtype={self.dtype})"

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Sequence[Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Remember narrowing operations; decrypt for any other."""
        first = args[0] if args else None
        if isinstance(first, cls):
            if func._schema.is_mutable:  # noqa: SLF001 - PyTorch's own subclasses ask so, too
                raise TypeError(f"{func}: a sealed tensor cannot be changed")
            if not kwargs and (narrowed := first.narrowed(func, args[1:])) is not None:
                return narrowed
        args, kwargs = pytree.tree_map_only(cls, LazyTensor.read, (tuple(args), dict(kwargs or {})))
        return func(*args, **kwargs)

    def read(self) -> Any:
        """Decrypt the selected part.

        Raises:
            ProofFailed: a segment is not what was sealed.
            PolicyRefused: the lease has ended, or ends during the read.
            Unavailable: the file cannot be read.
        """
        return self._piece[self._window]

    def narrowed(self, func: Any, args: Sequence[Any]) -> LazyTensor | None:
        """Return the result of a narrowing operation, or None for any other operation."""
        window = self._narrowed(func, args)
        return None if window is None else LazyTensor(self._piece, window)

    def _narrowed(self, func: Any, args: Sequence[Any]) -> Indices | None:
        if func in _SAME:
            return self._window
        if func is _ATEN.slice.Tensor:
            return self._sliced(*args)
        if func is _ATEN.select.int:
            at, part = self._part(args[0])
            return self._replaced(at, range(part.start, part.stop)[args[1]])
        return None

    def _sliced(self, dim: int = 0, start: int | None = None, stop: int | None = None, step: int = 1) -> Indices | None:
        if step != 1:
            return None
        at, part = self._part(dim)
        low, high, _ = slice(start, stop).indices(part.stop - part.start)
        return self._replaced(at, slice(part.start + low, part.start + max(low, high)))

    def _part(self, dim: int) -> tuple[int, slice]:
        """Return a dimension of this tensor: its index among the file's dimensions, and the selected range."""
        return [(at, part) for at, part in enumerate(self._window) if isinstance(part, slice)][dim]

    def _replaced(self, at: int, part: slice | int) -> Indices:
        return (*self._window[:at], part, *self._window[at + 1 :])


def lazy_tensor(piece: TensorSlice) -> Any:
    """Return a lazy tensor for all of ``piece``. Nothing is decrypted yet."""
    return LazyTensor(piece, tuple(slice(0, size) for size in piece.get_shape()))
