"""Limits: how often one node may ask for costly work, how much runs at once, and whose share of that it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from heapq import heappop, heappush
from itertools import count
from typing import Final

from nodeseal.errors import TooManyRequests

_MAX_BUCKETS: Final = 100_000


class RateLimit:
    """Allows each name so many events a minute, and as many at once. Names without events are forgotten."""

    def __init__(self, per_minute: int, what: str) -> None:
        self._size: Final = float(per_minute)
        self._rate: Final = per_minute / 60
        self._what: Final = what
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, name: str, now: float) -> None:
        """Count one event of ``name`` at the steady time ``now``.

        Raises:
            TooManyRequests: its bucket is empty.
        """
        tokens, since = self._buckets.get(name, (self._size, now))
        tokens = min(self._size, tokens + (now - since) * self._rate)
        if tokens < 1:
            seconds = (1 - tokens) / self._rate
            raise TooManyRequests(f"too many {self._what} of {name}", remedy=f"try again in {seconds:.0f} seconds")
        if len(self._buckets) >= _MAX_BUCKETS:
            self._forget(now)
        self._buckets[name] = (tokens - 1, now)

    def _forget(self, now: float) -> None:
        full = self._size / self._rate
        self._buckets = {name: bucket for name, bucket in self._buckets.items() if now - bucket[1] < full}


class Seats:
    """Room for a few at once. Further callers are refused at once, not kept waiting."""

    def __init__(self, at_once: int, what: str) -> None:
        self._free: Final = asyncio.Semaphore(at_once)
        self._what: Final = what

    def one(self) -> asyncio.Semaphore:
        """Return a free seat, to be held with ``async with``.

        Raises:
            TooManyRequests: all seats are held.
        """
        if self._free.locked():
            raise TooManyRequests(f"too many {self._what} at once", remedy="try again in a minute")
        return self._free


class Seat:
    """A seat that somebody holds; see :class:`SharedSeats`."""

    __slots__ = ("_displaced", "_held", "_task")

    def __init__(self, held: dict[Seat, None], task: asyncio.Task[object]) -> None:
        self._held: Final = held
        self._task: Final = task
        self._displaced = False
        held[self] = None

    @property
    def displaced(self) -> bool:
        """Whether a newcomer has taken the seat, and its holder must leave."""
        return self._displaced

    def settle(self) -> None:
        """Keep the seat from now on, whoever comes: its holder has proved itself."""
        self._held.pop(self, None)

    def take_away(self) -> None:
        """End what holds the seat."""
        self._held.pop(self, None)
        self._displaced = True
        self._task.cancel()


class _Share:
    """Seats of one holder: how many, and those that newcomers may take, oldest first."""

    __slots__ = ("count", "open")

    def __init__(self) -> None:
        self.count = 0
        self.open: dict[Seat, None] = {}


class SharedSeats:
    """Room for a few at once, shared by holders: nobody's many keep another's few out.

    When all seats are held, a newcomer takes the oldest seat of whoever holds most, unless it was settled. A newcomer
    that would then hold as many as they do is refused, or, where ``renews``, takes the oldest of its own.

    Args:
        at_once: seats.
        each: seats that one holder may have.
        what: what is held, for the refused.
        renews: whether a holder's newest takes the place of its oldest, rather than being refused.
    """

    def __init__(self, at_once: int, each: int, what: str, *, renews: bool = False) -> None:
        self._at_once: Final = at_once
        self._each: Final = each
        self._what: Final = what
        self._renews: Final = renews
        self._shares: Final[dict[str, _Share]] = {}
        self._count = 0

    @contextmanager
    def one(self, holder: str) -> Iterator[Seat]:
        """Hold a seat while the block runs, in a task.

        Raises:
            TooManyRequests: no seat is free for this holder, or a newcomer took this one.
        """
        self._make_room(holder)
        share, task = self._shares.setdefault(holder, _Share()), asyncio.current_task()
        assert task is not None  # noqa: S101 - handlers run in tasks
        seat = Seat(share.open, task)
        share.count += 1
        self._count += 1
        try:
            yield seat
        except asyncio.CancelledError:
            if not seat.displaced:
                raise
            task.uncancel()
            raise self._refusal() from None
        finally:
            seat.settle()
            self._leave(holder, share)

    def _leave(self, holder: str, share: _Share) -> None:
        self._count -= 1
        share.count -= 1
        if not share.count and self._shares.get(holder) is share:
            del self._shares[holder]

    def _make_room(self, holder: str) -> None:
        mine = self._shares.get(holder, _Share())
        if mine.count >= self._each:
            self._free(mine if self._renews else _Share())
        elif self._count >= self._at_once:
            least = mine.count + (0 if self._renews else 2)
            larger = [share for share in self._shares.values() if share.count >= least and share.open]
            self._free(max(larger, key=lambda share: share.count, default=_Share()))

    def _free(self, share: _Share) -> None:
        if not share.open:
            raise self._refusal()
        next(iter(share.open)).take_away()

    def _refusal(self) -> TooManyRequests:
        return TooManyRequests(f"too many {self._what} at once", remedy="try again in a minute")


class Turns:
    """Room for a few at once. Next comes the caller whose last turn is longest ago; among equals, the smallest work.

    So a caller with many or large pieces of work delays no first-time caller.
    """

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._waiting: list[tuple[float, int, int, asyncio.Future[None]]] = []
        self._arrivals: Final = count()

    @asynccontextmanager
    async def one(self, last: float, size: int) -> AsyncIterator[None]:
        """Wait for a turn and hold it.

        Args:
            last: when the caller had its last turn; ``-math.inf``: never.
            size: amount of work, in any unit.
        """
        await self._wait(last, size)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, last: float, size: int) -> None:
        if self._free:
            self._free -= 1
            return
        mine = asyncio.get_running_loop().create_future()
        heappush(self._waiting, (last, size, next(self._arrivals), mine))
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():  # the turn came at the same moment
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            *_, following = heappop(self._waiting)
            if not following.done():
                following.set_result(None)
                return
        self._free += 1
