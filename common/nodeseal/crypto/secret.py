"""Memory for secrets: wiped after use and kept out of core dumps, as far as Python and Linux allow.

Limits: wiping a ``bytearray`` clears its own memory, but libraries take and return ``bytes``, whose copies stay until
the allocator reuses them. A later memory disclosure finds less; root on a running node is not kept out.
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

    When the last view of it is gone, the memory returns to the system, which zeroes it.
    """
    region = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    region.madvise(mmap.MADV_DONTDUMP)
    return memoryview(region)[:size]
