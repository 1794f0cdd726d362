"""A tensor of a sealed file that is read when it is indexed, in the shape of safetensors' slices."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from nodeseal.loader.frameworks import Framework
from nodeseal.loader.safetensors import TensorEntry
from nodeseal.loader.slices import Selection, select, shifted, whole

_WORTH_SKIPPING: Final = 1 << 20
"""Bytes of a usual segment. A smaller gap between two selected parts is decrypted with them."""


class TensorSlice:
    """A tensor that is read when it is indexed. Only segments with selected elements are read."""

    def __init__(self, entry: TensorEntry, framework: Framework[Any], read: Callable[[int, int], memoryview]) -> None:
        """Read nothing yet. Use :meth:`TensorFile.get_slice` instead."""
        self._entry: Final = entry
        self._framework: Final = framework
        self._read: Final = read
        self._item_size: Final = framework.item_size(entry)

    def get_shape(self) -> list[int]:
        """Return the whole tensor's shape."""
        return list(self._entry.shape)

    def get_dtype(self) -> str:
        """Return the type in the file's spelling."""
        return self._entry.dtype

    def __getitem__(self, index: Any) -> Any:
        """Return the result of NumPy's basic indexing: integers, slices with positive steps, and an ellipsis.

        Raises:
            BadIndex: too many indices, one out of range, or of another kind.
            ProofFailed: a segment is not what was sealed.
            PolicyRefused: the lease has ended, or ends during the read.
            Unavailable: the file cannot be read.
        """
        selection = select(self._entry.shape, index)
        if not self._item_size:
            return self._framework.deliver(self._all()[tuple(shifted(part, 0) for part in selection)])
        return self._framework.deliver(self._take(selection, self._entry.shape, self._entry.start))

    def _all(self) -> Any:
        return self._framework.view(self._entry, self._entry.shape, self._read(self._entry.start, self._entry.stop))

    def _take(self, selection: Selection, shape: tuple[int, ...], start: int) -> Any:
        """Return the selection of a part of the tensor. The part has this shape, and its bytes begin at ``start``."""
        row = self._item_size * math.prod(shape[1:])
        first, rest = (selection[0], selection[1:]) if selection else (0, ())
        rows = range(first, first + 1) if isinstance(first, int) else first
        if rows and row > _WORTH_SKIPPING and not (rows.step == 1 and whole(rest, shape[1:])):
            parts = [self._take(rest, shape[1:], start + number * row) for number in rows]
            return parts[0] if isinstance(first, int) else self._framework.stack(parts)
        low, high = (rows[0], rows[-1] + 1) if rows else (0, 0)
        data = self._read(start + low * row, start + high * row)
        view = self._framework.view(self._entry, (high - low, *shape[1:]), data)
        return view[(shifted(first, low), *(shifted(part, 0) for part in rest), ...)]
