"""Limits: how often one node may ask for costly work, and how much large work runs at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
