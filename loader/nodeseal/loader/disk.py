"""Files of a local disk, read as fast as the disk likes, with a bounded number of open files.

What the page cache holds is copied from there. For the rest there are two ways: past the cache (open(2), ``O_DIRECT``),
which spares a copy, or through it with the kernel reading ahead (posix_fadvise(2)). Which one is faster differs from
disk to disk, so both are tried on the first cold reads of a device, and the faster one is used from then on.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Final

from nodeseal.errors import Unavailable
from nodeseal.files import naming, open_regular, read_exactly

MAX_OPEN: Final = 100
"""Descriptors that a folder keeps open, however many files it has. 256 is a small limit for all of a process."""
_PAGE: Final = 4096
_AHEAD: Final = 16 << 20
"""Bytes that the kernel reads in advance."""
_LEAST_AHEAD: Final = 1 << 20
_STRETCH: Final = 32 << 20
"""Bytes after which a way to read is judged."""
_TRIALS: Final = (False, True, True, False)
"""Ways of the first stretches, twice each: whether past the cache."""
_WORTH: Final = 1.1
"""Gain that is worth leaving nothing in the cache for the next reader."""
_PAUSE_SECONDS: Final = 1.0
_NO_NOWAIT: Final = frozenset((errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS))


class Pace:
    """Chooses between the two ways to read from a device, by the bytes per second that they bring. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Try both ways first.

        Args:
            clock: seconds; only differences count.
        """
        self._clock: Final = clock
        self._lock: Final = Lock()
        self._rates: Final[list[float]] = []
        self._since = self._last = -_PAUSE_SECONDS
        self._bytes = 0
        self._direct: bool | None = None

    def past_cache(self, size: int) -> bool:
        """Tell whether the next read, of ``size`` bytes, goes past the cache."""
        if self._direct is not None:
            return self._direct
        with self._lock:
            now = self._clock()
            if now - self._last > _PAUSE_SECONDS:  # nobody was reading: begin this stretch again
                self._since, self._bytes = now, 0
            elif self._bytes >= _STRETCH and now > self._since:
                self._rates.append(self._bytes / (now - self._since))
                self._since, self._bytes = now, 0
            self._last = now
            self._bytes += size
            if len(self._rates) < len(_TRIALS):
                return _TRIALS[len(self._rates)]
            direct = sum(rate for rate, way in zip(self._rates, _TRIALS, strict=True) if way)
            self._direct = direct > _WORTH * (sum(self._rates) - direct)
            return self._direct


_paces: Final[dict[int, Pace]] = {}


class Descriptors:
    """Descriptors of files, at most :data:`MAX_OPEN`; files that were not used for the longest time are closed."""

    def __init__(self, limit: int = MAX_OPEN) -> None:
        self._limit: Final = limit
        self._lock: Final = Lock()
        self._open: Final[OrderedDict[tuple[Path, bool], _Descriptor]] = OrderedDict()

    def take(self, key: tuple[Path, bool]) -> _Descriptor:
        """Return an open descriptor of a path, which stays open until it is given back.

        Raises:
            Unavailable: the file cannot be opened.
            MalformedInput: it is not a regular file.
        """
        with self._lock:
            found = self._open.get(key)
            if found is None:
                self._make_room()
                found = self._open[key] = _Descriptor(*key)
            self._open.move_to_end(key)
            found.users += 1
            return found

    def give_back(self, descriptor: _Descriptor) -> None:
        """End a use."""
        with self._lock:
            descriptor.users -= 1
            if descriptor.forgotten and not descriptor.users:
                os.close(descriptor.number)

    def forget(self, path: Path) -> None:
        """Close the descriptors of a path, now or when their last use ends."""
        with self._lock:
            for key in ((path, False), (path, True)):
                self._drop(key)

    def _make_room(self) -> None:
        idle = [key for key, descriptor in self._open.items() if not descriptor.users]
        for key in idle[: max(0, len(self._open) - self._limit + 1)]:
            self._drop(key)

    def _drop(self, key: tuple[Path, bool]) -> None:
        descriptor = self._open.pop(key, None)
        if descriptor is not None:
            descriptor.forgotten = True
            if not descriptor.users:
                os.close(descriptor.number)


class _Descriptor:
    """An open file."""

    __slots__ = ("forgotten", "number", "users")

    def __init__(self, path: Path, past_cache: bool) -> None:  # noqa: FBT001 - a key of the pool
        self.number: Final = _open_past_cache(path) if past_cache else open_regular(path)
        self.users = 0
        self.forgotten = False


def _open_past_cache(path: Path) -> int:
    with naming(path):
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_DIRECT)


class DiskFile:
    """One stored file of a local folder. Several threads may read at once.

    Attributes:
        size: bytes of the file when it was opened.
        waits: whether reads have waited for the disk, so that more threads help.
    """

    def __init__(self, path: Path, descriptors: Descriptors) -> None:
        """Open the file.

        Raises:
            Unavailable: the file is missing or cannot be read.
            MalformedInput: it is not a regular file.
        """
        self._path: Final = path
        self._descriptors: Final = descriptors
        descriptor = descriptors.take((path, False))
        status = os.fstat(descriptor.number)
        descriptors.give_back(descriptor)
        self.size: Final = status.st_size
        self.waits = False
        self._pace: Final = _paces.setdefault(status.st_dev, Pace())
        self._nowait, self._direct = True, True
        self._advised = 0
        self._closed = False

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill ``buffer`` from ``offset``.

        Raises:
            Unavailable: the file is too short, has changed, or cannot be read.
        """
        if self._closed:
            raise Unavailable(f"{self._path}: closed")
        descriptor = self._descriptors.take((self._path, False))
        try:
            done = self._cached(descriptor.number, buffer, offset)
            if done < len(buffer) and not self._past_cache(buffer[done:], offset + done):
                self._advise(descriptor.number, offset + len(buffer))
                read_exactly(descriptor.number, buffer[done:], offset + done, self._path)
        finally:
            self._descriptors.give_back(descriptor)

    def close(self) -> None:
        """Release the file."""
        self._closed = True
        self._descriptors.forget(self._path)

    def _cached(self, number: int, buffer: memoryview, offset: int) -> int:
        """Copy what the page cache holds (preadv2(2), ``RWF_NOWAIT``); return the number of bytes."""
        if not self._nowait:
            return 0
        try:
            done = os.preadv(number, [buffer], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            done = 0
        except OSError as error:
            self._nowait = error.errno not in _NO_NOWAIT
            return 0
        if done < len(buffer) and offset + done < self.size:
            self.waits = True
        return done

    def _past_cache(self, buffer: memoryview, offset: int) -> bool:
        """Read past the page cache, if that is possible and faster; tell whether all was read."""
        whole = len(buffer) >= _LEAST_AHEAD // 4 and not (len(buffer) | offset | _address(buffer)) % _PAGE
        if not whole or not self.waits or not self._pace.past_cache(len(buffer)) or not self._direct:
            return False
        try:
            descriptor = self._descriptors.take((self._path, True))
        except Unavailable:  # not every file system can
            self._direct = False
            return False
        try:
            return os.preadv(descriptor.number, [buffer], offset) == len(buffer)
        except OSError:  # what is wrong with the file shows when it is read the usual way
            self._direct = False
            return False
        finally:
            self._descriptors.give_back(descriptor)

    def _advise(self, number: int, offset: int) -> None:
        """Let the kernel read ahead of ``offset``."""
        start, stop = max(self._advised, offset), min(self.size, offset + _AHEAD)
        if self.waits and (stop - start >= _LEAST_AHEAD or stop == self.size > start):
            self._advised = stop
            with suppress(OSError):  # no harm done
                os.posix_fadvise(number, start, stop - start, os.POSIX_FADV_WILLNEED)


def _address(buffer: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
