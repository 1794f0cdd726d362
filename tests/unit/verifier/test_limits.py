"""Token buckets, and slots for what is large."""

from __future__ import annotations

import asyncio

import pytest

from nodeseal.errors import TooManyRequests
from nodeseal.verifier.limits import RateLimit, Slots


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
        slots = Slots(2, "goldens")
        async with slots.one(), slots.one():
            with pytest.raises(TooManyRequests, match="too many goldens at once"):
                slots.one()
        async with slots.one():
            pass

    asyncio.run(case())
