from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import pytest

from nodeseal.agent.release import leases as leases_module
from nodeseal.agent.release.leases import ForcedEnd, HeldLease, Leases
from nodeseal.causes import EndCause
from nodeseal.errors import Unavailable
from nodeseal.ids import Digest, LeaseId
from support.leases import ONE, TWO, released


@dataclass(slots=True)
class Bench:
    """Leases with a clock that a test sets."""

    now: float = 100.0
    ends: list[ForcedEnd] = field(default_factory=list)
    leases: Leases = field(init=False)

    def __post_init__(self) -> None:
        self.leases = Leases(lambda: self.now, self.ends.append)

    def holding(self, *lease_ids: LeaseId, until: float = 200.0, silence_seconds: int = 0) -> Leases:
        self.leases.extend_trust(until)
        for lease_id in lease_ids:
            self.leases.use_epoch()
            self.leases.add(released(lease_id, silence_seconds=silence_seconds), self.leases.endings)
        return self.leases

    def ended(self) -> list[tuple[EndCause, tuple[LeaseId, ...], bool]]:
        """Cause, leases and end of the epoch of each event."""
        return [(end.cause, end.lease_ids, end.ends_epoch) for end in self.ends]


def forgotten(held: Iterable[HeldLease]) -> bool:
    """Tell whether the release keys of these leases are wiped, to the last byte."""
    contexts = [lease.release_key.context for lease in held]
    return all(context is not None and context.wiped and not any(context._memory) for context in contexts)


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
        bench.leases.end(EndCause.DISTRUST, "untrusted")
        bench.leases.extend_trust(200.0)
        with pytest.raises(Unavailable, match="trust ended during the release"):
            bench.leases.add(released(), began)

    play(scenario)


def test_a_release_that_trust_did_not_outlive_is_no_lease_although_nobody_ended_anything() -> None:
    def scenario(bench: Bench) -> None:
        began = bench.holding(until=110.0).endings
        bench.now = 120.0
        bench.leases.extend_trust(200.0)
        with pytest.raises(Unavailable, match="trust ended during the release"):
            bench.leases.add(released(), began)

    play(scenario)


def test_a_release_during_which_leases_were_revoked_is_no_lease_since_its_epoch_may_be_over() -> None:
    def scenario(bench: Bench) -> None:
        leases = bench.holding(ONE)
        began = leases.endings
        leases.end(EndCause.REVOCATION, "revoked", (ONE,))
        with pytest.raises(Unavailable, match="ended during the release"):
            leases.add(released(TWO), began)

    play(scenario)


def test_distrust_ends_all_leases_and_the_epoch_once() -> None:
    def scenario(bench: Bench) -> None:
        leases = bench.holding(ONE, TWO)
        held = leases.held()
        leases.end(EndCause.DISTRUST, "untrusted")
        leases.end(EndCause.DISTRUST, "untrusted")
        assert (leases.ids(), leases.held(), leases.trusted) == ((), (), False)
        assert bench.ended() == [(EndCause.DISTRUST, (ONE, TWO), True)]
        assert forgotten(held)

    play(scenario)


def test_distrust_ends_all_leases_although_one_is_named() -> None:
    def scenario(bench: Bench) -> None:
        leases = bench.holding(ONE, TWO)
        leases.end(EndCause.DISTRUST, "untrusted", (ONE,))
        assert (leases.ids(), leases.trusted) == ((), False)

    play(scenario)


def test_distrust_ends_an_epoch_in_which_a_key_was_made_for_a_lease_that_is_over() -> None:
    def scenario(bench: Bench) -> None:
        leases = bench.holding(ONE)
        leases.give_back(ONE)
        leases.end(EndCause.DISTRUST, "untrusted")
        assert bench.ended() == [(EndCause.DISTRUST, (), True)]

    play(scenario)


def test_distrust_of_a_node_that_made_no_key_ends_no_epoch() -> None:
    def scenario(bench: Bench) -> None:
        bench.holding().end(EndCause.DISTRUST, "untrusted")
        assert bench.ends == []

    play(scenario)


def test_a_revocation_of_one_lease_leaves_the_other_and_trust_and_the_epoch() -> None:
    def scenario(bench: Bench) -> None:
        leases = bench.holding(ONE, TWO)
        one, two = leases.held()
        leases.end(EndCause.REVOCATION, "revoked", (ONE,))
        assert (leases.ids(), leases.trusted) == ((TWO,), True)
        assert (forgotten([one]), forgotten([two])) == (True, False)
        leases.end(EndCause.REVOCATION, "revoked", (TWO,))
        assert forgotten([two])
        assert bench.ended() == [(EndCause.REVOCATION, (ONE,), False), (EndCause.REVOCATION, (TWO,), True)]

    play(scenario)


def test_a_revocation_without_names_is_of_all_leases() -> None:
    def scenario(bench: Bench) -> None:
        leases = bench.holding(ONE, TWO)
        leases.end(EndCause.REVOCATION, "revoked")
        assert bench.ended() == [(EndCause.REVOCATION, (ONE, TWO), True)]
        assert not leases.trusted

    play(scenario)


