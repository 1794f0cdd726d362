"""Token buckets, and slots for what is large."""

from __future__ import annotations

import asyncio
import math

import pytest

from nodeseal.errors import TooManyRequests
from nodeseal.verifier.limits import RateLimit, Seats, Turns


def test_a_name_may_burst_then_waits_while_others_go_on() -> None:
    limit = RateLimit(3, "releases")
    for _ in range(3):
        limit.take("a", 0.0)
    with pytest.raises(TooManyRequests, match="too many releases of a"):
        limit.take("a", 0.0)
    limit.take("b", 0.0)


def test_tokens_come_back_with_time_and_no_more_than_the_bucket_holds() -> None:
    limit = RateLimit(60, "rounds")
    for _ in range(60):
        limit.take("a", 0.0)
    limit.take("a", 1.0)
    with pytest.raises(TooManyRequests):
        limit.take("a", 1.0)
    for _ in range(60):
        limit.take("a", 10_000.0)
    with pytest.raises(TooManyRequests):
        limit.take("a", 10_000.0)


def test_many_names_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodeseal.verifier.limits._MAX_BUCKETS", 10)
    limit = RateLimit(60, "rounds")
    for number in range(1000):
        limit.take(str(number), number * 100.0)
    assert len(limit._buckets) <= 10


def test_whoever_comes_when_every_slot_is_held_is_refused_instead_of_kept_waiting() -> None:
    async def case() -> None:
        slots = Seats(2, "goldens")
        async with slots.one(), slots.one():
            with pytest.raises(TooManyRequests, match="too many goldens at once"):
                slots.one()
        async with slots.one():
            pass

    asyncio.run(case())


async def _taken(turns: Turns, last: float, name: str, order: list[str], size: int = 1) -> None:
    async with turns.one(last, size):
        order.append(name)
        await asyncio.sleep(0)


def test_of_those_who_wait_whoever_had_no_turn_for_longest_comes_next() -> None:
    async def case() -> None:
        turns, order = Turns(1), list[str]()
        waiting = {"first": 9.0, "late": 8.0, "rested": 2.0, "new": -math.inf, "newer": -math.inf}
        await asyncio.gather(*(_taken(turns, last, name, order) for name, last in waiting.items()))
        assert order == ["first", "new", "newer", "rested", "late"]
        await _taken(turns, 0.0, "again", order)
        assert order[-1] == "again"

    asyncio.run(case())


def test_so_many_have_a_turn_at_once_and_no_more() -> None:
    async def case() -> None:
        turns, order = Turns(2), list[str]()
        async with turns.one(0.0, 1), turns.one(0.0, 1):
            third = asyncio.create_task(_taken(turns, 0.0, "third", order))
            await asyncio.sleep(0.01)
            assert order == []
        await third

    asyncio.run(case())


def test_among_equals_whoever_wants_least_comes_next_then_whoever_came_first() -> None:
    async def case() -> None:
        turns, order = Turns(1), list[str]()
        waiting = [("running", 9), ("long", 5), ("short", 2), ("shorter", 1), ("as short", 2)]
        await asyncio.gather(*(_taken(turns, 0.0, name, order, size) for name, size in waiting))
        assert order == ["running", "shorter", "short", "as short", "long"]

    asyncio.run(case())


@pytest.mark.parametrize("given", [False, True], ids=["while it waits", "at the moment of its turn"])
def test_whoever_goes_away_takes_no_turn_with_it(given: bool) -> None:  # noqa: FBT001 - a case
    async def case() -> None:
        turns, order = Turns(1), list[str]()
        async with turns.one(0.0, 1):
            gone = asyncio.create_task(_taken(turns, 0.0, "gone", order))
            other = asyncio.create_task(_taken(turns, 1.0, "other", order))
            await asyncio.sleep(0)
            if not given:
                gone.cancel()
        if given:
            gone.cancel()
        await asyncio.wait_for(other, 5)
        assert order == ["other"]
        assert gone.cancelled()
        await asyncio.wait_for(_taken(turns, 0.0, "again", order), 5)

    asyncio.run(case())
