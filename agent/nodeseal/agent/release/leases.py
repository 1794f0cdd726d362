"""Leases: which released keys this node holds, until when, and what happens when they end (DESIGN §7).

A lease never holds a data key: it holds what the verifier wrapped and the release key that the TPM opens it with.
All leases run until the node's trust does, by the monotonic clock, and end there even when the verifier is gone.
An end by force forgets the release keys at once, tells every loader, extends the cap PCR and runs the stop actions,
once for all leases that end together. A lease that its loaders gave back ends silently.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from nodeseal.agent.tpm.connection import SavedKey
from nodeseal.crypto.hpke import Wrapped
from nodeseal.errors import Unavailable
from nodeseal.ids import Digest, KeyId, LeaseId
from nodeseal.tpm.pcr import PcrSelection

_LONGEST_SLEEP_SECONDS: Final = 1.0
"""The event loop's clock stops while the machine sleeps, and ours does not. So ours is read at least this often."""
_log = structlog.get_logger("nodeseal.agent.leases")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldLease:
    """A lease as the node holds it. The TPM opens it while the selected PCRs keep their values.

    Attributes:
        lease_id: the lease.
        model_digest: the model whose data key is inside.
        key_id: the model key that the verifier opened.
        context: the release's context as received: HPKE's info.
        sealed: the data key, wrapped to the release key.
        release_key: the TPM's key, saved.
        release_point: its public point, uncompressed.
        policy_selection: the PCRs of its policy.
    """

    lease_id: LeaseId
    model_digest: Digest
    key_id: KeyId
    context: bytes = field(repr=False)
    sealed: Wrapped = field(repr=False)
    release_key: SavedKey = field(repr=False)
    release_point: bytes = field(repr=False)
    policy_selection: PcrSelection


class Subscription:
    """News of a lease that one loader has yet to hear: the newest end of trust, and a revocation."""

    def __init__(self, trusted_until_steady: float) -> None:
        self._changed: Final = asyncio.Event()
        self.trusted_until_steady = trusted_until_steady
        self.revoked = ""

    def renew(self, trusted_until_steady: float) -> None:
        """Tell the loader that the lease now runs until then, on the steady clock."""
        self.trusted_until_steady = trusted_until_steady
        self._changed.set()

    def revoke(self, reason: str) -> None:
        """Tell the loader that the lease ended."""
        self.revoked = reason
        self._changed.set()

    async def changed(self) -> None:
        """Wait until there is something new; several changes since the last call count as one."""
        await self._changed.wait()
        self._changed.clear()


@dataclass(slots=True)
class _Lease:
    released: HeldLease
    subscriptions: set[Subscription] = field(default_factory=set)


class Leases:
    """All leases of this node. Use it from one event loop; only :meth:`watch` waits.

    Args:
        clock: monotonic seconds.
        on_end: called once for each event that ends leases by force, after their keys are forgotten.
    """

    def __init__(self, clock: Callable[[], float], on_end: Callable[[str], None]) -> None:
        self._clock: Final = clock
        self._on_end: Final = on_end
        self._leases: dict[LeaseId, _Lease] = {}
        self._moved: Final = asyncio.Event()
        self.trusted_until_steady = 0.0
        self.endings = 0
        """Events so far that ended trust; a release that began before one must not become a lease after it."""

    @property
    def trusted(self) -> bool:
        """Whether the node's trust has not run out."""
        return self._clock() < self.trusted_until_steady

    def ids(self) -> tuple[LeaseId, ...]:
        """Return the ids of all leases, sorted."""
        return tuple(sorted(self._leases))

    def held(self) -> tuple[HeldLease, ...]:
        """Return what all leases hold."""
        return tuple(lease.released for lease in self._leases.values())

    def find(self, model_digest: Digest) -> HeldLease | None:
        """Return what the lease for a model holds, if there is one."""
        return next((r for r in self.held() if r.model_digest == model_digest), None)

    def extend_trust(self, until: float) -> None:
        """Let the node's trust, and so every lease, run until the steady time ``until``."""
        self.trusted_until_steady = until
        self._moved.set()
        for lease in self._leases.values():
            for subscription in lease.subscriptions:
                subscription.renew(until)

    def add(self, released: HeldLease, endings_at_start: int) -> None:
        """Begin a lease.

        Args:
            released: what the verifier released.
            endings_at_start: :attr:`endings` when the release began.

        Raises:
            Unavailable: trust ended while the release was under way.
        """
        if self.endings != endings_at_start or not self.trusted:
            raise Unavailable("the node's trust ended during the release", remedy="ask again once the node is trusted")
        self._leases[released.lease_id] = _Lease(released)

    @asynccontextmanager
    async def subscribed(self, lease_id: LeaseId) -> AsyncIterator[Subscription]:
        """Follow a lease for as long as the block runs.

        Raises:
            Unavailable: the lease has ended.
        """
        lease = self._leases.get(lease_id)
        if lease is None:
            raise Unavailable("the lease has ended", remedy="ask again")
        subscription = Subscription(self.trusted_until_steady)
        lease.subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            lease.subscriptions.discard(subscription)

    def give_back(self, lease_id: LeaseId) -> bool:
        """Forget a lease that no loader follows any more; tell whether it was the last loader's."""
        lease = self._leases.get(lease_id)
        if lease is None or lease.subscriptions:
            return False
        del self._leases[lease_id]
        return True

    def end(self, reason: str, lease_ids: Iterable[LeaseId] | None = None) -> None:
        """End leases by force: all of them and the node's trust, or those named.

        Args:
            reason: for people and logs.
            lease_ids: the leases, None for all; ids that are not held are ignored.
        """
        self.endings += 1
        if lease_ids is None:
            self.trusted_until_steady = 0.0
        named = list(self._leases if lease_ids is None else lease_ids)
        ended = [lease for lease_id in named if (lease := self._leases.pop(lease_id, None))]
        for lease in ended:
            for subscription in lease.subscriptions:
                subscription.revoke(reason)
        if ended:
            ids = [lease.released.lease_id for lease in ended]
            _log.warning("leases ended", reason=reason, leases=ids)
            self._on_end(reason)

    def close(self, reason: str) -> tuple[LeaseId, ...]:
        """Forget all leases without force, because the agent stops, and return their ids."""
        ids = self.ids()
        for lease in self._leases.values():
            for subscription in lease.subscriptions:
                subscription.revoke(reason)
        self._leases.clear()
        return ids

    async def watch(self) -> None:
        """End all leases when trust runs out; runs until cancelled."""
        while True:
            self._moved.clear()
            left = self.trusted_until_steady - self._clock()
            if self._leases and left <= 0:
                self.end("the node's trust ran out")
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, _LONGEST_SLEEP_SECONDS) if left > 0 else None):
                    await self._moved.wait()
