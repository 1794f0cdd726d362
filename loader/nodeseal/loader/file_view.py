"""A model's file for programs that need a file object or a path."""

from __future__ import annotations

import ctypes
import fcntl
import io
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from nodeseal.crypto.secret import wipe
from nodeseal.errors import Unavailable
from nodeseal.loader.closing import Closing
from nodeseal.loader.targets import Targets

_NAME: Final = "nodeseal"
_madvise = ctypes.CDLL(None).madvise
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Ranges(Protocol):
    """Source of verified bytes of a file."""

    def read_range_into(self, buffer: memoryview, start: int) -> None:
        """Fill ``buffer`` with the bytes from ``start``."""
        ...

    def check(self) -> None:
        """Raise an error if bytes may not be handed out any more."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


class MappedWindow:
    """Memory with the part of a file that was read last."""

    def __init__(self, memory: memoryview) -> None:
        self.memory: Final = memory
        self.start, self.stop = 0, 0

    def close(self) -> None:
        """Wipe the memory."""
        wipe(self.memory)


class MemoryRanges:
    """Ranges of bytes that are already verified."""

    def __init__(self, content: memoryview, check: Callable[[], None]) -> None:
        self._content: Final = content
        self.check: Final = check

    def read_range_into(self, buffer: memoryview, start: int) -> None:
        """Copy bytes to ``buffer``."""
        buffer[:] = self._content[start : start + len(buffer)]

    def close(self) -> None:
        """Do nothing."""


class FileView(io.RawIOBase):
    """A read-only file object. Each read verifies the segments that it needs, and no others.

    Small reads come from a window of plaintext, which is wiped when the file is closed.
    """

    def __init__(self, ranges: Ranges, size: int, window: MappedWindow) -> None:
        """Begin at the first byte; use :meth:`nodeseal.loader.SealedModel.as_file`.

        Args:
            ranges: the file; closed with this object.
            size: bytes of the file.
            window: memory for small reads.
        """
        super().__init__()
        self._ranges: Final = ranges
        self._size: Final = size
        self._position = 0
        self._window: Final = window

    def readable(self) -> bool:
        """Return True: the file can be read."""
        return True

    def seekable(self) -> bool:
        """Return True: the file has random access."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a byte, counted as ``whence`` says, and return the new position."""
        self._check_open()
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("a position before the first byte")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        self._check_open()
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` up to the end of the file and return the number of bytes. On any error they are zeros.

        Raises:
            ProofFailed: the file is not what was sealed.
            PolicyRefused: the lease has ended, or ends during the read.
            Unavailable: the file cannot be read.
        """
        self._check_open()
        with memoryview(buffer).cast("B") as view:
            count = max(0, min(len(view), self._size - self._position))
            try:
                count = self._fill(view[:count])
                self._ranges.check()  # the window is wiped when the lease ends
            except BaseException:
                wipe(view[:count])
                raise
        self._position += count
        return count

    def close(self) -> None:
        """Wipe the window and release the file."""
        if not self.closed:
            self._window.close()
            self._ranges.close()
        super().close()

    def _fill(self, view: memoryview) -> int:
        """Fill a view from the position with one read; return the number of bytes."""
        if len(view) >= len(self._window.memory):
            self._ranges.read_range_into(view, self._position)
            return len(view)
        count = min(len(view), self._slide()) if len(view) else 0
        at = self._position - self._window.start
        view[:count] = self._window.memory[at : at + count]
        return count

    def _slide(self) -> int:
        """Move the window to the position; return the number of bytes that it holds from there."""
        window = self._window
        if not window.start <= self._position < window.stop:
            start = self._position - self._position % len(window.memory)
            stop = min(start + len(window.memory), self._size)
            window.start = window.stop = 0
            self._ranges.read_range_into(window.memory[: stop - start], start)
            window.start, window.stop = start, stop
        return window.stop - self._position

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")


class MemoryFile(Closing):
    """A file in memory with a path, for this process and programs that inherit the descriptor.

    Nobody can change it. The kernel frees its memory when it is closed and nobody has it mapped or open. Until then the
    kernel may swap it, so run such programs without swap. Closing keeps what this process has mapped out of core dumps.

    Attributes:
        descriptor: descriptor of the file.
        path: path that opens the file.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor: Final = descriptor
        self.path: Final = f"/proc/self/fd/{descriptor}"
        self._closed = False

    def close(self) -> None:
        """Close the descriptor."""
        if not self._closed:
            self._closed = True
            _leave_out_of_core_dumps(os.fstat(self.descriptor).st_ino)
            os.close(self.descriptor)


def _leave_out_of_core_dumps(inode: int) -> None:
    """Mark all mappings of a file in memory (proc(5), ``maps``; madvise(2), ``MADV_DONTDUMP``)."""
    for line in Path("/proc/self/maps").read_text("utf-8", errors="replace").splitlines():
        place, _, _, _, number, *name = line.split(maxsplit=5)
        if int(number) == inode and name and name[0].startswith(f"/memfd:{_NAME}"):
            start, stop = (int(end, 16) for end in place.split("-"))
            _madvise(start, stop - start, mmap.MADV_DONTDUMP)


def memory_file(size: int, fill: Callable[[Targets], None]) -> MemoryFile:
    """Make a file in memory, fill it with ``fill``, and seal it against changes (memfd_create(2), fcntl(2)).

    Raises:
        Unavailable: the kernel has no memory for it.
        Exception: the error of ``fill``; no file is left.
    """
    try:
        descriptor = os.memfd_create(_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        raise Unavailable(f"no file in memory: {error.strerror}") from error
    try:
        _fill(descriptor, size, fill)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return MemoryFile(descriptor)


def _fill(descriptor: int, size: int, fill: Callable[[Targets], None]) -> None:
    os.ftruncate(descriptor, size)
    if not size:
        fill(Targets())
        return
    region = mmap.mmap(descriptor, size)
    region.madvise(mmap.MADV_DONTDUMP)
    view = memoryview(region)
    fill(Targets([(0, view)], fresh=True))
    view.release()
    region.close()  # the kernel seals nothing that somebody could still write to
