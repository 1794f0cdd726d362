"""Basic indexing, computed before a byte is read: integers, slices with positive steps, and one ellipsis."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from nodeseal.loader.library_errors import BadIndex

Selection = tuple[int | range, ...]
"""The selection in each dimension: one element, or a range."""


def select(shape: Sequence[int], index: Any) -> Selection:
    """Return what ``index`` selects of a tensor of this shape.

    Like safetensors, and unlike NumPy, this refuses a slice that ends behind the last element, and takes an empty list.

    Raises:
        BadIndex: too many indices, two ellipses, a list with elements, or an integer or slice out of range.
        ValueError: a step that is not positive.
        TypeError: another kind of index.
    """
    items = list(index) if isinstance(index, tuple) else [index]
    ellipses = [at for at, item in enumerate(items) if item is Ellipsis]
    if len(ellipses) > 1:
        raise BadIndex("an index can only have a single ellipsis")
    if len(items) - len(ellipses) > len(shape):
        raise BadIndex(f"{len(items) - len(ellipses)} indices for {len(shape)} dimensions")
    given = list(items)
    at = ellipses[0] if ellipses else len(items)
    items[at : at + 1] = [slice(None)] * (len(shape) - len(items) + len(ellipses))
    try:
        return tuple(_select(at, size, item) for at, (size, item) in enumerate(zip(shape, items, strict=True)))
    except _OutOfBounds as error:
        text = ", ".join(map(_spelled, given))
        raise BadIndex(f"Error during slicing [{text}] with shape {list(shape)}: {error}") from error


def whole(selection: Selection, shape: Sequence[int]) -> bool:
    """Tell whether everything is selected."""
    return all(part == range(size) for part, size in zip(selection, shape, strict=True))


def shifted(part: int | range, start: int) -> int | slice:
    """Return ``part`` as an index into a tensor that begins at ``start``."""
    return part - start if isinstance(part, int) else slice(part.start - start, part.stop - start, part.step)


class _OutOfBounds(Exception):
    """An element that the tensor does not have."""


def _select(dimension: int, size: int, item: Any) -> int | range:
    if isinstance(item, slice):
        return _range(dimension, size, item)
    if isinstance(item, list):
        if item:
            raise BadIndex("Non empty lists are not implemented")
        return range(0)
    number = operator.index(item)
    if number < -size:
        raise BadIndex(f"Invalid index {number} for dimension {dimension} of size {size}")
    _refuse_beyond(dimension, size, number)
    return number % size


def _range(dimension: int, size: int, item: slice) -> range:
    if item.step is not None and operator.index(item.step) < 1:
        raise ValueError("the step of a slice must be positive")
    if item.stop is not None and operator.index(item.stop) > 0:
        _refuse_beyond(dimension, size, operator.index(item.stop) - 1)
    selected = range(size)[item]
    return selected if len(selected) else range(0)


def _refuse_beyond(dimension: int, size: int, number: int) -> None:
    if number >= size:
        raise _OutOfBounds(f"index {number} out of bounds for tensor dimension #{dimension} of size {size}")


def _spelled(item: Any) -> str:
    """Spell an index as in a program."""
    if not isinstance(item, slice):
        return "..." if item is Ellipsis else str(item)
    ends = ":".join("" if end is None else str(end) for end in (item.start, item.stop))
    return ends if item.step is None else f"{ends}:{item.step}"
