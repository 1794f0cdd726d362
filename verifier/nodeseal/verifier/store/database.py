"""The database behind two worker threads: transactions are functions of a connection.

SQLite in WAL mode with ``synchronous=FULL``: a transaction is on disk when :meth:`Store.write` returns. A database that
is locked, read-only, full or gone raises :class:`~nodeseal.errors.Unavailable`. The next call tries again, so the store
recovers when the disk does.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from shutil import disk_usage
from typing import Final, TypeVar
from urllib.parse import quote
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from nodeseal.errors import Unavailable
from nodeseal.files import PRIVATE, write_file
from nodeseal.verifier.store.prepared import Prepared

T = TypeVar("T")
BUSY_SECONDS: Final = 2.0
_SAVE: Final = Prepared(sa.text("SAVEPOINT decision"))
_UNDO: Final = Prepared(sa.text("ROLLBACK TO SAVEPOINT decision"))
_KEEP: Final = Prepared(sa.text("RELEASE SAVEPOINT decision"))
_ERRORS: Final[WeakKeyDictionary[sa.Pool, _Errors]] = WeakKeyDictionary()
"""Errors of each pool of connections."""
_UNUSED: Final = "unused"
_PRAGMAS: Final = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "trusted_schema=OFF")


@contextmanager
def opened_engine(path: Path) -> Iterator[sa.Engine]:
    """Open the SQLite file ``path`` while the block runs; transactions that write say so before they read.

    A file that does not exist is not made: every transaction fails as long as it is away.
    """
    with _engine(path, _address(path)) as engine:
        sa.event.listen(engine, "connect", _prepare)
        yield engine


@contextmanager
def inspected_engine(path: Path) -> Iterator[sa.Engine]:
    """Open the SQLite file ``path`` for reading alone while the block runs: neither it nor what lies beside it changes.

    If a write-ahead log lies there, the file is shared with whoever writes it, and not tidied up behind somebody who
    was killed. Else nobody has it open, and SQLite is told not to make the files by which it would share it. If
    somebody comes to write meanwhile, the reader may find it damaged.
    """
    alone = not path.with_name(f"{path.name}-wal").exists()
    with _engine(path, f"{_address(path, 'ro')}{'&immutable=1' if alone else ''}") as engine:
        yield engine


def _address(path: Path, mode: str = "rw") -> str:
    return f"file:{quote(str(path.absolute()))}?mode={mode}"


@contextmanager
def _engine(path: Path, address: str) -> Iterator[sa.Engine]:
    def connect() -> sqlite3.Connection:
        return sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None)

    # The driver's own transaction control starts transactions too late (at the first write), so it is off above.
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), creator=connect)
    sa.event.listen(engine, "begin", _begin)
    errors = _ERRORS[engine.pool] = _Errors()
    sa.event.listen(engine, "connect", errors.note)
    sa.event.listen(engine, "checkout", errors.refuse_old)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def made_engine(path: Path) -> Iterator[sa.Engine]:
    """Make an empty database, for its owner alone, and open it while the block runs.

    Raises:
        Unavailable: there is such a file, or it cannot be written.
    """
    write_file(path, b"", PRIVATE)
    with opened_engine(path) as engine:
        yield engine


def require_database(path: Path) -> None:
    """Make sure that there is a database; a mistyped name must not become an empty one.

    Raises:
        Unavailable: there is no such file.
    """
    if not path.is_file():
        remedy = "correct database: in verifier.yaml, or restore the backup; only nodeseal-verifier init makes one"
        raise Unavailable(f"database: {path}: no such file", remedy=remedy)


def copy_database(source: Path, target: Path) -> None:
    """Copy a database in one consistent state into a new file; others may use it meanwhile.

    Raises:
        Unavailable: there is none, it cannot be read, or the copy exists or cannot be written.
    """
    require_database(source)
    write_file(target, b"", PRIVATE)
    try:
        with (
            closing(sqlite3.connect(_address(source), uri=True, timeout=BUSY_SECONDS)) as whole,
            closing(sqlite3.connect(target)) as copy,
        ):
            whole.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, until somebody opens it
    except sqlite3.Error as error:
        raise Unavailable(f"database: {source}: {error}", remedy="check its disk, and the disk of the copy") from error


def _prepare(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


class Savepoint:
    """A place in a transaction to which what is written after it can be undone."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection: Final = connection
        _SAVE.run(connection)

    def undo(self) -> None:
        """Undo what was written since."""
        _UNDO.run(self._connection)
        self.keep()

    def keep(self) -> None:
        """Let what was written since be part of the transaction."""
        _KEEP.run(self._connection)


