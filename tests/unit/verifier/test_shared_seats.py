"""Seats that holders share: nobody's many keep another's few out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from nodeseal.errors import TooManyRequests
from nodeseal.verifier.limits import Seat, SharedSeats


class Room:
    """Seats, and tasks that hold them until they are told to leave."""

    def __init__(self, seats: SharedSeats) -> None:
        self.seats = seats
        self.held: dict[str, asyncio.Task[None]] = {}
        self.seat: dict[str, Seat] = {}

    async def sit(self, name: str, holder: str) -> bool:
        """Let somebody sit down; tell whether there was a seat."""
        self.held[name] = asyncio.create_task(self._hold(name, holder))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return not self.held[name].done()

    async def refused(self, name: str) -> bool:
        """Tell whether somebody had to leave."""
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task = self.held[name]
        return task.done() and isinstance(task.exception(), TooManyRequests)

    async def leave(self, name: str) -> None:
        self.held[name].cancel()
        with suppress(asyncio.CancelledError):
            await self.held[name]
        assert self.held[name].cancelled()

    async def _hold(self, name: str, holder: str) -> None:
        with self.seats.one(holder) as seat:
            self.seat[name] = seat
            await asyncio.Event().wait()


def play(case: Callable[[Room], Awaitable[None]], at_once: int, each: int, *, renews: bool = False) -> None:
    async def scenario() -> None:
        room = Room(SharedSeats(at_once, each, "guests", renews=renews))
        try:
            await case(room)
        finally:
            for task in room.held.values():
                task.cancel()
            await asyncio.gather(*room.held.values(), return_exceptions=True)
        assert (room.seats._count, room.seats._shares) == (0, {})

    asyncio.run(scenario())


def test_one_holder_has_so_many_seats_and_others_have_theirs() -> None:
    async def case(room: Room) -> None:
        assert [await room.sit(name, "a") for name in ("a1", "a2", "a3")] == [True, True, False]
        assert await room.sit("b1", "b")
        await room.leave("a1")
        assert await room.sit("a4", "a")

    play(case, 10, 2)


def test_a_newcomer_takes_the_oldest_seat_of_whoever_holds_most() -> None:
    async def case(room: Room) -> None:
        for name in ("a1", "a2", "b1", "b2", "b3", "b4"):
            assert await room.sit(name, name[0])
        assert await room.sit("c1", "c")
        assert await room.refused("b1")
        assert await room.sit("c2", "c")
        assert await room.refused("b2") or await room.refused("a1")

    play(case, 6, 6)


def test_a_newcomer_that_would_hold_as_many_as_others_is_refused() -> None:
    async def case(room: Room) -> None:
        for name in ("a1", "a2", "b1", "b2"):
            assert await room.sit(name, name[0])
        assert not await room.sit("a3", "a")
        assert await room.sit("c1", "c")
        assert not await room.sit("c2", "c")

    play(case, 4, 4)


def test_where_seats_are_renewed_the_newest_takes_the_place_of_the_oldest() -> None:
    async def case(room: Room) -> None:
        for name in ("a1", "a2", "a3"):
            assert await room.sit(name, "a")
        assert await room.refused("a1")
        assert await room.sit("b1", "b")
        assert await room.refused("a2")
        assert await room.sit("a4", "a")
        assert not await room.refused("b1") or not await room.refused("a3")

    play(case, 2, 2, renews=True)


def test_a_settled_seat_is_kept_and_still_counts() -> None:
    async def case(room: Room) -> None:
        for name in ("a1", "a2"):
            assert await room.sit(name, "a")
            room.seat[name].settle()
        assert not await room.sit("b1", "b")
        await room.leave("a1")
        assert await room.sit("b2", "b")

    play(case, 2, 2)


def test_whoever_is_cancelled_by_others_hears_nothing_of_seats() -> None:
    async def case(room: Room) -> None:
        assert await room.sit("a1", "a")
        await room.leave("a1")

    play(case, 1, 1)


@pytest.mark.parametrize("renews", [False, True])
def test_many_holders_with_one_seat_each_keep_the_order(renews: bool) -> None:  # noqa: FBT001 - a case
    async def case(room: Room) -> None:
        for name in ("a1", "b1", "c1"):
            assert await room.sit(name, name[0])
        assert await room.sit("d1", "d") is renews
        assert await room.refused("a1") is renews

    play(case, 3, 3, renews=renews)
