"""Durable acts: eight writers on a ledger with SQLite, against writing and syncing the same bytes one act at a time.

Both sides wait for the same disk, so both are on the wall. Group commit lets one sync carry the acts of all writers;
each of them begins a lease, with its row, its versions, its envelope, body and MAC.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import statistics
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import sqlalchemy as sa

from benchmarks.harness import Result, ratios
from nodeseal.ids import Digest, KeyId, ModelId, NodeId, lease_id_of
from nodeseal.verifier.clock import SYSTEM
from nodeseal.verifier.ledger.acts import LeaseIssued
from nodeseal.verifier.ledger.decided import Decided, Recorded
from nodeseal.verifier.ledger.journal import Journal
from nodeseal.verifier.ledger.leaf import MacKey
from nodeseal.verifier.ledger.ledger import Ledger
from nodeseal.verifier.ledger.restrictions import Restriction
from nodeseal.verifier.states import NodeState
from nodeseal.verifier.store.database import Store, made_engine
from nodeseal.verifier.store.migrate import migrate
from nodeseal.verifier.store.nodes import NodeFacts, NodeRecord, NodeStanding, put_node
from nodeseal.verifier.store.policy import KeyRecord, ModelRecord, add_key, add_model

_WRITERS: Final = 8
_SECONDS: Final = 2.0
_NODE: Final = NodeId("n-" + "a" * 26)
_KEY: Final = KeyId("bench")
_MODEL: Final = Digest("0" * 64)
_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)


class _Nobody:
    """Follows and remembers nothing."""

    def fold(self, recorded: Recorded) -> None:
        """Ignore it."""

    def put_in_force(self, restriction: Restriction) -> None:
        """Ignore it."""

    def lift(self, restriction: Restriction) -> None:
        """Ignore it."""


class _NoTree:
    """Stands for the tree, which grows twenty times a second at most, whatever the rate of acts."""

    def last(self, _connection: sa.Connection) -> None:
        """Return nothing."""

    def extend(self, _connection: sa.Connection, _envelopes: object, _index: int) -> None:
        """Sign nothing."""

    def publish(self, _signed: object) -> None:
        """Write nothing."""


def acts_over_fsync() -> Result:
    """Commit acts with eight writers, and write and sync their bytes one after the other, in turn."""
    with _bench() as bench:
        runs = ratios(bench.acts_per_second, bench.syncs_per_second)
    acts, syncs = statistics.median(bench.acts), statistics.median(bench.syncs)
    note = f"on the wall: {acts:.0f} acts, {syncs:.0f} times write and fdatasync of {bench.size} bytes a second"
    return Result.of(runs, against="write and fdatasync of the bytes of each act on the same disk", note=note)


@dataclass
class _Bench:
    folder: Path
    store: Store
    acts: list[float]
    syncs: list[float]
    size: int = 0

    def acts_per_second(self) -> float:
        """Return how many acts are durable in a second with eight writers."""
        self.acts.append(asyncio.run(self._commit()))
        return self.acts[-1]

    async def _commit(self) -> float:
        ledger = Ledger(self.store, MacKey(raw=secrets.token_bytes(32)), Journal(self.folder), SYSTEM, _NoTree())
        ledger.follow(_Nobody())
        began = time.perf_counter()
        done = await asyncio.gather(*(self._write(ledger, began + _SECONDS) for _ in range(_WRITERS)))
        return sum(done) / (time.perf_counter() - began)

    async def _write(self, ledger: Ledger, end: float) -> int:
        done = 0
        while time.perf_counter() < end:
            act = _lease()
            committed = await ledger.commit(f"node/{_NODE}", lambda _, act=act: Decided(None, (act,)))  # type: ignore[misc]
            self.size = committed.size
            done += 1
        return done

    def syncs_per_second(self) -> float:
        """Return how often as many bytes are written and synced in a second."""
        content, done, path = secrets.token_bytes(self.size), 0, self.folder / "bare"
        file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        try:
            began = time.perf_counter()
            while (spent := time.perf_counter() - began) < _SECONDS:
                os.write(file, content)
                os.fdatasync(file)
                done += 1
        finally:
            os.close(file)
            path.unlink()
        self.syncs.append(done / spent)
        return self.syncs[-1]


@contextmanager
def _bench() -> Iterator[_Bench]:
    with (
        TemporaryDirectory(prefix="nodeseal-bench-") as name,
        made_engine(Path(name) / "acts.sqlite") as engine,
        closing(Store(engine)) as store,
    ):
        migrate(engine)
        with engine.execution_options(writes=True).begin() as connection:
            _prepare(connection)
        yield _Bench(Path(name), store, [], [])


def _prepare(connection: sa.Connection) -> None:
    record = NodeRecord(
        node_id=_NODE,
        ek_name=b"ek",
        ak_name=b"ak",
        ak_public=b"public",
        certificate_sha256=bytes(32),
        next_certificate_sha256=None,
        facts=NodeFacts(hostname="h", boot_id="b", tpm_manufacturer="m", tpm_firmware="f"),
        enrolled=_AT,
    )
    put_node(connection, record, NodeStanding(state=NodeState.TRUSTED))
    add_key(connection, KeyRecord(key_id=_KEY, version=1, suite="x", public=b"p", created=_AT, place="file"))
    add_model(
        connection,
        ModelRecord(
            digest=_MODEL, model_id=ModelId("bench"), version=1, size=1, files=1, content=b"{}", registered=_AT
        ),
    )


def _lease() -> LeaseIssued:
    return LeaseIssued(
        lease_id=lease_id_of(secrets.token_bytes(32)),
        node_id=_NODE,
        ak_name=b"\x00\x0b" + bytes(32),
        model_digest=_MODEL,
        key_id=_KEY,
        key_version=1,
        goldens=(Digest("1" * 64),),
        release_key_name=b"\x00\x0b" + bytes(32),
        quote_sha256=bytes(32),
        trusted_until=_AT,
        silence_seconds=0,
    )