class _Errors:
    """Lets no connection be used again after an error: one that was made while the disk was read-only stays so.

    Each is closed when it is next asked for. To dispose of the engine would lose those that another thread uses,
    unclosed.
    """

    def __init__(self) -> None:
        self._last = 0

    def happened(self) -> None:
        """Distrust all connections that were made until now."""
        self._last += 1

    def note(self, _: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        """Note how many errors a new connection comes after, and that nobody has used it."""
        entry.info[self] = self._last
        entry.info[_UNUSED] = True

    def refuse_old(self, _: DBAPIConnection, entry: ConnectionPoolEntry, _proxy: sa.PoolProxiedConnection) -> None:
        """Let the pool make another connection in place of one from before the last error.

        One that was made for this request is used, whatever another thread has met meanwhile: the pool tries no third.
        """
        if not entry.info.pop(_UNUSED, False) and entry.info[self] < self._last:
            raise sa.exc.DisconnectionError


class Store:
    """Runs transactions on two threads, so that the event loop never waits for a disk, nor a reader for a writer.

    The engine belongs to whoever opened it, and must stay open longer.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine: Final = engine
        self._writer: Final = engine.execution_options(writes=True)
        self._reads: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store-reads")
        self._writes: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store-writes")

    async def read(self, query: Callable[[sa.Connection], T]) -> T:
        """Run ``query`` in a transaction that changes nothing.

        Raises:
            Unavailable: the database cannot be used now.
        """
        return await asyncio.get_running_loop().run_in_executor(self._reads, run, self._engine, query)

    async def read_soon(self, query: Callable[[sa.Connection], T]) -> T:
        """Run ``query`` as :meth:`read` does, for somebody who can do without.

        Raises:
            Unavailable: the database cannot be used now, or does not answer within seconds.
        """
        try:
            async with asyncio.timeout(BUSY_SECONDS):
                return await self.read(query)
        except TimeoutError as error:
            raise Unavailable("store: no answer in time", remedy="check the database's disk") from error

    async def write(self, change: Callable[[sa.Connection], T]) -> T:
        """Run ``change`` in one transaction, which is durable when this returns and leaves no trace if it raises.

        Raises:
            Unavailable: the database cannot be used now.
        """
        return await asyncio.get_running_loop().run_in_executor(self._writes, run, self._writer, change)

    def free_bytes(self) -> int:
        """Return how much room is left for the database.

        Raises:
            Unavailable: its disk does not say.
        """
        try:
            return disk_usage(Path(str(self._engine.url.database)).parent).free
        except OSError as error:
            raise Unavailable(f"store: {error.strerror}") from error

    def close(self) -> None:
        """Finish the transactions that have begun, and end the threads."""
        self._writes.shutdown(wait=True)
        self._reads.shutdown(wait=True)


def run(engine: sa.Engine, work: Callable[[sa.Connection], T]) -> T:
    """Run ``work`` in one transaction of ``engine``.

    Raises:
        Unavailable: the database cannot be used now.
    """
    try:
        with engine.begin() as connection:
            return work(connection)
    except sa.exc.DBAPIError as error:
        _ERRORS[engine.pool].happened()
        raise Unavailable(
            f"store: {error.orig}", remedy="check the database's disk: space, permissions, load"
        ) from error
