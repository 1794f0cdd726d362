"""A ledger on a database of its own, a follower that writes down what it is told, and a disk that a test takes away."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from nodeseal.errors import Unavailable
from nodeseal.ids import Digest, NodeId
from nodeseal.verifier.clock import Clock
from nodeseal.verifier.ledger.acts import Act, EvidenceExported, NodeQuarantined
from nodeseal.verifier.ledger.decided import Committed, Decided, Recorded
from nodeseal.verifier.ledger.journal import Journal
from nodeseal.verifier.ledger.leaf import MacKey
from nodeseal.verifier.ledger.ledger import Ledger
from nodeseal.verifier.ledger.restrictions import Restriction
from nodeseal.verifier.states import NodeState
from nodeseal.verifier.store.database import Store, made_engine
from nodeseal.verifier.store.nodes import NodeFacts, NodeRecord, NodeStanding, put_node
from nodeseal.verifier.store.schema import METADATA
from support.acts import AT, NODE

T = TypeVar("T")
MAC_KEY = MacKey(raw=bytes(32))


class NoTree:
    """Stands for the tree of a log where a test is about something else."""

    def last(self, _connection: sa.Connection) -> None:
        """Return nothing."""

    def extend(self, _connection: sa.Connection, _envelopes: object, _index: int) -> None:
        """Sign nothing."""

    def publish(self, _signed: object) -> None:
        """Write nothing."""


TELLING = EvidenceExported(node_id=NODE, quote_sha256=bytes(32), codes=(), findings=Digest(""))
"""An act that changes no row."""


class FlakyStore(Store):
    """A store whose disk a test takes away or fills; counts the transactions that write.

    Attributes:
        gone: whether it refuses every write.
        free: bytes that are left; None: as many as there are.
        writes: how many transactions it has begun.
    """

    gone = False
    free: int | None = None
    writes = 0

    async def write(self, change: Callable[[sa.Connection], T]) -> T:
        if self.gone:
            raise Unavailable("store: no disk")
        self.writes += 1
        return await super().write(change)

    def free_bytes(self) -> int:
        return super().free_bytes() if self.free is None else self.free


@dataclass
class Diary:
    """Follows a ledger and writes down what it is told, in order."""

    folded: list[Recorded] = field(default_factory=list)
    in_force: list[Restriction] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    def fold(self, recorded: Recorded) -> None:
        self.folded.append(recorded)
        self.events.append(f"fold {recorded.entry.act.kind}")

    def put_in_force(self, restriction: Restriction) -> None:
        self.in_force.append(restriction)
        self.events.append(f"in force {restriction.act.kind}")

    def lift(self, restriction: Restriction) -> None:
        self.in_force.remove(restriction)
        self.events.append(f"lift {restriction.act.kind}")


@dataclass
class Bench:
    """A ledger and what is around it.

    Attributes:
        folder: of database and journal.
        store: its store.
        ledger: the ledger.
        diary: what it told.
        steady: its steady clock, which a test moves.
    """

    folder: Path
    store: FlakyStore
    diary: Diary = field(default_factory=Diary)
    steady: float = 0.0
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin with a ledger that knows nothing but database and journal."""
        clock = Clock(wall=lambda: AT + timedelta(seconds=self.steady), steady=lambda: self.steady)
        self.diary = Diary()
        self.ledger = Ledger(self.store, MAC_KEY, Journal(self.folder / "journal"), clock, NoTree())
        self.ledger.follow(self.diary)

    @property
    def path(self) -> Path:
        """The database."""
        return self.folder / "db.sqlite"

    def kinds(self) -> list[str]:
        """Return the kinds of all acts in the order in which they were written."""
        return [row[0] for row in self.rows("SELECT kind FROM acts ORDER BY id")]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the database."""
        with closing(sqlite3.connect(self.path, timeout=20)) as connection:
            return list(connection.execute(query))

    def tamper(self, change: str, *values: object) -> None:
        """Change the database behind the verifier's back."""
        with closing(sqlite3.connect(self.path, timeout=20)) as connection:
            connection.execute(change, values)
            connection.commit()

    def journal_files(self) -> list[str]:
        """Return the names of the journal's files."""
        return sorted(path.name for path in (self.folder / "journal").iterdir())

    async def tell(self, act: Act = TELLING, actor: str = "person/kim", share: NodeId | None = None) -> Committed[None]:
        """Record an act."""
        return await self.ledger.commit(actor, lambda _: Decided(None, (act,)), share=share)

    async def quarantine(self, salt: int = 1, actor: str = "person/kim", node_id: NodeId = NODE) -> Committed[None]:
        """Quarantine a node."""
        return await self.ledger.restrict(quarantine_of(salt, actor, node_id))

    async def settle(self) -> None:
        """Let what waits be recorded, as far as the store takes it."""
        self.ledger.wake()
        await self.ledger.settle()


def quarantine_of(salt: int = 1, actor: str = "person/kim", node_id: NodeId = NODE) -> Restriction:
    """Return a restriction."""
    act = NodeQuarantined(node_id=node_id, reason="odd")
    return Restriction(act=act, actor=actor, at=AT, salt=bytes([salt]) * 16)


def node_record(node_id: NodeId = NODE) -> NodeRecord:
    """Return a node as enrolment leaves it."""
    return NodeRecord(
        node_id=node_id,
        ek_name=node_id.encode(),
        ak_name=b"ak",
        ak_public=b"public",
        certificate_sha256=bytes(32),
        next_certificate_sha256=None,
        facts=NodeFacts(hostname="h", boot_id="b", tpm_manufacturer="m", tpm_firmware="f"),
        enrolled=AT,
    )


@asynccontextmanager
async def a_ledger(folder: Path, state: NodeState = NodeState.STALE) -> AsyncIterator[Bench]:
    """Make a database with one node, and a ledger on it."""
    with made_engine(folder / "db.sqlite") as engine, closing(FlakyStore(engine)) as store:
        METADATA.create_all(engine)
        await store.write(lambda connection: put_node(connection, node_record(), NodeStanding(state=state)))
        store.writes = 0
        bench = Bench(folder, store)
        await bench.ledger.resume()
        try:
            yield bench
        finally:
            store.gone, store.free = False, None
            await bench.ledger.close()


def on_ledger(folder: Path, case: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    """Run a case on a fresh ledger."""

    async def whole() -> None:
        async with a_ledger(folder) as bench:
            await case(bench)

    asyncio.run(whole())
