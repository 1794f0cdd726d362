"""Leases: which released keys this node holds, until when, and what happens when they end (DESIGN §7).

A lease never holds a data key: it holds what the verifier wrapped and the release key that the TPM opens it with.
All leases run until the node's trust does, by the monotonic clock, and end there even when the verifier is gone. Some
go on for a while when it falls silent, if their key says so; the node is not trusted then.

An end by force has a cause. *Distrust* ends all leases, *silence* those whose time has passed, *revocation* those that
are named. The release keys of ended leases are wiped first, then their loaders are told, then the lease epoch is ended
if no lease is left, and the stop actions run, once for all leases that end together. Log lines come last. A lease that
its loaders gave back ends silently.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from nodeseal.agent.tpm.connection import SavedKey
from nodeseal.causes import EndCause
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
        release_key: the TPM's key, saved; wiped when the lease ends.
        release_point: its public point, uncompressed.
        policy_selection: the PCRs of its policy.
        silence_seconds: how long the lease outlives the node's trust while the verifier is silent.
    """

    lease_id: LeaseId
    model_digest: Digest
    key_id: KeyId
    context: bytes = field(repr=False)
    sealed: Wrapped = field(repr=False)
    release_key: SavedKey = field(repr=False)
    release_point: bytes = field(repr=False)
    policy_selection: PcrSelection
    silence_seconds: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ForcedEnd:
    """Leases that ended together by force.

    Attributes:
        cause: why.
        reason: for people.
        lease_ids: the leases; may be empty if only the epoch ends.
        ends_epoch: whether release keys were made in the lease epoch and no lease is left.
    """

    cause: EndCause
    reason: str
    lease_ids: tuple[LeaseId, ...]
    ends_epoch: bool


class Subscription:
    """News of a lease that one loader has yet to hear: its newest end, and why it ended by force.

    Attributes:
        expires_steady: when the lease ends, on the steady clock.
        revoked: the reason of its end; empty while it runs.
        cause: the cause of its end; None while it runs, and if the agent itself stops.
    """

    def __init__(self, expires_steady: float) -> None:
        self._changed: Final = asyncio.Event()
        self.expires_steady = expires_steady
        self.revoked = ""
        self.cause: EndCause | None = None

    def renew(self, expires_steady: float) -> None:
        """Tell the loader that the lease now runs until then, on the steady clock."""
        self.expires_steady = expires_steady
        self._changed.set()

    def revoke(self, reason: str, cause: EndCause | None) -> None:
        """Tell the loader that the lease ended."""
        self.revoked, self.cause = reason, cause
        self._changed.set()

    async def changed(self) -> None:
        """Wait until there is something new; several changes since the last call count as one."""
        await self._changed.wait()
        self._changed.clear()


@dataclass(slots=True)
class _Lease:
    released: HeldLease
    subscriptions: set[Subscription] = field(default_factory=set)

    def forget(self, reason: str, cause: EndCause | None) -> None:
        """Wipe the release key, then tell the loaders."""
        self.released.release_key.wipe()
        for subscription in self.subscriptions:
            subscription.revoke(reason, cause)


