"""Striped work: every number once, buffers per thread, the first error stops all."""

from __future__ import annotations

from collections.abc import Callable
from threading import Barrier, get_ident

import pytest

from nodeseal.loader.stripes import for_each


@pytest.mark.parametrize("threads", [1, 2, 3, 8, None])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 100])
def test_every_number_comes_once(count: int, threads: int | None) -> None:
    seen: list[int] = []
    for_each(count, lambda: seen.append, threads=threads)
    assert sorted(seen) == list(range(count))


def test_each_thread_makes_a_worker_of_its_own() -> None:
    together, made = Barrier(3), []

    def worker() -> Callable[[int], None]:
        together.wait(timeout=10)
        made.append(get_ident())
        return lambda _: None

    for_each(9, worker, threads=3)
    assert len(set(made)) == 3


@pytest.mark.parametrize("threads", [1, 2])
def test_the_first_error_stops_all(threads: int) -> None:
    seen: list[int] = []

    def work(number: int) -> None:
        seen.append(number)
        if number == 3:
            raise RuntimeError("three")

    with pytest.raises(RuntimeError, match="three"):
        for_each(1_000_000, lambda: work, threads=threads)
    assert len(seen) < 1_000_000
