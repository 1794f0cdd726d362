"""A verifier that is killed at any moment, while nodes enrol, attest and release.

After each kill: what it had acknowledged is written down, nothing was given out without its record, no record is
missing or has changed. It starts again without hands, and nodes go on where they were.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from grpc import aio

from nodeseal.v1 import admin_pb2, attestation_pb2
from support.admin import Sealed, a_sealed_model, grant
from support.fake_node import FakeNode, a_node
from support.hosts import Records, records_of
from support.releases import Scene, activate_golden_of, attest, joined
from support.verifier import RunningVerifier, a_verifier

KILLS = int(os.environ.get("NODESEAL_CRASH_KILLS", "12"))
LONGEST_SECONDS = 0.5
"""How long after its start a verifier is killed at the latest; a release takes about 20 ms."""


class Acknowledged:
    """What nodes were told, and so must outlive the verifier."""

    def __init__(self) -> None:
        self.nodes: set[str] = set()
        self.leases: set[str] = set()
        self.trusted = 0


@pytest.fixture
def verifier(tmp_path: Path) -> Iterator[RunningVerifier]:
    with a_verifier(tmp_path, start=False, interval_seconds=0) as running:
        config = running.folder / "verifier.yaml"
        config.write_text(config.read_text().replace("per_minute: 60", "per_minute: 100000"))
        running.start()
        yield running


async def _again_and_again(work: Callable[[], Awaitable[None]]) -> None:
    """Do something over and over; a verifier that is gone is no error here."""
    while True:
        with suppress(aio.AioRpcError):
            await work()
        await asyncio.sleep(0.01)


async def _load(verifier: RunningVerifier, opener: FakeNode, model: Sealed, told: Acknowledged) -> None:
    """Enrol, attest and release without end, and note what was acknowledged."""

    async def enrol() -> None:
        node = a_node(verifier)
        await node.enrol()
        told.nodes.add(node.node_id)

    async def release() -> None:
        released = await opener.release(model.digest, [model.slot])
        assert opener.open(released) == model.data_key
        told.leases.add(released.lease_id)
        opener.leases = ()  # as an agent that was killed too; the next release ends this lease

    async def rounds() -> None:
        async with opener.attesting() as stream:
            while True:
                verdict = await stream.round()
                told.trusted += verdict.state == attestation_pb2.NODE_STATE_TRUSTED

    async with asyncio.TaskGroup() as group:
        for work in (enrol, release, rounds):
            group.create_task(_again_and_again(work))


async def _until_killed(verifier: RunningVerifier, seconds: float, load: Awaitable[None]) -> None:
    task = asyncio.ensure_future(load)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(verifier.kill)
    await asyncio.sleep(0.05)  # what was on its way arrives
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _prepared(verifier: RunningVerifier) -> tuple[FakeNode, Sealed]:
    async with verifier.person() as admin:
        node = await joined(verifier)
        await activate_golden_of(admin, node)
        await attest(node)
        model = await a_sealed_model(admin)
        await grant(admin, node)
        return node, model


def _check(verifier: RunningVerifier, told: Acknowledged, before: Records | None) -> Records:
    records = records_of(verifier)
    records.check(before)
    assert told.nodes <= records.nodes
    assert told.leases <= records.issued
    return records


@pytest.mark.timeout(60 + 5 * KILLS)
def test_a_verifier_killed_at_any_moment_loses_nothing_and_heals(verifier: RunningVerifier) -> None:
    moments = random.Random(2)  # noqa: S311 - the same in every run
    told, records = Acknowledged(), None
    opener, model = asyncio.run(_prepared(verifier))
    for _ in range(KILLS):
        seconds = moments.random() * LONGEST_SECONDS
        asyncio.run(_until_killed(verifier, seconds, _load(verifier, opener, model, told)))
        records = _check(verifier, told, records)
        verifier.start()
    assert told.trusted
    assert len(told.nodes) >= KILLS // 2
    assert len(told.leases) >= KILLS // 2
    asyncio.run(_heals(verifier, opener, model))
    _check(verifier, told, records)


async def _heals(verifier: RunningVerifier, opener: FakeNode, model: Sealed) -> None:
    """Make sure that node, model and people find everything as it was."""
    await attest(opener)
    async with verifier.person() as admin:
        await Scene(verifier=verifier, admin=admin, node=opener, model=model).opens()
        node = await admin.nodes.GetNode(admin_pb2.GetNodeRequest(node_id=opener.node_id))
        assert node.state == attestation_pb2.NODE_STATE_TRUSTED
    fresh = a_node(verifier)
    await fresh.enrol()
