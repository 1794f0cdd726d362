"""A file of a model for programs that want a file: to read and seek in, or with a path."""

from __future__ import annotations

import fcntl
import io
import mmap
import os
from collections.abc import Callable
from typing import Any, Final, Protocol

from nodeseal.crypto.secret import wipe
from nodeseal.errors import Unavailable
from nodeseal.loader.closing import Closing
from nodeseal.loader.targets import Targets

_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Ranges(Protocol):
    """What gives verified bytes of a file."""

    def read_range_into(self, buffer: memoryview, start: int) -> None:
        """Fill ``buffer`` from byte ``start`` on."""
        ...

    def check(self) -> None:
        """Refuse to go on once bytes may not be handed out any more."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class MappedWindow:
    """The part of a file that was read last."""

    def __init__(self, memory: memoryview) -> None:
        self.memory: Final = memory
        self.start, self.stop = 0, 0

    def close(self) -> None:
        """Wipe it."""
        wipe(self.memory)


class MemoryRanges:
    """Bytes that have verified already."""

    def __init__(self, content: memoryview, check: Callable[[], None]) -> None:
        self._content: Final = content
        self.check: Final = check

    def read_range_into(self, buffer: memoryview, start: int) -> None:
        """Copy bytes."""
        buffer[:] = self._content[start : start + len(buffer)]

    def close(self) -> None:
        """Do nothing."""


class FileView(io.RawIOBase):
    """A read-only file object: each read verifies the segments it needs; whether the rest is intact stays open.

    Small reads are served from a window of plaintext, which is wiped when this is closed.
    """

    def __init__(self, ranges: Ranges, size: int, window: MappedWindow) -> None:
        """Begin at the first byte; use :meth:`nodeseal.loader.SealedModel.as_file`.

        Args:
            ranges: the file; closed with this.
            size: of the file.
            window: memory for small reads.
        """
        super().__init__()
        self._ranges: Final = ranges
        self._size: Final = size
        self._position = 0
        self._window: Final = window

    def readable(self) -> bool:
        """Say that this can be read."""
        return True

    def seekable(self) -> bool:
        """Say that this has random access."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a byte, counted as ``whence`` says; return where that is."""
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
        """Fill ``buffer`` as far as the file goes and return how many bytes that are; on any error they are zeros.

        Raises:
            ProofFailed: as :meth:`nodeseal.loader.SealedModel.read`; so do PolicyRefused and Unavailable.
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
        """Wipe the window and let go of the file."""
        if not self.closed:
            self._window.close()
            self._ranges.close()
        super().close()

    def _fill(self, view: memoryview) -> int:
        """Fill a view from the position on, as far as one read goes; return how far."""
        if len(view) >= len(self._window.memory):
            self._ranges.read_range_into(view, self._position)
            return len(view)
        count = min(len(view), self._slide()) if len(view) else 0
        at = self._position - self._window.start
        view[:count] = self._window.memory[at : at + count]
        return count

    def _slide(self) -> int:
        """Have the window hold the position; return how many bytes it holds from there on."""
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
    """A file in memory that has a path, for programs of this process and those that inherit the descriptor.

    Nobody can change it any more. Its memory goes back when it is closed and nobody has it mapped or open; until then
    the kernel may swap it, so run such programs without swap.

    Attributes:
        descriptor: of the file.
        path: opens it.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor: Final = descriptor
        self.path: Final = f"/proc/self/fd/{descriptor}"
        self._closed = False

    def close(self) -> None:
        """Close the descriptor."""
        if not self._closed:
            self._closed = True
            os.close(self.descriptor)


def memory_file(size: int, fill: Callable[[Targets], None]) -> MemoryFile:
    """Make a file in memory, have ``fill`` fill it, and seal it against changes (memfd_create(2), fcntl(2)).

    Raises:
        Unavailable: the kernel has no memory for it.
        Exception: what ``fill`` raises; nothing is left.
    """
    try:
        descriptor = os.memfd_create("nodeseal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
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
