"""What disk, cipher and load bring on this machine, for an operator who asks which of them is the limit.

All figures are bytes per second on the wall. What the page cache holds of a file is dropped before it is read, as far
as the kernel lets a process do that.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nodeseal.crypto import floe
from nodeseal.crypto.secret import allocate
from nodeseal.errors import Unavailable
from nodeseal.loader.crew import MAX_THREADS
from nodeseal.loader.model import SealedModel
from nodeseal.sealed.content import DEFAULT_SEGMENT_SIZE

_PIECE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class DiskRate:
    """One way to read.

    Attributes:
        name: the way in words.
        rate: bytes per second; None: not possible here.
    """

    name: str
    rate: float | None


def processors() -> int:
    """Return the number of processors that this process may use, at most as many as threads are used."""
    return min(MAX_THREADS, len(os.sched_getaffinity(0)))


def measure_disk(paths: Sequence[Path], limit: int) -> tuple[DiskRate, ...]:
    """Read files through the page cache, and past it, by two threads a processor.

    Args:
        paths: the files.
        limit: bytes to read in each way.

    Raises:
        Unavailable: a file cannot be read.
    """
    drop(paths)
    buffered = DiskRate("disk, through the page cache", _read(paths, limit, 0))
    drop(paths)
    try:
        return buffered, DiskRate("disk, past the page cache", _read(paths, limit, os.O_DIRECT))
    except Unavailable:
        return buffered, DiskRate("disk, past the page cache", None)


def drop(paths: Sequence[Path]) -> None:
    """Drop files from the page cache (posix_fadvise(2)); what others map stays there."""
    for path in paths:
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def measure_cipher(seconds: float, threads: int) -> float:
    """Decrypt the same segments in memory again and again, a thread a processor; return bytes per second."""
    size = DEFAULT_SEGMENT_SIZE - floe.SEGMENT_OVERHEAD
    params = floe.Parameters(DEFAULT_SEGMENT_SIZE)
    key = bytearray(os.urandom(floe.KEY_SIZE))
    encryptor = floe.Encryptor(key, b"", params)
    segment = allocate(DEFAULT_SEGMENT_SIZE)
    encryptor.encrypt_into(0, memoryview(bytearray(size)), segment, final=True)
    decryptor = floe.Decryptor(key, b"", encryptor.header, params, name="measured")
    until = time.monotonic() + seconds

    def work(_: int) -> int:
        plaintext, done = allocate(size), 0
        while time.monotonic() < until:
            decryptor.decrypt_into(0, segment, plaintext, final=True)
            done += size
        return done

    return _timed(lambda: _sum(threads, work))


def measure_load(model: SealedModel) -> float:
    """Verify all sealed files and keep nothing, as a load does; return bytes per second.

    Raises:
        ProofFailed: a file is not what was sealed.
        PolicyRefused: the lease ends during the read.
        Unavailable: a file cannot be read.
    """

    def load() -> int:
        for file in model.content.sealed():
            model.verify(file.path)
        return sum(file.size for file in model.content.sealed())

    return _timed(load)


def _read(paths: Sequence[Path], limit: int, flags: int) -> float:
    descriptors: list[int] = []
    try:
        descriptors.extend(os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags) for path in paths)
        pieces = iter(_pieces(descriptors, limit))

        def work(_: int) -> int:
            buffer = mmap.mmap(-1, _PIECE)
            return sum(os.preadv(descriptor, [buffer], offset) for descriptor, offset in pieces)

        return _timed(lambda: _sum(2 * processors(), work))
    except OSError as error:
        raise Unavailable(f"{paths[0].parent}: {error.strerror}") from error
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _pieces(descriptors: Sequence[int], limit: int) -> list[tuple[int, int]]:
    sizes = [(descriptor, os.fstat(descriptor).st_size) for descriptor in descriptors]
    found = [(descriptor, offset) for descriptor, size in sizes for offset in range(0, size, _PIECE)]
    return found[: max(1, limit // _PIECE)]


def _sum(threads: int, work: Callable[[int], int]) -> int:
    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(work, range(threads)))


def _timed(work: Callable[[], int]) -> float:
    start = time.monotonic()
    return work() / max(time.monotonic() - start, 1e-9)
