"""What the loader asks of a library of tensors: :mod:`nodeseal.loader.numpy` and :mod:`nodeseal.loader.torch`."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.loader.safetensors import TensorEntry

T = TypeVar("T")

_MODULES: Final = {
    "np": "nodeseal.loader.numpy",
    "numpy": "nodeseal.loader.numpy",
    "pt": "nodeseal.loader.torch",
    "torch": "nodeseal.loader.torch",
    "pytorch": "nodeseal.loader.torch",
}
"""By the names that safetensors knows."""


class Framework(Protocol[T]):
    """Makes tensors of verified bytes."""

    def allocate(self, size: int) -> memoryview:
        """Return memory to decrypt into.

        Raises:
            Unavailable: memory of the kind that was asked for cannot be had.
        """
        ...

    def item_size(self, entry: TensorEntry) -> int:
        """Return the bytes of one element.

        Raises:
            MalformedInput: a type that this library lacks.
            Unavailable: a type that needs a package that is not installed.
        """
        ...

    def view(self, entry: TensorEntry, shape: Sequence[int], data: memoryview) -> T:
        """Return a tensor of the entry's type over ``data``, which has the length of ``shape``; nothing is copied."""
        ...

    def stack(self, tensors: list[T]) -> T:
        """Join tensors of one shape along a new first dimension."""
        ...

    def deliver(self, tensor: T) -> T:
        """Return the tensor as callers want it: its elements in their order, on the device."""
        ...

    def memory(self, entry: TensorEntry, tensor: T) -> memoryview:
        """Return the bytes of a tensor that exists already.

        Raises:
            ValueError: its type or shape is not the entry's, or its elements do not lie in main memory in their order.
        """
        ...


def framework_of(name: str, device: str, *, pin_memory: bool = False) -> Framework[Any]:
    """Return the library of that name.

    Args:
        name: as safetensors spells it: ``np`` or ``numpy``, ``pt``, ``torch`` or ``pytorch``.
        device: where tensors go.
        pin_memory: decrypt into page-locked memory, which a GPU copies from at full speed.

    Raises:
        ValueError: unknown, or a device that it lacks.
        Unavailable: not installed.
    """
    if name not in _MODULES:
        raise ValueError(f"framework {name!r} is not one of {', '.join(_MODULES)}")
    try:
        make: Callable[..., Framework[Any]] = importlib.import_module(_MODULES[name]).framework
    except ImportError as error:
        package = _MODULES[name].rpartition(".")[2]
        raise Unavailable(f"{package} is not installed", remedy=f"pip install {package}") from error
    return make(device, pin_memory=pin_memory)


def check_length(entry: TensorEntry, item_size: int, name: str) -> None:
    """Refuse a tensor whose bytes are not those of its shape.

    Raises:
        MalformedInput: so it is.
    """
    if math.prod(entry.shape) * item_size != entry.stop - entry.start:
        raise MalformedInput(f"{name}: tensor {entry.name[:80]!a} does not have the length of its shape")