class Leases:
    """All leases of this node. Use it from one event loop; only :meth:`watch` waits.

    Args:
        clock: monotonic seconds.
        on_end: called once for each event that ends leases by force, after their keys are wiped.
    """

    def __init__(self, clock: Callable[[], float], on_end: Callable[[ForcedEnd], None]) -> None:
        self._clock: Final = clock
        self._on_end: Final = on_end
        self._leases: dict[LeaseId, _Lease] = {}
        self._moved: Final = asyncio.Event()
        self._epoch_used = False
        self._owed: ForcedEnd | None = None
        self.trusted_until_steady = 0.0
        self.endings = 0
        """Events that ended trust or leases; a release that began before one must not become a lease after it."""

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

    def expires_steady(self, released: HeldLease) -> float:
        """Return when a lease ends if nothing more is heard, on the steady clock."""
        return self.trusted_until_steady + released.silence_seconds

    def use_epoch(self) -> None:
        """Note that a release key is made in this lease epoch, which must therefore end with the node's trust."""
        self._epoch_used = True
        self._moved.set()

    def extend_trust(self, until: float) -> None:
        """Let the node's trust, and so every lease, run until the steady time ``until``."""
        if not self.trusted:
            self.endings += 1
        self.trusted_until_steady = until
        self._moved.set()
        for lease in self._leases.values():
            for subscription in lease.subscriptions:
                subscription.renew(self.expires_steady(lease.released))

    def add(self, released: HeldLease, endings_at_start: int) -> None:
        """Begin a lease.

        Args:
            released: what the verifier released.
            endings_at_start: :attr:`endings` when the release began.

        Raises:
            Unavailable: trust or leases ended while the release was under way.
        """
        if self.endings != endings_at_start or not self.trusted:
            raise Unavailable("the node's trust ended during the release", remedy="ask again once the node is trusted")
        self._leases[released.lease_id] = _Lease(released)
        self._moved.set()

    @asynccontextmanager
    async def subscribed(self, lease_id: LeaseId) -> AsyncIterator[Subscription]:
        """Follow a lease for as long as the block runs.

        Raises:
            Unavailable: the lease has ended.
        """
        lease = self._leases.get(lease_id)
        if lease is None:
            raise Unavailable("the lease has ended", remedy="ask again")
        subscription = Subscription(self.expires_steady(lease.released))
        lease.subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            lease.subscriptions.discard(subscription)

    def give_back(self, lease_id: LeaseId) -> bool:
        """Forget a lease that no loader follows any more; tell whether it was the last loader's.

        If it is the last lease of an epoch in which others ended by force, the epoch ends now.
        """
        lease = self._leases.get(lease_id)
        if lease is None or lease.subscriptions:
            return False
        self._leases.pop(lease_id).released.release_key.wipe()
        if self._owed is not None and not self._leases:
            self._end(self._owed.cause, self._owed.reason, (), trust_over=True)
        return True

    def end(self, cause: EndCause, reason: str, lease_ids: Iterable[LeaseId] | None = None) -> None:
        """End leases by force: all of them and the node's trust, or those named.

        Args:
            cause: why; distrust of the node ends all leases, whatever is named.
            reason: for people and logs.
            lease_ids: the leases, None for all; ids that are not held are ignored.
        """
        every = lease_ids is None or cause is EndCause.DISTRUST
        if every:
            self.trusted_until_steady = 0.0
        self._end(cause, reason, self.ids() if every or lease_ids is None else tuple(lease_ids), trust_over=every)

    def fall_silent(self, reason: str) -> None:
        """End the node's trust without distrust: leases end at once, or later if their key says so."""
        self.trusted_until_steady = min(self.trusted_until_steady, self._clock())
        self._lapse(reason)

    def close(self, reason: str) -> tuple[LeaseId, ...]:
        """Forget all leases without force, because the agent stops, and return their ids."""
        self.endings += 1
        ids = self.ids()
        for lease in self._leases.values():
            lease.forget(reason, None)
        self._leases.clear()
        return ids

    async def watch(self, alive: Callable[[], None]) -> None:
        """End leases, and the epoch, when their time has passed; runs until cancelled.

        Args:
            alive: called each time that what had to end has ended; at least once a second.
        """
        while True:
            self._moved.clear()
            if not self.trusted:
                self._lapse("the node's trust ran out")
            alive()
            left = self._next_end() - self._clock()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, _LONGEST_SLEEP_SECONDS) if left > 0 else _LONGEST_SLEEP_SECONDS):
                    await self._moved.wait()

    def _lapse(self, reason: str) -> None:
        """End the leases whose time has passed, after trust has run out, and the epoch with the last of them."""
        now = self._clock()
        over = tuple(each.lease_id for each in self.held() if self.expires_steady(each) <= now)
        if over or (self._epoch_used and not self._leases):
            self._end(EndCause.SILENCE, reason, over, trust_over=True)

    def _next_end(self) -> float:
        """Return the next moment at which trust or a lease may end; one that has passed: there is none."""
        ends = (self.trusted_until_steady, *map(self.expires_steady, self.held()))
        return min((end for end in ends if end > self._clock()), default=0.0)

    def _end(self, cause: EndCause, reason: str, lease_ids: tuple[LeaseId, ...], *, trust_over: bool) -> None:
        self.endings += 1
        ended = [lease for lease_id in lease_ids if (lease := self._leases.pop(lease_id, None))]
        for lease in ended:
            lease.forget(reason, cause)
        ends_epoch = self._epoch_used and not self._leases and (bool(ended) or trust_over)
        if not ended and not ends_epoch:
            return
        if ends_epoch:
            self._epoch_used = False
        ids = tuple(lease.released.lease_id for lease in ended)
        end = ForcedEnd(cause=cause, reason=reason, lease_ids=ids, ends_epoch=ends_epoch)
        self._owed = None if ends_epoch else end
        self._on_end(end)
        if ids:
            _log.warning("leases ended", cause=cause.value, reason=reason, leases=ids)
