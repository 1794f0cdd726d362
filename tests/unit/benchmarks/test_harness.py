"""The benchmarks' own arithmetic; nothing here asserts how fast anything is."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

from benchmarks.harness import PAIRS, Result, pinned, rate, ratios


def test_a_figure_is_the_median_of_its_runs() -> None:
    assert Result.of((3.0, 100.0, 1.0), against="x").value == 3.0


def test_a_figure_that_is_missing_says_why_and_has_no_value() -> None:
    missing = Result.missing("not installed")
    assert (missing.value, missing.runs, missing.note) == (None, (), "not installed")


def test_both_sides_of_a_pair_are_measured_in_turn() -> None:
    order: list[str] = []

    def side(name: str, values: Iterator[float]) -> Callable[[], float]:
        def measure() -> float:
            order.append(name)
            return next(values)

        return measure

    found = ratios(side("a", iter([1.0, 2.0])), side("b", iter([4.0, 4.0])), pairs=2)
    assert found == (0.25, 0.5)
    assert order == ["a", "b", "a", "b"]


def test_there_are_at_least_seven_pairs() -> None:
    assert PAIRS >= 7


def test_a_rate_counts_what_was_done_by_processor_time_not_by_the_wall() -> None:
    def sleepy() -> int:
        time.sleep(0.001)
        return 1

    assert rate(sleepy, seconds=0.002) > 2000 / 2


def test_pinning_ends_with_its_block() -> None:
    before = os.sched_getaffinity(0)
    with pinned(0):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before
