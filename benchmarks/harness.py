"""Measuring on machines that are shared and noisy: two things in turn, again and again, and the median of the ratios.

Rates count processor time, not time on the wall, so that whoever else runs on the machine takes less away from a
figure. What is left of the noise hits both sides of a pair.
"""

from __future__ import annotations

import logging
import os
import signal
import statistics
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from typing import Final, Self

import structlog

PAIRS: Final = 9
"""How many pairs make a figure; at least seven."""
SECONDS: Final = 0.5
"""How long one side of a pair runs, in processor time."""

FAILED: Final = "failed: "
"""How the note of a figure begins that ought to be there."""


class Missing(Exception):
    """A figure cannot be measured here; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One figure.

    Attributes:
        value: the median of ``runs``; None: could not be measured, ``note`` says why.
        unit: ``ratio`` or what it counts.
        runs: one value for each pair or repetition, in the order of measuring.
        against: what a ratio is over, or what was taken away from a time.
        note: what a reader must know to judge the figure.
    """

    value: float | None
    unit: str
    runs: tuple[float, ...]
    against: str
    note: str

    @classmethod
    def of(cls, runs: tuple[float, ...], *, unit: str = "ratio", against: str, note: str = "") -> Self:
        """Return the figure that ``runs`` make."""
        return cls(value=statistics.median(runs), unit=unit, runs=runs, against=against, note=note)

    @classmethod
    def missing(cls, reason: str) -> Self:
        """Return a figure that could not be measured."""
        return cls(value=None, unit="ratio", runs=(), against="", note=reason)


def ratios(first: Callable[[], float], second: Callable[[], float], pairs: int = PAIRS) -> tuple[float, ...]:
    """Measure two rates in turn, and return the ratio of each pair."""
    return tuple(first() / second() for _ in range(pairs))


def rate(work: Callable[[], int], seconds: float = SECONDS) -> float:
    """Repeat ``work``, which returns how much it did, and return how much it does in a second of processor time."""
    done, start = 0, time.process_time()
    while (spent := time.process_time() - start) < seconds:
        done += work()
    return done / spent


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Keep this thread, and the processes and threads it starts, on the ``core``-th processor that it may use."""
    allowed = os.sched_getaffinity(0)
    cores = sorted(allowed)
    os.sched_setaffinity(0, {cores[core % len(cores)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def measure(benchmark: Callable[[], Result], results: Connection) -> None:
    """Run one benchmark in this process, which is its own, and send what it says, or why it says nothing.

    On SIGTERM, and when the parent ended, the process ends in order, so that what it started is stopped as well.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))  # the agent's parts
    try:
        result = benchmark()
    except Missing as error:
        result = Result.missing(str(error))
    except Exception as error:  # noqa: BLE001 - one figure that fails must not take the others away
        traceback.print_exception(error)
        result = Result.missing(f"{FAILED}{error!r}")
    results.send(result)


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
