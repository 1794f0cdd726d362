"""Decisions of people around a flush, row t06: whatever a start finds on the disk is what was in force.

Rounds of several nodes flow while people restrict and widen at random moments, and progress is flushed every few
milliseconds. What a SIGKILL would leave at that moment is taken as a copy of journal and database (transactions that
are not committed are in no copy), and a fleet that starts from the copy must believe what people were told.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from grpc import aio

from nodeseal.v1 import admin_pb2
from nodeseal.v1.attestation_pb2 import NODE_STATE_QUARANTINED, NODE_STATE_RETIRED, NODE_STATE_TRUSTED
from nodeseal.verifier.clock import SYSTEM
from nodeseal.verifier.config import load_config
from nodeseal.verifier.fleet import fleet as fleet_module
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.ledger.journal import Journal
from nodeseal.verifier.ledger.ledger import Ledger
from nodeseal.verifier.ledger.log import check_log, load_mac_key
from nodeseal.verifier.store.database import Store, opened_engine
from nodeseal.verifier.store.policy import find_key
from nodeseal.verifier.trust.goldens import active_goldens
from support.admin import a_sealed_model, activate, admitted, grant, trusted_node
from support.attackers import seen_by
from support.fake_node import FakeNode, a_node, golden_of
from support.in_process import in_process
from support.ledgers import NoTree
from support.verifier import RunningVerifier, Stubs, a_verifier

TRIES = int(os.environ.get("NODESEAL_CRASH_KILLS", "12")) * 5
NODES = 4


@dataclass
class Told:
    """What people were told.

    Attributes:
        states: the state of each node that a person restricted, as long as nobody has lifted it.
        revoked: keys that were revoked.
        goldens: whether each golden is active.
    """

    states: dict[str, str] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)
    goldens: dict[str, bool] = field(default_factory=dict)


@pytest.fixture
def verifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningVerifier]:
    monkeypatch.setattr(fleet_module, "_FLUSH_SECONDS", 0.003)
    with a_verifier(tmp_path, start=False, interval_seconds=0, trust_seconds=60) as made:
        config = made.folder / "verifier.yaml"
        config.write_text(config.read_text().replace("per_minute: 60", "per_minute: 100000"))
        yield made


async def attesting(node: FakeNode) -> None:
    """Answer every challenge until cancelled, whatever becomes of the stream."""
    while True:
        with suppress(aio.AioRpcError):
            async with node.attesting() as stream:
                while True:
                    await stream.round()
        await asyncio.sleep(0.01)


async def act(admin: Stubs, nodes: list[FakeNode], document: bytes, told: Told, chance: random.Random) -> None:
    """Do one thing, and note what was told."""
    node = chance.choice(nodes).node_id
    kind = chance.choice(["quarantine", "quarantine", "admit", "golden", "key"])
    if kind == "quarantine":
        await admin.nodes.QuarantineNode(admin_pb2.QuarantineNodeRequest(node_id=node, reason="odd"))
        told.states[node] = "quarantined"
    elif kind == "admit" and node in told.states:
        del told.states[node]
        await admin.nodes.AdmitNode(admin_pb2.AdmitNodeRequest(node_id=node))
    elif kind == "golden":
        (digest,) = told.goldens
        if told.goldens[digest]:
            await admin.goldens.RetireGolden(admin_pb2.RetireGoldenRequest(digest=digest))
        else:
            assert await activate(admin, document) == digest
        told.goldens[digest] = not told.goldens[digest]
    elif kind == "key":
        name = f"key-{chance.randrange(10**9)}"
        await admin.keys.CreateKey(admin_pb2.CreateKeyRequest(key_id=name))
        await admin.keys.RevokeKey(admin_pb2.RevokeKeyRequest(key_id=name, reason="leaked"))
        told.revoked.add(name)


def copied(verifier: RunningVerifier, folder: Path) -> None:
    """Copy what a SIGKILL would leave now; the journal first, since restrictions move from it to the database."""
    (folder / "journal").mkdir()
    for path in (verifier.folder / "journal").glob("*.json"):
        with suppress(FileNotFoundError):  # recorded meanwhile
            shutil.copy(path, folder / "journal")
    with (
        closing(sqlite3.connect(verifier.folder / "verifier.sqlite", timeout=20)) as source,
        closing(sqlite3.connect(folder / "verifier.sqlite")) as target,
    ):
        source.backup(target)


async def check(verifier: RunningVerifier, folder: Path, told: Told) -> None:
    """Start from a copy and compare; then record what the journal held, and compare again."""
    config = load_config(verifier.folder / "verifier.yaml")
    mac_key = load_mac_key(config.acts_key)
    with opened_engine(folder / "verifier.sqlite") as engine, closing(Store(engine)) as store:
        check_log(engine, mac_key)
        fleet = Fleet(Ledger(store, mac_key, Journal(folder / "journal"), SYSTEM, NoTree()), config.attestation)
        try:
            await compare(store, fleet, told)
        finally:
            await fleet.ledger.close()


async def compare(store: Store, fleet: Fleet, told: Told) -> None:
    """See that a start finds what was told."""
    await fleet.load(await active_goldens(store))
    for node in fleet:
        wanted = told.states.get(node.record.node_id)
        assert (node.state.value == wanted) if wanted else (node.state.value != "quarantined"), node.record
        if wanted:
            assert not node.trusted(SYSTEM.steady())
    active = {golden.digest for golden in fleet.policy.goldens}
    assert {digest: digest in active for digest in told.goldens} == told.goldens
    for name in told.revoked:
        key = await store.read(lambda made, name=name: find_key(made, name))  # type: ignore[misc]
        assert key is not None
        assert key.revoked is not None


@pytest.mark.timeout(120 + 3 * TRIES)
def test_t06_what_a_kill_leaves_at_any_moment_is_what_people_were_told(
    verifier: RunningVerifier, tmp_path: Path
) -> None:
    chance = random.Random(6)  # noqa: S311 - the same in every run

    async def case() -> None:
        async with in_process(verifier), verifier.person() as admin:
            first = await trusted_node(verifier)
            nodes = [first, *[await admitted(a_node(verifier)) for _ in range(NODES - 1)]]
            (golden,) = (await admin.goldens.ListGoldens(admin_pb2.ListGoldensRequest())).goldens
            told = Told(goldens={golden.digest: True})
            running = [asyncio.create_task(attesting(node)) for node in nodes]
            try:
                for number in range(TRIES):
                    await asyncio.sleep(chance.random() * 0.02)
                    await act(admin, nodes, golden_of(first), told, chance)
                    folder = tmp_path / f"copy{number}"
                    folder.mkdir()
                    await asyncio.to_thread(copied, verifier, folder)
                    await check(verifier, folder, told)
                    shutil.rmtree(folder)
            finally:
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)

    asyncio.run(case())


@pytest.mark.timeout(180)
def test_t06_a_killed_verifier_knows_what_people_were_told_a_moment_before(tmp_path: Path) -> None:
    """The same with real kills, fewer of them, and leases."""

    async def case(verifier: RunningVerifier) -> None:
        async with verifier.person() as admin:
            gone, kept = await trusted_node(verifier), await admitted(a_node(verifier))
            model = await a_sealed_model(admin)
            for node in (gone, kept):
                async with node.attesting() as stream:
                    await stream.round_until(NODE_STATE_TRUSTED)
                await grant(admin, node)
            lease = (await kept.release(model.digest, [model.slot])).lease_id
        for number in range(4):
            running = [asyncio.create_task(attesting(node)) for node in (gone, kept)]
            await asyncio.sleep(0.1 * number)
            async with verifier.person() as admin:
                if number == 3:
                    await admin.nodes.RetireNode(admin_pb2.RetireNodeRequest(node_id=gone.node_id, reason="sold"))
                elif number == 1:
                    await admin.keys.RevokeKey(admin_pb2.RevokeKeyRequest(key_id="llama", reason="leaked"))
                else:
                    await admin.nodes.QuarantineNode(
                        admin_pb2.QuarantineNodeRequest(node_id=gone.node_id, reason=f"number {number}")
                    )
            verifier.kill()
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            verifier.start()
            async with verifier.person() as admin:
                known = await seen_by(admin, gone)
                assert known.state == (NODE_STATE_RETIRED if number == 3 else NODE_STATE_QUARANTINED)
                assert list((await seen_by(admin, kept)).leases) == ([lease] if number == 0 else [])

    with a_verifier(tmp_path, interval_seconds=0, trust_seconds=60) as verifier:
        asyncio.run(case(verifier))
