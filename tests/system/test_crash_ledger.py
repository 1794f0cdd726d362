"""A ledger that is killed between any two steps of any act, hundreds of times.

A child process restricts, widens, enrols, lends and labels at the same time, says what it was told, and kills itself at
a random step: before, within or after a transaction, a file of the journal, a fold. What is left on the disk must hold
all that was told, in particular every restriction, and no effect without its act.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sqlite3
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from nodeseal.crypto.ed25519 import Ed25519Signer, new_log_key
from nodeseal.errors import NodesealError
from nodeseal.ids import ModelId, NodeId, lease_id_of
from nodeseal.tlog.checkpoint import parse_checkpoint
from nodeseal.tlog.note import decode_note
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr import PcrSelection
from nodeseal.verifier.clock import SYSTEM
from nodeseal.verifier.config import AttestationSettings
from nodeseal.verifier.fleet.admin import NodeAdmin
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.ledger import acts
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.ledger.documents import document_of
from nodeseal.verifier.ledger.journal import Journal
from nodeseal.verifier.ledger.leaf import MacKey
from nodeseal.verifier.ledger.ledger import Ledger
from nodeseal.verifier.ledger.log import check_log, check_tree, open_log, open_tree, record_alone
from nodeseal.verifier.ledger.tree.log_tree import LogTree, read_checkpoint_file, read_head, require_beginning
from nodeseal.verifier.states import NodeState
from nodeseal.verifier.store.database import Store, made_engine, opened_engine, run
from nodeseal.verifier.store.leases import running_leases
from nodeseal.verifier.store.nodes import find_node
from nodeseal.verifier.store.schema import METADATA
from support.acts import AT, EXAMPLES, KEY, NODE, OTHER_NODE
from support.mandates import KIM
from support.replay import replay
from support.stepping import Steps

KILLS = int(os.environ.get("NODESEAL_CRASH_KILLS", "12")) * 8
STEPS = 220
"""Steps that a child takes at most until it is killed."""
MAC_KEY = MacKey(raw=bytes(range(32)))
SIGNER = Ed25519Signer(new_log_key(), "log.key")
SELECTION = PcrSelection.of({HashAlg.SHA256: range(10)})
SETTINGS = AttestationSettings(interval_seconds=30, trust_seconds=120, answer_within_seconds=15, selection=SELECTION)
MODEL = document_of(b"{}")
LENDING = NodeId("n-" + "c" * 26)


def a_tree(folder: Path) -> LogTree:
    """Return the tree of the ledger in a folder."""
    return LogTree(SIGNER, "example.org", folder / "checkpoint")


def enrolled(node_id: NodeId, state: NodeState) -> acts.NodeEnrolled:
    act = EXAMPLES["node.enrolled"]
    assert isinstance(act, acts.NodeEnrolled)
    return replace(act, node_id=node_id, ek_name=node_id.encode(), state=state)


def prepare(path: Path) -> None:
    """Make a database with three nodes, a key and a model, all of it by acts."""
    made: tuple[acts.Act, ...] = (
        acts.KeyCreated(key_id=KEY, key_version=1, suite="x", public=b"p", place="file", silence_seconds=0),
        acts.ModelRegistered(digest=MODEL.digest, model_id=ModelId("m"), model_version=1, size=1, files=1, again=False),
        *(enrolled(node_id, NodeState.STALE) for node_id in (NODE, OTHER_NODE, LENDING)),
    )
    with made_engine(path) as engine:
        METADATA.create_all(engine)
        open_log(engine, MAC_KEY, AT)
        record_alone(engine, MAC_KEY, "test", AT, lambda _: Decided(None, made, contents=(MODEL,)))
        open_tree(engine, MAC_KEY, a_tree(path.parent))


# The child


def child(folder: Path, last: int, seed: int, told: Connection) -> None:
    """Act until a step ends this process."""
    Steps(last).install()
    asyncio.run(_act(folder, random.Random(seed), told))  # noqa: S311 - the same in every run


async def _act(folder: Path, chance: random.Random, told: Connection) -> None:
    async with _fleet(folder) as (fleet, _):
        load = _Load(fleet, chance, told)
        await asyncio.gather(
            load.decide_about(NODE), load.decide_about(OTHER_NODE), load.lend(), load.enrol(), load.flush()
        )


class _Load:
    """What a child does without end."""

    def __init__(self, fleet: Fleet, chance: random.Random, told: Connection) -> None:
        self._fleet = fleet
        self._people = NodeAdmin(fleet)
        self._chance = chance
        self._told = told

    async def _say(self, *words: str, of: Awaitable[Any]) -> None:
        self._told.send(("asked", *words))
        try:
            await of
        except NodesealError as error:
            self._told.send(("refused", *words, type(error).__name__))
        else:
            self._told.send(("told", *words))

    def _record(self, act: acts.Act) -> Awaitable[Any]:
        return self._fleet.ledger.commit("test", lambda _: Decided(None, (act,)))

    async def decide_about(self, node_id: NodeId) -> None:
        """Quarantine, label and admit a node."""
        for number in count():
            quarantined = self._people.quarantine(node_id, f"number {number}", "person/kim")
            await self._say("quarantined", node_id, of=quarantined)
            labelled = self._people.label(node_id, {"rack": f"r{number}"}, KIM)
            await self._say("labelled", node_id, of=labelled)
            await self._say("stale", node_id, of=self._people.admit(node_id, KIM))

    async def lend(self) -> None:
        """Begin leases, and now and then end all of them by a quarantine."""
        while True:
            lease_id = lease_id_of(self._chance.randbytes(32))
            act = replace(EXAMPLES["lease.issued"], lease_id=lease_id, node_id=LENDING, model_digest=MODEL.digest)
            await self._say("lease", lease_id, of=self._record(act))
            if self._chance.random() < 0.3:
                quarantined = self._people.quarantine(LENDING, "leases end", "person/kim")
                await self._say("no leases", LENDING, of=quarantined)
                await self._say("admitted", LENDING, of=self._people.admit(LENDING, KIM))

    async def enrol(self) -> None:
        """Enrol one node after the other."""
        for number in count():
            node_id = NodeId("n-" + "d" * 24 + chr(97 + number // 26) + chr(97 + number % 26))
            await self._say("enrolled", node_id, of=self._record(enrolled(node_id, NodeState.PENDING)))

    async def flush(self) -> None:
        """Move progress, and number acts."""
        while True:
            for node in self._fleet:
                node.last_seen = datetime.now(UTC)
                self._fleet.touch(node)
            await self._fleet.flush()
            await self._fleet.ledger.sequence()
            signed = self._fleet.ledger.published
            if signed is not None:
                self._told.send(("tree", signed.raw.decode()))
            await asyncio.sleep(0.001)


@asynccontextmanager
async def _fleet(folder: Path) -> AsyncIterator[tuple[Fleet, Store]]:
    with opened_engine(folder / "db.sqlite") as engine, closing(Store(engine)) as store:
        fleet = Fleet(Ledger(store, MAC_KEY, Journal(folder / "journal"), SYSTEM, a_tree(folder)), SETTINGS)
        try:
            await fleet.load([])
            yield fleet, store
        finally:
            await fleet.ledger.close()


# What is left


def told_by(folder: Path, last: int, seed: int) -> list[tuple[str, ...]]:
    """Let a child act until its last step; return what it said."""
    context = get_context("fork")
    mine, its = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(folder, last, seed, its))
    process.start()
    its.close()
    said: list[tuple[str, ...]] = []
    try:
        while True:
            said.append(mine.recv())
    except EOFError:
        process.join(30)
    assert process.exitcode == -signal.SIGKILL, process.exitcode
    return said


def states_allowed(said: list[tuple[str, ...]], node_id: str) -> set[str]:
    """Return the states in which a node may be: the last that somebody was told, or one that was asked for since."""
    allowed = {"stale"}
    for word, state, *about in said:
        if about[:1] != [node_id] or state not in {"quarantined", "stale"}:
            continue
        allowed = {state} if word == "told" else allowed | {state}
    return allowed


async def check(folder: Path, said: list[tuple[str, ...]]) -> None:
    """See what a start finds, before and after it has recorded what the journal holds."""
    with opened_engine(folder / "db.sqlite") as engine:
        check_tree(engine, check_log(engine, MAC_KEY), SIGNER.public)
    one_tree(folder, said)
    async with _fleet(folder) as (fleet, store):
        for node_id in (NODE, OTHER_NODE):
            assert fleet.get(node_id).state.value in states_allowed(said, node_id), said
        await fleet.ledger.settle()
        for node in fleet:
            stored = await store.read(lambda made, node=node: find_node(made, node.record.node_id))  # type: ignore[misc]
            assert stored is not None
            assert (stored.standing.state, node.overlay, node.ending) == (node.state, (), frozenset())
        enrolled_ = {words[1] for word, *words in said if word == "told" and words[0] == "enrolled"}
        assert enrolled_ <= {node.record.node_id for node in fleet}
        running = {lease.lease_id for lease in await store.read(running_leases)}
        assert running == set(fleet.get(LENDING).leases)
    assert list((folder / "journal").iterdir()) == []


def one_tree(folder: Path, said: list[tuple[str, ...]]) -> None:
    """See to it that every checkpoint that was given out, and the one outside, is of the tree in the database."""
    kept = read_checkpoint_file(folder / "checkpoint", SIGNER.public).checkpoint
    told = [parse_checkpoint(decode_note(note.encode()).text) for word, note, *_ in said if word == "tree"]
    with opened_engine(folder / "db.sqlite") as engine:
        for earlier in (*told, kept):
            run(engine, lambda rows, of=earlier: require_beginning(rows, read_head(rows, SIGNER.public), of))  # type: ignore[misc]


def leases_hold(folder: Path, said: list[tuple[str, ...]]) -> None:
    """See to it that leases that were told are there, and have ended if a quarantine was told after them."""
    with closing(sqlite3.connect(folder / "db.sqlite")) as connection:
        rows = dict(connection.execute("SELECT lease_id, ended FROM leases"))
    begun: list[str] = []
    for word, what, *rest in said:
        about = "".join(rest[:1])
        if (word, what) == ("told", "lease"):
            begun.append(about)
        elif (word, what) == ("told", "no leases"):
            assert all(rows[lease] is not None for lease in begun), said
    assert set(begun) <= rows.keys()


@pytest.mark.timeout(60 + 3 * KILLS)
def test_a_ledger_killed_at_any_step_loses_nothing_that_was_told(tmp_path: Path) -> None:
    chance = random.Random(3)  # noqa: S311 - the same in every run
    prepare(tmp_path / "first.sqlite")
    told = 0
    for number in range(KILLS):
        folder = tmp_path / str(number)
        folder.mkdir()
        shutil.copy(tmp_path / "first.sqlite", folder / "db.sqlite")
        shutil.copy(tmp_path / "checkpoint", folder / "checkpoint")
        said = told_by(folder, chance.randint(1, STEPS), number)
        asyncio.run(check(folder, said))
        leases_hold(folder, said)
        assert replay(folder / "db.sqlite", folder / "replayed.sqlite") >= 6
        told += sum(word == "told" for word, *_ in said)
        shutil.rmtree(folder)
    assert told > 3 * KILLS
