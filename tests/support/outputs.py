"""Standard error of a process under test, and what may become of it: broken, full, unread.

An output works until :meth:`Output.fail`, which a test calls before the process starts or at any moment after. A full
disk is full from the start.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where a process writes.

    Attributes:
        descriptor: for the process.
        fail: makes writing fail, or wait without end, from now on.
    """

    descriptor: int
    fail: Callable[[], None]


@contextmanager
def _reader_gone() -> Iterator[Output]:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as far, os.fdopen(writer, "wb"):
        yield Output(descriptor=writer, fail=far.close)


@contextmanager
def _reader_stopped() -> Iterator[Output]:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb"), os.fdopen(writer, "wb"):
        yield Output(descriptor=writer, fail=lambda: fill(writer))


@contextmanager
def _disk_full() -> Iterator[Output]:
    with Path("/dev/full").open("wb", buffering=0) as file:
        yield Output(descriptor=file.fileno(), fail=lambda: None)


def fill(pipe: int) -> None:
    """Fill a pipe, so that the next write to it waits for a reader. The process's descriptor goes on waiting."""
    impatient = os.open(f"/proc/self/fd/{pipe}", os.O_WRONLY | os.O_NONBLOCK)
    try:
        for size in (4096, 1):
            with suppress(BlockingIOError):
                while True:
                    os.write(impatient, bytes(size))
    finally:
        os.close(impatient)


OUTPUTS: Final[dict[str, Callable[[], AbstractContextManager[Output]]]] = {
    "the reader has gone": _reader_gone,
    "the disk is full": _disk_full,
    "the reader stands still": _reader_stopped,
}
