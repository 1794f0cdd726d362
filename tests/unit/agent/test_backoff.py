from __future__ import annotations

from nodeseal.agent.backoff import Backoff


def test_delays_grow_up_to_the_longest_and_are_spread() -> None:
    backoff = Backoff(1.0, 8.0)
    ceilings = [1.0, 2.0, 4.0, 8.0, 8.0]
    assert all(0 <= backoff.next() <= ceiling for ceiling in ceilings)
    later = [backoff.next() for _ in range(100)]
    assert max(later) <= 8.0
    assert len(set(later)) > 90


def test_a_success_starts_from_the_shortest_delay_again() -> None:
    backoff = Backoff(0.001, 60.0)
    for _ in range(20):
        backoff.next()
    backoff.reset()
    assert backoff.next() <= 0.001
