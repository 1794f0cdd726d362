from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from nodeseal.agent.release.leases import Leases
from nodeseal.errors import Unavailable
from nodeseal.ids import LeaseId
from support.leases import ONE, TWO, released


@dataclass(slots=True)
class Bench:
    """Leases with a clock that a test sets."""

    now: float = 100.0
    ends: list[str] = field(default_factory=list)
    leases: Leases = field(init=False)

    def __post_init__(self) -> None:
        self.leases = Leases(lambda: self.now, self.ends.append)

    def holding(self, *lease_ids: LeaseId, until: float = 200.0) -> Leases:
        self.leases.extend_trust(until)
        for lease_id in lease_ids:
            self.leases.add(released(lease_id), self.leases.endings)
        return self.leases


def play(scenario: Callable[[Bench], object]) -> None:
    async def whole() -> None:
        result = scenario(Bench())
        if asyncio.iscoroutine(result):
            await result

    asyncio.run(whole())


def test_without_trust_there_is_no_lease() -> None:
    def scenario(bench: Bench) -> None:
        with pytest.raises(Unavailable):
            bench.leases.add(released(), bench.leases.endings)
        bench.leases.extend_trust(100.0)
        with pytest.raises(Unavailable):
            bench.leases.add(released(), bench.leases.endings)
        assert bench.leases.ids() == ()

    play(scenario)


def test_a_release_that_began_before_trust_ended_is_no_lease_after_trust_came_back() -> None:
    def scenario(bench: Bench) -> None:
        began = bench.holding().endings
        bench.leases.end("untrusted")
        bench.leases.extend_trust(200.0)
        with pytest.raises(Unavailable, match="trust ended during the release"):
            bench.leases.add(released(), began)

    play(scenario)


def test_an_end_forgets_every_key_and_happens_once() -> None:
    def scenario(bench: Bench) -> None:
        leases = bench.holding(ONE, TWO)
        leases.end("untrusted")
        leases.end("untrusted")
        assert (leases.ids(), leases.held(), leases.trusted) == ((), (), False)
        assert bench.ends == ["untrusted"]

    play(scenario)


def test_a_revocation_of_one_lease_leaves_the_other_and_trust() -> None:
    def scenario(bench: Bench) -> None:
        leases = bench.holding(ONE, TWO)
        leases.end("revoked", (ONE,))
        assert (leases.ids(), leases.trusted) == ((TWO,), True)
        assert bench.ends == ["revoked"]

    play(scenario)


def test_a_revocation_of_leases_that_are_not_held_is_no_event() -> None:
    def scenario(bench: Bench) -> None:
        bench.holding(ONE).end("revoked", (TWO,))
        assert bench.leases.ids() == (ONE,)
        assert bench.ends == []

    play(scenario)


def test_a_lease_is_given_back_by_its_last_follower_and_silently() -> None:
    async def scenario(bench: Bench) -> None:
        leases = bench.holding(ONE)
        async with leases.subscribed(ONE):
            async with leases.subscribed(ONE):
                pass
            assert not leases.give_back(ONE)
        assert leases.give_back(ONE)
        assert not leases.give_back(ONE)
        assert bench.ends == []

    play(scenario)


def test_followers_hear_of_renewals_and_of_the_end() -> None:
    async def scenario(bench: Bench) -> None:
        leases = bench.holding(ONE)
        async with leases.subscribed(ONE) as subscription:
            leases.extend_trust(250.0)
            await asyncio.wait_for(subscription.changed(), 1)
            assert (subscription.trusted_until_steady, subscription.revoked) == (250.0, "")
            leases.end("gone")
            await asyncio.wait_for(subscription.changed(), 1)
            assert subscription.revoked == "gone"

    play(scenario)


def test_a_lease_that_ended_cannot_be_followed() -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(Unavailable, match="has ended"):
            async with bench.leases.subscribed(ONE):
                pass

    play(scenario)


def test_the_watch_ends_leases_at_the_deadline_and_not_before() -> None:
    async def scenario(bench: Bench) -> None:
        leases = bench.holding(ONE, until=100.2)
        watch = asyncio.create_task(leases.watch())
        await asyncio.sleep(0.05)
        assert leases.ids() == (ONE,)
        bench.now = 100.3
        await asyncio.sleep(0.3)
        assert leases.ids() == ()
        assert bench.ends == ["the node's trust ran out"]
        watch.cancel()

    play(scenario)


def test_the_watch_follows_a_deadline_that_moves() -> None:
    async def scenario(bench: Bench) -> None:
        leases = bench.holding(ONE, until=100.1)
        watch = asyncio.create_task(leases.watch())
        await asyncio.sleep(0)
        leases.extend_trust(300.0)
        bench.now = 100.5
        await asyncio.sleep(0.2)
        assert leases.ids() == (ONE,)
        watch.cancel()

    play(scenario)


def test_stopping_forgets_leases_without_force() -> None:
    def scenario(bench: Bench) -> None:
        assert bench.holding(ONE, TWO).close("stops") == (ONE, TWO)
        assert bench.leases.ids() == ()
        assert bench.ends == []

    play(scenario)


def test_nothing_secret_is_shown() -> None:
    assert "secret" not in repr(released())
    assert "context" not in repr(released().release_key)
