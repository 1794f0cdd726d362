"""The threads that encrypt and decrypt, and their buffers. Both are kept from file to file.

AES-GCM and reads release the GIL, so threads are enough: a segment of 1 MiB costs 13 to 20 µs of Python and 300 µs of
other work, which empties the caches. Numbers are handed out one by one, because threads progress unevenly. Where the
work waits for a disk or a network, as many threads again join, so that some decrypt while others wait.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from threading import Condition, Lock
from typing import Final

from nodeseal.crypto.secret import allocate, wipe
from nodeseal.loader.closing import Closing

MAX_THREADS: Final = 16
"""More threads do not help: memory is then the limit."""

Work = Callable[[int, memoryview], None]
"""Called with a number, and a buffer that no other thread uses during the call."""


class Crew(Closing):
    """Threads that start when they are first needed. Several callers may share a crew. Close it, or use ``with``.

    Attributes:
        threads: number of threads that work at once.
    """

    def __init__(self, threads: int | None = None) -> None:
        """Start nothing yet.

        Args:
            threads: number of threads; None: one per processor of this process, at most :data:`MAX_THREADS`.
        """
        self.threads: Final = threads or min(MAX_THREADS, len(os.sched_getaffinity(0)))
        self._lock = Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._guests: ThreadPoolExecutor | None = None
        self._spare: dict[int, list[memoryview]] = {}
        self._closed = False

    def for_each(
        self, numbers: range, buffer_size: int, work: Work, *, waits: Callable[[], bool] = lambda: False
    ) -> None:
        """Call ``work`` once for each number. Return when all calls have ended.

        Args:
            numbers: handed out in order.
            buffer_size: bytes of private memory for each thread; core dumps leave it out.
            work: the function to call.
            waits: whether the calls wait for a device.

        Raises:
            Exception: the first error of ``work``. The call waits until the other threads stop.
        """
        run, guests = _Run(numbers, work), list[Future[None]]()

        def invite() -> None:
            if len(guests) < self.threads and waits():
                guests.extend(self._start(1, lambda: self._work(run.help, buffer_size), guest=True))

        run.after_each = invite
        try:
            helpers = self._start(min(len(numbers), self.threads), lambda: self._work(run.help, buffer_size))
            if not helpers:
                self._work(run.work_off, buffer_size)
            wait(helpers)
        finally:
            run.end()
            run.after_each = _nothing  # it knows the run: a circle that would keep what the work holds, plaintext too
        for helper in (*helpers, *(guest for guest in guests if not guest.cancel())):
            helper.result()

    def close(self) -> None:
        """Wipe the buffers and end the threads after their work. Later calls use no threads."""
        with self._lock:
            self._closed = True
            pools = [pool for pool in (self._pool, self._guests) if pool is not None]
            self._pool = self._guests = None
            spare, self._spare = self._spare, {}
        for buffers in spare.values():
            for buffer in buffers:
                wipe(buffer)
        for pool in pools:
            pool.shutdown(wait=False)

    def _start(self, count: int, work: Callable[[], None], *, guest: bool = False) -> list[Future[None]]:
        if count <= 1 and not guest:
            return []
        with self._lock:
            if self._closed:
                return []
            return [self._threads(guest=guest).submit(work) for _ in range(count)]

    def _threads(self, *, guest: bool) -> ThreadPoolExecutor:
        """Return the threads for usual work, or those that join where it waits."""
        if guest:
            self._guests = self._guests or ThreadPoolExecutor(self.threads, thread_name_prefix="nodeseal-guest")
            return self._guests
        self._pool = self._pool or ThreadPoolExecutor(self.threads, thread_name_prefix="nodeseal")
        return self._pool

    def _work(self, work: Callable[[memoryview], None], buffer_size: int) -> None:
        with self._buffer(buffer_size) as buffer:
            work(buffer)

    @contextmanager
    def _buffer(self, size: int) -> Iterator[memoryview]:
        with self._lock:
            spare = self._spare.setdefault(size, [])
            buffer = spare.pop() if spare else None
        if buffer is None:
            buffer = allocate(size)
        try:
            yield buffer
        finally:
            with self._lock:
                if not self._closed:
                    self._spare.setdefault(size, []).append(buffer)
            if self._closed:
                wipe(buffer)


def _nothing() -> None:
    """Do nothing."""


class _Run:
    """The remaining work of one call of :meth:`Crew.for_each`."""

    def __init__(self, numbers: range, work: Work) -> None:
        self._left = iter(numbers)
        self._work = work
        self._lock = Lock()
        self._changed = Condition()
        self._helpers = 0
        self._stopped = False
        self.after_each: Callable[[], None] = _nothing

    def help(self, buffer: memoryview) -> None:
        """Work in a thread of the crew. A thread that comes late finds nothing left."""
        with self._changed:
            self._helpers += 1
        try:
            self.work_off(buffer)
        finally:
            with self._changed:
                self._helpers -= 1
                self._changed.notify()

    def work_off(self, buffer: memoryview) -> None:
        try:
            while (number := self._next()) is not None:
                self._work(number, buffer)
                self.after_each()
        except BaseException:
            self._stopped = True
            raise

    def end(self) -> None:
        """Return when no thread helps any more, despite interrupts: threads write to memory that the caller wipes."""
        ended = False
        while not ended:
            with suppress(BaseException), self._changed:
                self._stopped = True
                ended = self._changed.wait_for(lambda: not self._helpers)

    def _next(self) -> int | None:
        with self._lock:
            return None if self._stopped else next(self._left, None)
