"""Attested rounds end to end: what they cost the verifier, how long they take, and what a connected node weighs."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import uvloop

from benchmarks.harness import PAIRS, Missing, Result, pinned
from benchmarks.load import Load, allow_many_connections
from benchmarks.openssl import VERIFY, p256_verifies_per_second
from benchmarks.verifier import CLIENT_CORE, VERIFIER_CORE, running_verifier
from nodeseal.swtpm.vendor import TpmVendor

NODES: Final = 256
MANY: Final = 10_000
FEW: Final = 100
_SECONDS: Final = 2.0
_FLUSH_SECONDS: Final = 5.0
"""How often a verifier stores clocks and ends of trust: part of a round's cost."""
_COST_PAIRS: Final = 7
_WAVE_SECONDS: Final = 120.0
_MEMORY_STEPS: Final = 4
_PATIENT: Final = {"interval_seconds": 0, "answer_within_seconds": 600, "trust_seconds": 3600}
"""Interval 0, which a verifier's settings allow, asks again at once; between measurements nodes let challenges wait."""


def over_p256_verify() -> Result:
    """Return rounds per second of the verifier's processor time over P-256 verifications."""
    return uvloop.run(_over_p256_verify())


def p99_at_half_load() -> Result:
    """Return the 99th percentile of a round's time while the verifier has half the rounds it can do."""
    return uvloop.run(_p99_at_half_load())


def kib_per_node() -> Result:
    """Return what the verifier's memory grows by for each connected, attested node."""
    return uvloop.run(_kib_per_node())


def cost_of_many_over_few() -> Result:
    """Return the processor time of a round with many connected nodes over that with few."""
    return uvloop.run(_cost_of_many_over_few())


async def _over_p256_verify() -> Result:
    async with _load(NODES) as load:
        runs, wall = [], []
        for _ in range(PAIRS):
            per_core, per_second = await _saturate(load, _SECONDS)
            with pinned(VERIFIER_CORE):
                runs.append(per_core / p256_verifies_per_second())
            wall.append(per_second)
    note = (
        f"{NODES} nodes, rounds per second of the verifier's processor time (all threads and the kernel's share); "
        f"on the wall {statistics.median(wall):.0f} rounds per second, with the load generator on the other core"
    )
    return Result.of(tuple(runs), against=VERIFY, note=note)


async def _p99_at_half_load() -> Result:
    async with _load(NODES) as load:
        runs, rates = [], []
        for _ in range(PAIRS):
            _, per_second = await _saturate(load, _SECONDS)
            load.go(pause_seconds=2 * NODES / per_second)
            await asyncio.sleep(_SECONDS)
            runs.append(1000 * statistics.quantiles(load.seconds, n=100)[98])
            rates.append(len(load.seconds) / _SECONDS)
            await load.halt()
    note = (
        f"{NODES} nodes, {statistics.median(rates):.0f} rounds per second at random times; from evidence to verdict as "
        "the node sees it, the load generator's own queue included"
    )
    return Result.of(tuple(runs), unit="ms", against="", note=note)


async def _kib_per_node() -> Result:
    async with _load(FEW) as load:
        runs, note = [], ""
        for step in range(_MEMORY_STEPS):
            before, count = load.verifier.resident_kib(), MANY // _MEMORY_STEPS - (FEW if step == 0 else 0)
            try:
                await load.add(count)
            except Missing as error:
                note = f"; no more than {len(load.nodes)} could be connected here: {error}"
                break
            await _saturate(load, _SECONDS)
            runs.append((load.verifier.resident_kib() - before) / count)
    if not runs:
        raise Missing(note)
    note = f"growth of the resident set from {FEW} to {len(load.nodes)} nodes, in {len(runs)} steps{note}"
    return Result(value=statistics.mean(runs), unit="KiB", runs=tuple(runs), against="", note=note)


async def _cost_of_many_over_few() -> Result:
    async with _load(FEW) as few, _load(MANY) as many:
        runs = []
        for _ in range(_COST_PAIRS):
            cheap, _ = await _saturate(few, _FLUSH_SECONDS)
            dear, _ = await _saturate(many, _FLUSH_SECONDS)
            runs.append(cheap / dear)
    note = f"processor time for a round with {MANY} nodes that take turns, over {FEW}; two verifiers on one core"
    return Result.of(tuple(runs), against=f"the same with {FEW} nodes", note=note)


async def _saturate(load: Load, seconds: float) -> tuple[float, float]:
    """Let all nodes answer at once; return rounds per second of processor time and on the wall."""
    load.go()
    await _until(load, load.rounds + len(load.nodes))  # the first wave, which takes as long as it is large
    spent, done, start = load.verifier.cpu_seconds(), load.rounds, time.monotonic()
    await asyncio.sleep(seconds)
    passed, rounds = time.monotonic() - start, load.rounds - done
    spent = load.verifier.cpu_seconds() - spent
    await load.halt()
    return rounds / spent, rounds / passed


async def _until(load: Load, rounds: int) -> None:
    end = time.monotonic() + _WAVE_SECONDS
    while load.rounds < rounds:
        if time.monotonic() > end:
            raise Missing(f"only {load.rounds} of {rounds} rounds within {_WAVE_SECONDS:.0f} seconds")
        await asyncio.sleep(0.05)


@asynccontextmanager
async def _load(count: int) -> AsyncIterator[Load]:
    """Run a verifier with ``count`` connected and attested nodes."""
    allow_many_connections()
    with tempfile.TemporaryDirectory() as folder:
        vendor = TpmVendor.create(Path(folder) / "vendor")
        with running_verifier(Path(folder) / "verifier", vendor, **_PATIENT) as verifier, pinned(CLIENT_CORE):
            load = Load(verifier)
            try:
                await load.add(count)
                yield load
            finally:
                await load.close()