@pytest.mark.parametrize("cause", [EndCause.REVOCATION, EndCause.SILENCE])
def test_an_end_of_leases_that_are_not_held_is_no_event(cause: EndCause) -> None:
    def scenario(bench: Bench) -> None:
        bench.holding(ONE).end(cause, "revoked", (TWO,))
        assert bench.leases.ids() == (ONE,)
        bench.leases.give_back(ONE)
        bench.leases.end(cause, "revoked", (TWO,))
        assert bench.ends == []

    play(scenario)


def test_effects_come_before_the_log_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class BrokenLog:
        def warning(self, *_: object, **__: object) -> None:
            raise BrokenPipeError

    async def scenario(bench: Bench) -> None:
        monkeypatch.setattr(leases_module, "_log", BrokenLog())
        leases = bench.holding(ONE)
        held = leases.held()
        async with leases.subscribed(ONE) as subscription:
            with pytest.raises(BrokenPipeError):
                leases.end(EndCause.DISTRUST, "untrusted")
            assert subscription.revoked
        assert (forgotten(held), len(bench.ends), leases.trusted) == (True, 1, False)

    play(scenario)


def test_keys_are_wiped_before_loaders_and_consequences_hear_of_the_end() -> None:
    def scenario(bench: Bench) -> None:
        leases = bench.holding(ONE)
        held, seen = leases.held(), list[bool]()
        bench.leases._on_end = lambda _end: seen.append(forgotten(held))  # type: ignore[misc]
        leases.end(EndCause.DISTRUST, "untrusted")
        assert seen == [True]

    play(scenario)


def test_a_lease_is_given_back_by_its_last_follower_and_silently() -> None:
    async def scenario(bench: Bench) -> None:
        leases = bench.holding(ONE)
        async with leases.subscribed(ONE):
            async with leases.subscribed(ONE):
                pass
            assert not leases.give_back(ONE)
        held = leases.held()
        assert leases.give_back(ONE)
        assert not leases.give_back(ONE)
        assert forgotten(held)
        assert bench.ends == []

    play(scenario)


def test_the_epoch_of_a_lease_that_ended_by_force_ends_when_the_last_other_is_given_back() -> None:
    def scenario(bench: Bench) -> None:
        leases = bench.holding(ONE, TWO)
        leases.end(EndCause.REVOCATION, "revoked", (ONE,))
        began = leases.endings
        assert leases.give_back(TWO)
        assert bench.ended() == [(EndCause.REVOCATION, (ONE,), False), (EndCause.REVOCATION, (), True)]
        with pytest.raises(Unavailable):  # its key was made in the epoch that is over
            leases.add(released(), began)
        bench.holding(ONE)
        assert leases.give_back(ONE)
        assert len(bench.ends) == 2

    play(scenario)


def test_followers_hear_of_renewals_and_of_the_end() -> None:
    async def scenario(bench: Bench) -> None:
        leases = bench.holding(ONE)
        async with leases.subscribed(ONE) as subscription:
            leases.extend_trust(250.0)
            await asyncio.wait_for(subscription.changed(), 1)
            assert (subscription.expires_steady, subscription.revoked) == (250.0, "")
            leases.end(EndCause.REVOCATION, "gone")
            await asyncio.wait_for(subscription.changed(), 1)
            assert (subscription.revoked, subscription.cause) == ("gone", EndCause.REVOCATION)

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
        watch = asyncio.create_task(leases.watch(lambda: None))
        await asyncio.sleep(0.05)
        assert leases.ids() == (ONE,)
        bench.now = 100.3
        await asyncio.sleep(0.3)
        assert leases.ids() == ()
        assert bench.ended() == [(EndCause.SILENCE, (ONE,), True)]
        assert bench.ends[0].reason == "the node's trust ran out"
        watch.cancel()

    play(scenario)


def test_the_watch_follows_a_deadline_that_moves() -> None:
    async def scenario(bench: Bench) -> None:
        leases = bench.holding(ONE, until=100.1)
        watch = asyncio.create_task(leases.watch(lambda: None))
        await asyncio.sleep(0)
        leases.extend_trust(300.0)
        bench.now = 100.5
        await asyncio.sleep(0.2)
        assert leases.ids() == (ONE,)
        watch.cancel()

    play(scenario)


def test_a_release_during_which_the_agent_stops_is_no_lease() -> None:
    """Nobody would give it back: the agent has told the verifier already which leases are over."""

    def scenario(bench: Bench) -> None:
        began = bench.holding(ONE).endings
        bench.leases.close("the agent stops")
        with pytest.raises(Unavailable):
            bench.leases.add(released(TWO), began)

    play(scenario)


def test_stopping_forgets_leases_without_force() -> None:
    def scenario(bench: Bench) -> None:
        held = bench.holding(ONE, TWO).held()
        assert bench.leases.close("stops") == (ONE, TWO)
        assert (bench.leases.ids(), forgotten(held)) == ((), True)
        assert bench.ends == []

    play(scenario)


