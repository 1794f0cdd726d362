"""Proofs from stored tiles: an inclusion proof in a tree of ten million leaves, from a database that was just opened.

Cold: each proof reads the tiles that it needs and hashes them, with nothing kept from the one before.
The tree is the real one: made by the codec that the sequencer uses, over ten million different hashes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final

import sqlalchemy as sa

from benchmarks.harness import Result
from nodeseal.tlog.tiles import Tile, TiledTree, extended
from nodeseal.tlog.tree import inclusion_path, root_of, verify_inclusion
from nodeseal.verifier.store.database import made_engine
from nodeseal.verifier.store.migrate import migrate
from nodeseal.verifier.store.tree import find_tile, put_tiles

_LEAVES: Final = 10_000_000
_BATCH: Final = 1 << 16
_PROOFS: Final = 200


def audit_proof_us() -> Result:
    """Prove leaves all over a tree of ten million, each from tiles that nothing has read before."""
    with _tree() as engine:
        with engine.connect() as connection:
            root = root_of(_LEAVES, TiledTree(partial(_read, connection)).subtree)
        chance = Random(1)  # noqa: S311 - the same leaves in each run
        times = [_prove(engine, chance.randrange(_LEAVES), root) for _ in range(_PROOFS)]
    middle = statistics.median(times)
    spread = f"{min(times):.0f} to {max(times):.0f}"
    note = f"median of {_PROOFS} proofs, {spread} µs; verified outside the time measured"
    return Result.of((middle,), unit="µs", against=f"tiles of {_LEAVES:,} leaves in SQLite, cold", note=note)


def _prove(engine: sa.Engine, index: int, root: bytes) -> float:
    with engine.connect() as connection:
        began = time.perf_counter()
        tree = TiledTree(partial(_read, connection))
        path = inclusion_path(index, _LEAVES, tree.subtree)
        spent = (time.perf_counter() - began) * 1e6
    verify_inclusion(_leaf(index), index, _LEAVES, root, path)
    return spent


def _read(connection: sa.Connection, tile: Tile) -> bytes:
    return find_tile(connection, 0, *tile)


def _leaf(number: int) -> bytes:
    return sha256(number.to_bytes(8, "big")).digest()


@contextmanager
def _tree() -> Iterator[sa.Engine]:
    with (
        TemporaryDirectory(prefix="nodeseal-bench-") as name,
        made_engine(Path(name) / "tree.sqlite") as engine,
    ):
        migrate(engine)
        with engine.execution_options(writes=True).begin() as connection:
            for start in range(0, _LEAVES, _BATCH):
                leaves = [_leaf(number) for number in range(start, min(start + _BATCH, _LEAVES))]
                tiles = extended(start, leaves, partial(_read, connection))
                put_tiles(connection, 0, ((*tile, content) for tile, content in tiles.items()))
        yield engine
