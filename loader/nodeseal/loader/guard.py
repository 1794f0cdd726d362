"""What stands between a caller and any byte of an open model: the lease, and the first proof that failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Protocol
from weakref import WeakSet

from nodeseal.errors import ProofFailed
from nodeseal.findings import Finding
from nodeseal.loader.keys import Lease


class Closable(Protocol):
    """Something that holds keys or plaintext."""

    def close(self) -> None:
        """Forget both; nothing happens if that is done."""
        ...


class Guard:
    """Lets reads pass while the lease is in force and nothing has failed to verify.

    Attributes:
        lease: of the model.
    """

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self._lock = Lock()
        self._refusal: tuple[Finding, ...] = ()  # not the error: its frames hold the memory that was to be filled
        self._holders: WeakSet[Closable] = WeakSet()

    @contextmanager
    def reading(self, check_open: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Surround a read: whoever could change one file could change others, so the first failure ends all reading.

        Args:
            check_open: raises if keys are wiped for another reason than the end of the lease.

        Raises:
            PolicyRefused: the lease has ended, or ended meanwhile.
            ProofFailed: this read did not verify, or one before.
        """
        self._check(check_open)
        if self._refusal:
            raise ProofFailed(*self._refusal)
        try:
            yield
        except ProofFailed as error:
            self._check(check_open)  # a key that is wiped in the middle of a read looks like tampering
            with self._lock:
                self._refusal = error.findings
            raise
        self.lease.check()  # what verified before the lease ended is not handed out after

    def _check(self, check_open: Callable[[], None]) -> None:
        self.lease.check()
        check_open()

    def hold(self, holder: Closable) -> None:
        """Have ``holder`` closed when the lease ends.

        Raises:
            PolicyRefused: it has ended already; ``holder`` is closed.
        """
        with self._lock:
            self._holders.add(holder)
        try:
            self.lease.check()
        except BaseException:
            holder.close()
            raise

    def watch(self, on_end: Callable[[str], None]) -> None:
        """Close all holders when the lease ends, then call ``on_end`` with the reason; at once if it has ended."""
        self.lease.watch(lambda reason: self._end(reason, on_end))

    def _end(self, reason: str, on_end: Callable[[str], None]) -> None:
        with self._lock:
            holders = list(self._holders)
        for holder in holders:
            holder.close()
        on_end(reason)
