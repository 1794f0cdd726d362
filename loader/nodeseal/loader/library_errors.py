"""Errors in the shape of safetensors' own, for programs that catch those.

Each is an error of nodeseal or of Python as well. Where safetensors is not installed, nobody catches its errors.
"""

from __future__ import annotations

from nodeseal.errors import NotFound

try:
    from safetensors import SafetensorError
except ImportError:  # the loader works without it

    class SafetensorError(Exception):  # type: ignore[no-redef]
        """Stands for the error of safetensors, which is not installed."""


class NoSuchFile(NotFound, FileNotFoundError):
    """No file of that path."""


class NoSuchTensor(NotFound, SafetensorError):  # type: ignore[misc,unused-ignore] # where safetensors is not installed
    """No tensor of that name in the file."""


class FileClosed(ValueError, SafetensorError):  # type: ignore[misc,unused-ignore]
    """A file that is closed was asked for something."""


class BadIndex(IndexError, SafetensorError):  # type: ignore[misc,unused-ignore]
    """An index that does not fit the tensor, or of a kind that is not supported."""
