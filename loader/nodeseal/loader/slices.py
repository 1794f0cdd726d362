"""Basic indexing, computed before a byte is read: integers, slices with positive steps, and one ellipsis."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

Selection = tuple[int | range, ...]
"""The selection in each dimension: one element, or a range."""


def select(shape: Sequence[int], index: Any) -> Selection:
    """Return what ``index`` selects of a tensor of this shape.

    Raises:
        IndexError: too many indices, two ellipses, or an integer out of range.
        ValueError: a step that is not positive.
        TypeError: another kind of index.
    """
    items = list(index) if isinstance(index, tuple) else [index]
    ellipses = [at for at, item in enumerate(items) if item is Ellipsis]
    if len(ellipses) > 1:
        raise IndexError("an index can only have a single ellipsis")
    if len(items) - len(ellipses) > len(shape):
        raise IndexError(f"{len(items) - len(ellipses)} indices for {len(shape)} dimensions")
    at = ellipses[0] if ellipses else len(items)
    items[at : at + 1] = [slice(None)] * (len(shape) - len(items) + len(ellipses))
    return tuple(_select(size, item) for size, item in zip(shape, items, strict=True))


def whole(selection: Selection, shape: Sequence[int]) -> bool:
    """Tell whether everything is selected."""
    return all(part == range(size) for part, size in zip(selection, shape, strict=True))


def shifted(part: int | range, start: int) -> int | slice:
    """Return ``part`` as an index into a tensor that begins at ``start``."""
    return part - start if isinstance(part, int) else slice(part.start - start, part.stop - start, part.step)


def _select(size: int, item: Any) -> int | range:
    if isinstance(item, slice):
        if item.step is not None and operator.index(item.step) < 1:
            raise ValueError("the step of a slice must be positive")
        selected = range(size)[item]
        return selected if len(selected) else range(0)
    number = operator.index(item)
    if not -size <= number < size:
        raise IndexError(f"index {number} is out of range for a dimension of {size}")
    return number % size
