"""The loader's interface to libraries of tensors: :mod:`nodeseal.loader.numpy` and :mod:`nodeseal.loader.torch`."""

from __future__ import annotations

import importlib
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
"""Modules by the names that safetensors uses."""


class Framework(Protocol[T]):
    """Interface that makes tensors from verified bytes."""

    def allocate(self, size: int) -> memoryview:
        """Return memory to decrypt into.

        Raises:
            Unavailable: the requested kind of memory is not available.
        """
        ...

    def stored(self, entry: TensorEntry) -> TensorEntry:
        """Return the entry with the shape that the tensor has in this library, which may count bytes of two elements.

        Raises:
            MalformedInput: this library lacks the type, or such a shape of it.
            Unavailable: the type needs a package that is not installed.
        """
        ...

    def item_size(self, entry: TensorEntry) -> int:
        """Return the bytes of one element in the file; 0: an element has less than a byte, so read whole tensors."""
        ...

    def view(self, entry: TensorEntry, shape: Sequence[int], data: memoryview) -> T:
        """Return a tensor of the entry's type over ``data``, without a copy. ``data`` has the length of ``shape``."""
        ...

    def stack(self, tensors: list[T]) -> T:
        """Join tensors of one shape along a new first dimension."""
        ...

    def deliver(self, tensor: T) -> T:
        """Return the tensor for callers: elements in order, on the device."""
        ...

    def memory(self, entry: TensorEntry, tensor: T) -> memoryview:
        """Return the bytes of an existing tensor.

        Raises:
            ValueError: type or shape differ from the entry, or the elements are not in order in main memory.
        """
        ...


def framework_of(name: str, device: str, *, pin_memory: bool = False) -> Framework[Any]:
    """Return the library with the name ``name``.

    Args:
        name: name in safetensors: ``np`` or ``numpy``, ``pt``, ``torch`` or ``pytorch``.
        device: device of the tensors.
        pin_memory: decrypt into page-locked memory, which a GPU copies from at full speed.

    Raises:
        ValueError: the name is unknown, or the library does not know the device.
        Unavailable: the library is not installed.
    """
    if name not in _MODULES:
        raise ValueError(f"framework {name!r} is not one of {', '.join(_MODULES)}")
    try:
        make: Callable[..., Framework[Any]] = importlib.import_module(_MODULES[name]).framework
    except ImportError as error:
        package = _MODULES[name].rpartition(".")[2]
        raise Unavailable(f"{package} is not installed", remedy=f"pip install {package}") from error
    return make(device, pin_memory=pin_memory)


def lacks(entry: TensorEntry, library: str) -> MalformedInput:
    """Return the error for a type that a library lacks."""
    return MalformedInput(
        f"tensor {entry.name[:80]!a} is {entry.dtype[:16]}, a type without {library} equivalent",
        remedy=f"raw=[{entry.dtype[:16]!r}] gives the bytes of such tensors",
    )
