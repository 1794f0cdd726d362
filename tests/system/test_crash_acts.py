"""A verifier process that is killed between any two steps of any act, while people and nodes cause all kinds of them.

It kills itself at a step (:mod:`support.stepping`), or is killed at a moment. After each kill: no effect is without its
act, no act that was acknowledged is lost, every restriction that was acknowledged holds, a start finds nothing wrong.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

import pytest
from grpc import aio

from nodeseal.errors import Unavailable
from nodeseal.v1 import admin_pb2
from nodeseal.verifier.ledger.log import check_log, load_mac_key
from nodeseal.verifier.states import Role
from nodeseal.verifier.store.database import opened_engine
from support.admin import Sealed, a_sealed_model, activate, content_of, grant
from support.fake_node import FakeNode, a_node, golden_of
from support.hosts import Records, records_of
from support.releases import activate_golden_of, attest, joined
from support.replay import replay
from support.verifier import RunningVerifier, Stubs, a_verifier

KILLS = int(os.environ.get("NODESEAL_CRASH_KILLS", "6"))
STEPS = 500
"""Steps that a verifier takes at most until it is killed; some forty of them are its start."""
LONGEST_SECONDS = 4.0
"""How long after its start it is killed at the latest."""
QUERIES = {
    "node": "SELECT node_id, state FROM nodes",
    "label": "SELECT node_id, labels FROM nodes",
    "key": "SELECT key_id, CASE WHEN revoked IS NULL THEN 'in force' ELSE 'gone' END FROM model_keys",
    "silence": "SELECT key_id, silence_seconds FROM model_keys",
    "grant": "SELECT key_id || '/' || node_id, max_leases FROM grants",
    "golden": "SELECT digest, CASE WHEN retired IS NULL THEN 'in force' ELSE 'gone' END FROM goldens",
    "model": "SELECT digest, CASE WHEN retired IS NULL THEN 'in force' ELSE 'gone' END FROM models",
    "person": "SELECT name, CASE WHEN removed IS NULL THEN 'in force' ELSE 'gone' END FROM persons",
    "lease": "SELECT lease_id, CASE WHEN ended IS NULL THEN 'in force' ELSE 'gone' END FROM leases",
}
"""What the rows say of each thing; a thing without a row is ``none``."""


class Told:
    """What was asked of the verifier, and what of it was acknowledged.

    Attributes:
        allowed: what the rows may say of a thing: what was acknowledged last, or anything that was asked since.
        kinds: of things about which something was acknowledged.
    """

    def __init__(self) -> None:
        self.allowed: dict[tuple[str, str], set[str]] = {}
        self.kinds: set[str] = set()

    async def ask(self, kind: str, name: str, value: object, work: Awaitable[object]) -> None:
        """Ask for something; the verifier may be gone before it answers."""
        self.allowed.setdefault((kind, name), {"none"}).add(str(value))
        await work
        self.hold(kind, name, value)

    def hold(self, kind: str, name: str, value: object) -> None:
        """Remember what was acknowledged."""
        self.allowed[kind, name] = {str(value)}
        self.kinds.add(kind)

    def check(self, database: Path) -> None:
        """See to it that the rows say what they may, and remember what they say."""
        with closing(sqlite3.connect(database)) as connection:
            rows = {kind: dict(connection.execute(query)) for kind, query in QUERIES.items()}
        for (kind, name), allowed in self.allowed.items():
            found = str(rows[kind].get(name, "none"))
            assert found in allowed, (kind, name, found, allowed)
            self.allowed[kind, name] = {found, "gone"} if kind == "lease" else {found}


class Load:
    """People and nodes who do everything that is recorded, over and over."""

    def __init__(self, verifier: RunningVerifier, people: Stubs, opener: FakeNode, model: Sealed, told: Told) -> None:
        self.verifier, self.people, self.opener, self.model, self.told = verifier, people, opener, model, told

    async def nodes(self, numbers: Iterator[int]) -> None:
        """Enrol a node, label, quarantine and admit it, and retire it."""
        node = a_node(self.verifier)
        await node.enrol()
        self.told.hold("node", node.node_id, "pending")
        self.told.hold("label", node.node_id, "{}")
        known, ask = node.node_id, self.told.ask
        reason = f"number {next(numbers)}"
        labelled = admin_pb2.LabelNodeRequest(node_id=known, labels={"rack": "r1"})
        await ask("label", known, '{"rack":"r1"}', self.people.nodes.LabelNode(labelled))
        quarantined = admin_pb2.QuarantineNodeRequest(node_id=known, reason=reason)
        await ask("node", known, "quarantined", self.people.nodes.QuarantineNode(quarantined))
        await ask("node", known, "stale", self.people.nodes.AdmitNode(admin_pb2.AdmitNodeRequest(node_id=known)))
        retired = admin_pb2.RetireNodeRequest(node_id=known, reason=reason)
        await ask("node", known, "retired", self.people.nodes.RetireNode(retired))

    async def keys(self, numbers: Iterator[int]) -> None:
        """Create a key, set its policy, grant it, withdraw the grant, and revoke it."""
        key, node, ask = f"key-{next(numbers)}", self.opener.node_id, self.told.ask
        await ask("key", key, "in force", self.people.keys.CreateKey(admin_pb2.CreateKeyRequest(key_id=key)))
        self.told.hold("silence", key, 0)
        policy = admin_pb2.SetKeyPolicyRequest(key_id=key, silence_seconds=60)
        await ask("silence", key, 60, self.people.keys.SetKeyPolicy(policy))
        await ask("grant", f"{key}/{node}", 3, grant(self.people, self.opener, key, max_leases=3))
        withdrawn = admin_pb2.RevokeKeyRequest(key_id=key, node_id=node, reason="test")
        await ask("grant", f"{key}/{node}", "none", self.people.keys.RevokeKey(withdrawn))
        revoked = admin_pb2.RevokeKeyRequest(key_id=key, reason="test")
        await ask("key", key, "gone", self.people.keys.RevokeKey(revoked))

    async def goldens(self, numbers: Iterator[int]) -> None:
        """Activate a golden and retire it."""
        document = golden_of(self.opener, name=f"golden-{next(numbers)}")
        digest = await activate(self.people, document)
        self.told.hold("golden", digest, "in force")
        retired = self.people.goldens.RetireGolden(admin_pb2.RetireGoldenRequest(digest=digest))
        await self.told.ask("golden", digest, "gone", retired)

    async def models(self, numbers: Iterator[int]) -> None:
        """Register a model, retire it, and register it again."""
        content = content_of("crash", next(numbers) + 1)
        digest = (await self.people.models.RegisterModel(admin_pb2.RegisterModelRequest(content=content))).digest
        self.told.hold("model", digest, "in force")
        retired = self.people.models.RetireModel(admin_pb2.RetireModelRequest(digest=digest))
        await self.told.ask("model", digest, "gone", retired)
        again = admin_pb2.RegisterModelRequest(content=content, again=True)
        await self.told.ask("model", digest, "in force", self.people.models.RegisterModel(again))

    async def persons(self, numbers: Iterator[int]) -> None:
        """Add a person and remove them, by another process on the same database."""
        name = f"person-{next(numbers)}"
        await self.told.ask("person", name, "in force", asyncio.to_thread(self.verifier.add_person, name, Role.AUDITOR))
        await self.told.ask("person", name, "gone", asyncio.to_thread(self.verifier.remove_person, name))

    async def releases(self, _: Iterator[int]) -> None:
        """Open a model; the next release ends this lease."""
        released = await self.opener.release(self.model.digest, [self.model.slot])
        assert self.opener.open(released) == self.model.data_key
        self.told.allowed["lease", released.lease_id] = {"in force", "gone"}
        self.told.kinds.add("lease")
        self.opener.leases = ()

    async def rounds(self, _: Iterator[int]) -> None:
        """Prove the state of a node."""
        async with self.opener.attesting() as stream:
            while True:
                await stream.round()


async def _until_gone(
    verifier: RunningVerifier, work: Callable[[Iterator[int]], Awaitable[None]], numbers: Iterator[int]
) -> None:
    """Do something over and over; a verifier that is gone, or a database that another process locks, is no error.

    Not until it is cancelled: calls of gRPC take a cancellation for the end of the verifier, if both come at once.
    """
    while verifier.process.poll() is None:
        with suppress(aio.AioRpcError, Unavailable):
            await work(numbers)
        await asyncio.sleep(0.01)


async def _until_killed(
    verifier: RunningVerifier, told: Told, seen: tuple[FakeNode, Sealed], numbers: Iterator[int]
) -> None:
    async with verifier.person() as people:
        load = Load(verifier, people, *seen, told)
        works = (load.nodes, load.keys, load.goldens, load.models, load.persons, load.releases, load.rounds)
        tasks = [asyncio.create_task(_until_gone(verifier, work, numbers)) for work in works]
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(verifier.process.wait, LONGEST_SECONDS)
        verifier.kill()
        await asyncio.sleep(0.05)  # what was on its way arrives
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            assert ended is None or isinstance(ended, asyncio.CancelledError), ended


async def _prepared(verifier: RunningVerifier) -> tuple[FakeNode, Sealed]:
    async with verifier.person() as admin:
        node = await joined(verifier)
        await activate_golden_of(admin, node)
        await attest(node)
        model = await a_sealed_model(admin)
        await grant(admin, node)
        return node, model


def _start(verifier: RunningVerifier, step: int) -> bool:
    """Start it so that it ends at a step; tell whether it got ready before."""
    verifier.program = ("support.stepping", str(step))
    try:
        verifier.start()
    except AssertionError:
        assert verifier.process.returncode == -signal.SIGKILL
        return False
    finally:
        verifier.program = ()
    return True


def _check(verifier: RunningVerifier, before: Records, scratch: Path) -> Records:
    """See what is left on the disk."""
    records = records_of(verifier)
    records.check(before)
    with opened_engine(verifier.folder / "verifier.sqlite") as engine:
        check_log(engine, load_mac_key(verifier.folder / "acts.key"))
    replay(verifier.folder / "verifier.sqlite", scratch)
    return records


@pytest.mark.timeout(120 + 20 * KILLS)
def test_a_verifier_killed_at_any_step_of_any_act_loses_nothing_that_was_told(tmp_path: Path) -> None:
    chance = random.Random(4)  # noqa: S311 - the same in every run
    told, numbers = Told(), count(1)
    with a_verifier(tmp_path, interval_seconds=0) as verifier:
        config = verifier.folder / "verifier.yaml"
        config.write_text(config.read_text().replace("per_minute: 60", "per_minute: 100000"))
        seen, records = asyncio.run(_prepared(verifier)), records_of(verifier)
        verifier.kill()
        for _ in range(KILLS):
            if _start(verifier, chance.randint(1, STEPS)):
                told.check(verifier.folder / "verifier.sqlite")
                asyncio.run(_until_killed(verifier, told, seen, numbers))
            records = _check(verifier, records, tmp_path / "replayed.sqlite")
        verifier.start()
        told.check(verifier.folder / "verifier.sqlite")
        assert list((verifier.folder / "journal").iterdir()) == []
        asyncio.run(attest(seen[0]))
    assert told.kinds == QUERIES.keys()
