"""Whole reads and writes at offsets, with errors that name the file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nodeseal.errors import MalformedInput, Unavailable


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn an error of the operating system into :class:`Unavailable` with the name of the file."""
    try:
        yield
    except OSError as error:
        raise _unavailable(path, error) from error


def open_regular(path: Path, *, follow: bool = True) -> int:
    """Open a regular file for reading and return its descriptor.

    Args:
        path: where.
        follow: take a symbolic link for what it leads to.

    Raises:
        Unavailable: it cannot be opened, or is a link that is not followed.
        MalformedInput: it is a device, a pipe or a folder.
    """
    with naming(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise MalformedInput(f"{path}: not a regular file")
    return descriptor


@contextmanager
def opened(path: Path, *, follow: bool = True) -> Iterator[int]:
    """Give the descriptor of :func:`open_regular` and close it after the block."""
    descriptor = open_regular(path, follow=follow)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_exactly(descriptor: int, buffer: memoryview, offset: int, path: Path) -> None:
    """Fill ``buffer`` from ``offset``.

    Raises:
        Unavailable: the file ends before, or cannot be read.
    """
    done = 0
    while done < len(buffer):
        try:
            count = os.preadv(descriptor, [buffer[done:]], offset + done)
        except OSError as error:  # naming() would make a generator for each segment
            raise _unavailable(path, error) from error
        if count == 0:
            raise Unavailable(f"{path}: became shorter while it was read")
        done += count


def write_exactly(descriptor: int, data: memoryview, offset: int, path: Path) -> None:
    """Write all of ``data`` at ``offset``.

    Raises:
        Unavailable: the disk is full or failing.
    """
    done = 0
    while done < len(data):
        try:
            done += os.pwrite(descriptor, data[done:], offset + done)
        except OSError as error:
            raise _unavailable(path, error) from error


def read_small(path: Path, limit: int) -> bytes:
    """Return a whole file of at most ``limit`` bytes.

    Raises:
        Unavailable: it is not there or cannot be read.
        MalformedInput: it is longer, or not a regular file.
    """
    with opened(path) as descriptor:
        size = os.fstat(descriptor).st_size
        if size > limit:
            raise MalformedInput(f"{path}: {size} bytes, at most {limit}")
        buffer = bytearray(size)
        read_exactly(descriptor, memoryview(buffer), 0, path)
    return bytes(buffer)


def _unavailable(path: Path, error: OSError) -> Unavailable:
    return Unavailable(f"{path}: {error.strerror or 'input/output error'}")
