"""Targets of verified plaintext: parts of memory for parts of a file."""

from __future__ import annotations

import ctypes
import mmap
from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

from nodeseal.crypto.secret import wipe

_MADV_POPULATE_WRITE: Final = 23
_madvise = ctypes.CDLL(None).madvise
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class Targets:
    """Memory for some or all bytes of a file. Bytes without a target are verified and dropped."""

    def __init__(
        self, parts: Iterable[tuple[int, memoryview]] = (), *, unseen: bool = True, fresh: bool = False
    ) -> None:
        """Keep the parts.

        Args:
            parts: pairs of an offset in the file and writable memory; parts must not overlap.
            unseen: nobody reads this memory before all of it is verified, so plaintext may be decrypted straight into
                it. Otherwise only verified plaintext is copied there.
            fresh: nobody has touched this memory yet.
        """
        ordered = sorted(((start, part) for start, part in parts if len(part)), key=lambda part: part[0])
        self._starts: Final = [start for start, _ in ordered]
        self._parts: Final = [part for _, part in ordered]
        self._unseen: Final = unseen
        self._fresh: Final = fresh

    def direct(self, start: int, stop: int) -> memoryview | None:
        """Return the memory for exactly these bytes of the file, if one part holds them and nobody reads it yet."""
        index = bisect_right(self._starts, start) - 1
        if not self._unseen or index < 0 or start == stop:
            return None
        part, at = self._parts[index], start - self._starts[index]
        if at + stop - start > len(part):
            return None
        memory = part[at : at + stop - start]
        if self._fresh:
            _populate(memory)
        return memory

    def copy(self, start: int, plaintext: memoryview) -> None:
        """Copy verified bytes of the file, which begin at ``start``, to their targets."""
        stop = start + len(plaintext)
        for index in range(max(0, bisect_right(self._starts, start) - 1), len(self._parts)):
            first, part = self._starts[index], self._parts[index]
            if first >= stop:
                return
            low, high = max(start, first), min(stop, first + len(part))
            if low < high:
                _move(part[low - first : high - first], plaintext[low - start : high - start])

    def wipe(self) -> None:
        """Overwrite all targets with zeros."""
        for part in self._parts:
            wipe(part)


def _populate(memory: memoryview) -> None:
    """Let the kernel allocate the pages of fresh memory at once (madvise(2)); one by one they cost half as much again.

    Huge pages were tried: they are faster if the machine has free ones, and several times slower if a hypervisor or
    compaction must find them first.
    """
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    aligned = start - start % mmap.PAGESIZE
    _madvise(aligned, start + len(memory) - aligned, _MADV_POPULATE_WRITE)  # kernels before 5.14 refuse: no harm done


def _move(target: memoryview, source: memoryview) -> None:
    """Copy like ``target[:] = source``, but without the GIL, so that threads copy at the same time."""
    into, start = ctypes.c_char.from_buffer(target), ctypes.c_char.from_buffer(source)
    ctypes.memmove(ctypes.addressof(into), ctypes.addressof(start), len(source))
