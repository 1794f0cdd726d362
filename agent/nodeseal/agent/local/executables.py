"""Digests of callers' executables: made in threads of their own, few for each user, and remembered if on a disk.

A caller chooses what its executable is: a gigabyte, a file that changes all the time, or one on a file system that
never answers. So nothing else waits for these threads, and a user whose executables take long delays only that user.
Whoever gives up waiting frees nothing: a thread counts until it is done.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from io import BufferedReader
from pathlib import Path
from typing import Final, NamedTuple

_PROC: Final = Path("/proc")
_MAX_EXECUTABLE: Final = 1 << 30
"""Bytes; larger executables fit no rule."""
_THREADS: Final = 4
_PER_USER: Final = 2
_MAX_KNOWN: Final = 64
_SETTLED_NS: Final = 2_000_000_000
"""A file that changed later than that long ago may change again without another time of change."""


class _Stamp(NamedTuple):
    """What changes when the content of a file on a disk does.

    No program can set ``ctime_ns`` back without setting the clock. Elsewhere it may stay: tmpfs lets memory that is
    mapped be written without a word, and a server of FUSE says what it likes.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, file: BufferedReader) -> _Stamp:
        """Return the stamp of an opened file."""
        seen = os.fstat(file.fileno())
        return cls(seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)

    @property
    def on_disk(self) -> bool:
        """Whether the file is on a block device. Those without have 0 as major number, which others reuse later."""
        return os.major(self.device) != 0


class Executables:
    """Hashes the executables of processes."""

    def __init__(self) -> None:
        self._threads: Final = ThreadPoolExecutor(_THREADS, "executables")
        self._turns: Final[dict[int, asyncio.Semaphore]] = {}
        self._known: Final[OrderedDict[_Stamp, bytes]] = OrderedDict()

    async def digest(self, pid: int, uid: int) -> bytes | None:
        """Return the SHA-256 of the executable of a process, or None if it cannot be read or is too large.

        Args:
            pid: of the process, which must be pinned.
            uid: its user, who waits for earlier ones of the same user.
        """
        turn = self._turns.setdefault(uid, asyncio.Semaphore(_PER_USER))
        await turn.acquire()
        running = asyncio.get_running_loop().run_in_executor(self._threads, self._digest, pid)
        running.add_done_callback(lambda _: turn.release())
        return await asyncio.shield(running)

    def _digest(self, pid: int) -> bytes | None:
        try:
            with (_PROC / str(pid) / "exe").open("rb") as file:
                return self._of_file(file)
        except OSError:
            return None

    def _of_file(self, file: BufferedReader) -> bytes | None:
        stamp, began = _Stamp.of(file), time.time_ns()
        if stamp.size > _MAX_EXECUTABLE:
            return None
        if (known := self._known.get(stamp)) is not None:
            return known
        digest = hashlib.file_digest(file, "sha256").digest()
        if stamp.on_disk and began - stamp.ctime_ns > _SETTLED_NS and _Stamp.of(file) == stamp:
            self._remember(stamp, digest)
        return digest

    def _remember(self, stamp: _Stamp, digest: bytes) -> None:
        self._known[stamp] = digest
        while len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)
