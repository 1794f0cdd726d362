"""A database whose log has a tree, and what a test does to both."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from nodeseal.crypto.ed25519 import Ed25519Signer, new_log_key
from nodeseal.tlog.checkpoint import Checkpoint, SignedCheckpoint
from nodeseal.verifier.ledger.acts import EvidenceExported
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.ledger.leaf import MacKey
from nodeseal.verifier.ledger.log import LogShape, check_log, check_tree, open_log, open_tree, record_alone
from nodeseal.verifier.ledger.tree.log_tree import LogTree, read_checkpoint_file
from nodeseal.verifier.ledger.tree.sequencer import Sequencer
from nodeseal.verifier.store.database import Store, made_engine, run
from nodeseal.verifier.store.schema import METADATA
from support.acts import AT
from support.ledgers import TELLING

T = TypeVar("T")
KEY = MacKey(raw=bytes(32))
SIGNER = Ed25519Signer(new_log_key(), "log.key")


@dataclass
class LogBench:
    """A log with its tree.

    Attributes:
        folder: of database and checkpoint.
        engine: the database.
        store: the same.
    """

    folder: Path
    engine: sa.Engine
    store: Store

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin with a sequencer that knows nothing but database and file."""
        self.tree = LogTree(SIGNER, "example.org", self.file)
        self.sequencer = Sequencer(self.store, KEY, self.tree)

    @property
    def file(self) -> Path:
        """The checkpoint outside the database."""
        return self.folder / "checkpoint"

    @property
    def database(self) -> Path:
        """The database."""
        return self.folder / "db.sqlite"

    def tell(self, count: int = 1, act: EvidenceExported = TELLING) -> None:
        """Record acts that change no row."""
        record_alone(self.engine, KEY, "person/kim", AT, lambda _: Decided(None, (act,) * count))

    def number(self) -> SignedCheckpoint:
        """Number acts and publish the checkpoint over them."""
        asyncio.run(self.sequencer.number())
        assert self.sequencer.published is not None
        return self.sequencer.published

    def grow(self, count: int) -> SignedCheckpoint:
        """Record acts and number them."""
        self.tell(count)
        return self.number()

    def kept(self) -> Checkpoint:
        """Return the checkpoint outside the database."""
        return read_checkpoint_file(self.file, SIGNER.public).checkpoint

    def check(self) -> LogShape:
        """Check acts and tree as a start does."""
        shape = check_log(self.engine, KEY)
        check_tree(self.engine, shape, SIGNER.public)
        run(self.engine, LogTree(SIGNER, "example.org", self.file).last)
        return shape

    def change(self, statement: str, *values: object) -> None:
        """Change the database behind the verifier's back."""
        with closing(sqlite3.connect(self.database, timeout=20)) as connection:
            connection.execute(statement, values)
            connection.commit()

    def whole_database(self) -> bytes:
        """Return all bytes of the database."""
        self.engine.dispose()
        self.change("PRAGMA wal_checkpoint(TRUNCATE)")
        return self.database.read_bytes()

    def replace_database(self, content: bytes) -> None:
        """Put a database of earlier, or another, in the place of this one."""
        self.engine.dispose()
        for suffix in ("-wal", "-shm"):
            self.database.with_name(self.database.name + suffix).unlink(missing_ok=True)
        self.database.write_bytes(content)

    def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Read the database."""
        return run(self.engine, work)


@contextmanager
def a_log(folder: Path) -> Iterator[LogBench]:
    """Make a log with one act and its tree."""
    with made_engine(folder / "db.sqlite") as engine, closing(Store(engine)) as store:
        METADATA.create_all(engine)
        open_log(engine, KEY, AT)
        bench = LogBench(folder, engine, store)
        open_tree(engine, KEY, bench.tree)
        yield bench