# Silence that a key lets its leases survive


def _with_silence(bench: Bench) -> Leases:
    """Hold a lease that ends with trust at 200, and one that may outlive it by 50 seconds."""
    leases = bench.holding(ONE)
    leases.add(released(TWO, model="cd", silence_seconds=50), leases.endings)
    return leases


async def _at(bench: Bench, now: float) -> None:
    """Let the time come and the watch look at it."""
    bench.now = now
    bench.leases._moved.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def watched(scenario: Callable[[Bench], Awaitable[None]]) -> None:
    async def whole(bench: Bench) -> None:
        watch = asyncio.create_task(bench.leases.watch(lambda: None))
        try:
            await scenario(bench)
        finally:
            watch.cancel()

    play(whole)


def test_a_lease_survives_silence_as_long_as_its_key_says_and_the_epoch_ends_with_it() -> None:
    async def scenario(bench: Bench) -> None:
        leases = _with_silence(bench)
        one, two = leases.held()
        await _at(bench, 200.0)
        assert (leases.ids(), leases.trusted) == ((TWO,), False)
        assert (forgotten([one]), forgotten([two])) == (True, False)
        await _at(bench, 249.9)
        assert leases.ids() == (TWO,)
        await _at(bench, 250.0)
        assert (leases.ids(), forgotten([two])) == ((), True)
        assert bench.ended() == [(EndCause.SILENCE, (ONE,), False), (EndCause.SILENCE, (TWO,), True)]

    watched(scenario)


def test_while_silence_is_survived_there_are_no_new_leases() -> None:
    async def scenario(bench: Bench) -> None:
        leases = _with_silence(bench)
        await _at(bench, 210.0)
        with pytest.raises(Unavailable, match="trust ended"):
            leases.add(released(ONE), leases.endings)

    watched(scenario)


def test_when_trust_comes_back_a_lease_that_survived_goes_on_in_its_epoch() -> None:
    async def scenario(bench: Bench) -> None:
        leases = _with_silence(bench)
        await _at(bench, 210.0)
        leases.extend_trust(400.0)
        await _at(bench, 390.0)
        assert leases.ids() == (TWO,)
        assert bench.ended() == [(EndCause.SILENCE, (ONE,), False)]

    watched(scenario)


@pytest.mark.parametrize(
    ("cause", "named"), [(EndCause.DISTRUST, None), (EndCause.REVOCATION, (TWO,)), (EndCause.SILENCE, (TWO,))]
)
def test_a_lease_that_survives_silence_survives_nothing_else(
    cause: EndCause, named: tuple[LeaseId, ...] | None
) -> None:
    async def scenario(bench: Bench) -> None:
        leases = _with_silence(bench)
        await _at(bench, 210.0)
        leases.end(cause, "as the verifier says", named)
        assert leases.ids() == ()
        assert bench.ended()[-1] == (cause, (TWO,), True)

    watched(scenario)


def test_loaders_hear_the_end_of_their_own_lease() -> None:
    async def scenario(bench: Bench) -> None:
        leases = _with_silence(bench)
        async with leases.subscribed(ONE) as one, leases.subscribed(TWO) as two:
            assert (one.expires_steady, two.expires_steady) == (200.0, 250.0)
            leases.extend_trust(300.0)
            assert (one.expires_steady, two.expires_steady) == (300.0, 350.0)

    watched(scenario)


def test_a_verifier_that_says_it_heard_nothing_ends_trust_but_not_what_survives_silence() -> None:
    async def scenario(bench: Bench) -> None:
        leases = _with_silence(bench)
        leases.fall_silent("stale")
        assert (leases.ids(), leases.trusted) == ((TWO,), False)
        await _at(bench, 150.0)
        assert leases.ids() == ()
        assert bench.ended() == [(EndCause.SILENCE, (ONE,), False), (EndCause.SILENCE, (TWO,), True)]

    watched(scenario)


def test_a_key_that_is_made_after_trust_ran_out_ends_the_epoch_all_the_same() -> None:
    async def scenario(bench: Bench) -> None:
        bench.holding(until=110.0)
        await _at(bench, 120.0)
        bench.leases.use_epoch()
        for _ in range(3):
            await asyncio.sleep(0)
        assert bench.ended() == [(EndCause.SILENCE, (), True)]

    watched(scenario)


def test_nothing_secret_is_shown() -> None:
    assert "secret" not in repr(released())
    assert "context" not in repr(released().release_key)


def test_a_lease_is_found_by_its_model_alone() -> None:
    def scenario(bench: Bench) -> None:
        leases = bench.holding(ONE)
        held = leases.held()[0]
        assert leases.find(Digest(str(held.model_digest))) is held
        assert leases.find(Digest("00" * 32)) is None
        assert leases.find(Digest("ff" * 32)) is None

    play(scenario)
