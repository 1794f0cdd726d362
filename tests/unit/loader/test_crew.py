"""Work by threads: every number once, buffers warm, the first error stops all, closing wipes."""

from __future__ import annotations

import gc
import signal
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event, Thread, get_ident

import pytest

from nodeseal.loader import crew as crew_module
from nodeseal.loader.crew import Crew


@pytest.mark.parametrize("threads", [1, 2, 3, 8, None])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 100])
def test_every_number_comes_once(count: int, threads: int | None) -> None:
    seen: list[int] = []
    with Crew(threads) as crew:
        crew.for_each(range(5, 5 + count), 1, lambda number, _: seen.append(number))
    assert sorted(seen) == list(range(5, 5 + count))


def test_threads_work_at_once_each_with_a_buffer_of_its_own() -> None:
    together, seen = Barrier(3), set[tuple[int, int]]()

    def work(_: int, buffer: memoryview) -> None:
        together.wait(timeout=10)
        seen.add((get_ident(), id(buffer.obj)))

    with Crew(3) as crew:
        crew.for_each(range(3), 16, work)
    assert len({thread for thread, _ in seen}) == len({buffer for _, buffer in seen}) == 3


def test_threads_and_buffers_outlive_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def allocate(size: int) -> memoryview:
        made.append(size)
        return memoryview(bytearray(size))

    monkeypatch.setattr(crew_module, "allocate", allocate)
    threads: set[int] = set()
    with Crew(2) as crew:
        for _ in range(20):
            crew.for_each(range(8), 16, lambda _, __: threads.add(get_ident()))
    assert len(threads) <= 2
    assert made in ([16], [16, 16])


def test_there_are_as_many_threads_as_processors_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3, 5, 7})
    assert Crew().threads == 3
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(500)))
    assert Crew().threads == crew_module.MAX_THREADS


@pytest.mark.parametrize("threads", [1, 2])
def test_the_first_error_stops_all(threads: int) -> None:
    seen: list[int] = []

    def work(number: int, _: memoryview) -> None:
        seen.append(number)
        if number == 3:
            raise RuntimeError("three")

    with Crew(threads) as crew:
        with pytest.raises(RuntimeError, match="three"):
            crew.for_each(range(1_000_000), 1, work)
        assert len(seen) < 1_000_000
        crew.for_each(range(2), 1, lambda _, __: None)


def test_nobody_works_on_once_the_call_has_returned() -> None:
    slow, done = Event(), list[int]()

    def work(number: int, _: memoryview) -> None:
        if number == 0:
            raise RuntimeError("zero")
        slow.wait(0.2)
        done.append(number)

    with Crew(2) as crew:
        with pytest.raises(RuntimeError):
            crew.for_each(range(1, -1, -1), 1, work)
        assert done == [1]


def test_a_call_that_is_interrupted_again_and_again_returns_when_nobody_works_any_more() -> None:
    done, main = list[int](), get_ident()

    def interrupt(_: int, __: object) -> None:
        raise KeyboardInterrupt

    def work(number: int, _: memoryview) -> None:
        if number == 0:
            for _again in range(4):
                signal.pthread_kill(main, signal.SIGUSR1)
                time.sleep(0.02)
            done.append(number)

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with Crew(2) as crew, pytest.raises(KeyboardInterrupt):
            crew.for_each(range(2), 1, work)
        assert done == [0]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_threads_that_start_after_the_call_ended_do_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    held, done = Event(), list[int]()
    submit = ThreadPoolExecutor.submit

    def interrupted(pool: ThreadPoolExecutor, work: Callable[[], None]) -> None:
        submit(pool, lambda: work() if held.wait(10) else None)
        raise KeyboardInterrupt

    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupted)
    crew = Crew(2)
    with pytest.raises(KeyboardInterrupt):
        crew.for_each(range(2), 1, lambda number, _: done.append(number))
    pool = crew._pool
    assert pool is not None
    held.set()
    pool.shutdown()
    assert done == []


def test_buffers_are_wiped_when_it_closes_even_those_in_use() -> None:
    crew, buffers = Crew(1), list[memoryview]()
    started, leave = Event(), Event()

    def fill(_: int, buffer: memoryview) -> None:
        buffer[:] = b"secret"
        buffers.append(buffer)
        started.set()
        leave.wait(10)

    leave.set()
    crew.for_each(range(1), 6, fill)
    started.clear()
    leave.clear()
    threads = [Thread(target=crew.for_each, args=(range(1), 6, fill)) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert started.wait(10)
    crew.close()
    leave.set()
    for thread in threads:
        thread.join(10)
    assert len(buffers) == 3
    assert not any(any(buffer) for buffer in buffers)


def test_a_crew_that_is_closed_still_works_in_the_callers_thread() -> None:
    crew, seen = Crew(2), set[int]()
    crew.close()
    crew.for_each(range(4), 1, lambda _, __: seen.add(get_ident()))
    assert seen == {get_ident()}


def test_as_many_threads_again_join_where_work_waits() -> None:
    together, seen = Barrier(4), set[int]()

    def work(number: int, _: memoryview) -> None:
        if number >= 2:  # the first two calls end, and show that they wait
            together.wait(timeout=30)
            seen.add(get_ident())

    with Crew(2) as crew:
        crew.for_each(range(6), 1, work, waits=lambda: True)
    assert len(seen) == 4


def test_an_error_of_a_thread_that_joined_is_raised() -> None:
    together = Barrier(4)

    def work(number: int, _: memoryview) -> None:
        if number >= 2:
            together.wait(timeout=30)
            raise RuntimeError(str(number))

    with Crew(2) as crew, pytest.raises(RuntimeError):
        crew.for_each(range(6), 1, work, waits=lambda: True)


@pytest.mark.parametrize("count", [1, 6])
def test_what_the_work_holds_is_freed_at_its_end_and_not_when_circles_are_looked_for(count: int) -> None:
    class Plaintext:
        """Memory that the work fills."""

    held = Plaintext()
    freed = weakref.ref(held)

    def work(_: int, __: memoryview, held: Plaintext = held) -> None:
        assert isinstance(held, Plaintext)

    gc.disable()
    try:
        with Crew(2) as crew:
            crew.for_each(range(count), 1, work, waits=lambda: True)
            del work, held
            deadline = time.monotonic() + 30
            while freed() is not None and time.monotonic() < deadline:
                time.sleep(0.01)  # a thread may still be putting its call away
            assert freed() is None
    finally:
        gc.enable()


def test_nobody_joins_where_nothing_waits() -> None:
    seen: set[int] = set()
    with Crew(2) as crew:
        crew.for_each(range(50), 1, lambda _, __: seen.add(get_ident()))
    assert len(seen) <= 2
