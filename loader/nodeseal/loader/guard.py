"""The guard of an open model: no read passes after the lease ended or a proof failed."""

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
    """An object that holds keys or plaintext."""

    def close(self) -> None:
        """Forget both. A second call does nothing."""
        ...


class Guard:
    """Lets reads pass while the lease is in force and no proof has failed.

    Attributes:
        lease: the model's lease.
    """

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self._lock = Lock()
        self._refusal: tuple[Finding, ...] = ()  # not the error: its frames hold the memory that was to be filled
        self._holders: WeakSet[Closable] = WeakSet()

    @contextmanager
    def reading(self, check_open: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Surround a read. The first failed proof ends all reading: an attacker who changed one file may change others.

        Args:
            check_open: raises an error if keys were wiped without an end of the lease.

        Raises:
            PolicyRefused: the lease has ended, or ends during the read.
            ProofFailed: this read or an earlier one did not verify.
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
        """Close ``holder`` when the lease ends.

        Raises:
            PolicyRefused: the lease has ended already; ``holder`` is closed.
        """
        with self._lock:
            self._holders.add(holder)
        try:
            self.lease.check()
        except BaseException:
            holder.close()
            raise

    def watch(self, on_end: Callable[[str], None]) -> None:
        """When the lease ends, close all holders, then call ``on_end`` with the reason. It may have ended already."""
        self.lease.watch(lambda reason: self._end(reason, on_end))

    def _end(self, reason: str, on_end: Callable[[str], None]) -> None:
        with self._lock:
            holders = list(self._holders)
        for holder in holders:
            holder.close()
        on_end(reason)
