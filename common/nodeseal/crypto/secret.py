"""Memory that holds secrets: wiped after use and kept out of core dumps, as far as Python and Linux allow.

What this is worth: a ``bytearray`` that is wiped leaves nothing behind itself, but libraries take and return
``bytes``, whose copies live until the allocator reuses them. It narrows what a later memory disclosure finds; it does
not protect from root on a running node.
"""

from __future__ import annotations

import ctypes
import mmap


def wipe(buffer: bytearray | memoryview) -> None:
    """Overwrite ``buffer`` with zeros, in place."""
    size = memoryview(buffer).nbytes
    if size:
        ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(buffer)), 0, size)


def allocate(size: int) -> memoryview:
    """Return ``size`` zero bytes of private memory that core dumps leave out (madvise(2), ``MADV_DONTDUMP``).

    The memory goes back to the system, which zeroes it, when the last view of it is gone.
    """
    region = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    region.madvise(mmap.MADV_DONTDUMP)
    return memoryview(region)[:size]
