"""Tiles and checkpoints in the database. It stores bytes and knows no tree.

``first`` is the index of the act that is leaf 0 of a tree. A database that was restored has several trees.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from nodeseal.verifier.store.prepared import Prepared
from nodeseal.verifier.store.schema import ACTS, CHECKPOINTS, TILES

_NEW_TILE: Final = insert(TILES)
_PUT_TILE: Final = Prepared(
    _NEW_TILE.on_conflict_do_update(
        index_elements=[TILES.c.first, TILES.c.level, TILES.c.number], set_={"content": _NEW_TILE.excluded.content}
    ),
    "first",
    "level",
    "number",
    "content",
)
_FIND_TILE: Final = Prepared(
    sa.select(TILES.c.content).where(
        TILES.c.first == sa.bindparam("of"), TILES.c.level == sa.bindparam("at"), TILES.c.number == sa.bindparam("n")
    )
)
_NEW_CHECKPOINT: Final = insert(CHECKPOINTS)
_PUT_CHECKPOINT: Final = Prepared(
    _NEW_CHECKPOINT.on_conflict_do_update(
        index_elements=[CHECKPOINTS.c.first], set_={"note": _NEW_CHECKPOINT.excluded.note}
    ),
    "first",
    "note",
)
_NEWEST: Final = Prepared(
    sa.select(CHECKPOINTS.c.first, CHECKPOINTS.c.note)
    .order_by(CHECKPOINTS.c.first.desc())
    .limit(sa.literal_column("1"))
    .offset(sa.literal_column("0"))
)


def put_tiles(connection: sa.Connection, first: int, tiles: Iterable[tuple[int, int, bytes]]) -> None:
    """Store tiles of a tree by level and number, in the place of shorter ones."""
    rows = [{"first": first, "level": level, "number": number, "content": content} for level, number, content in tiles]
    _PUT_TILE.run_all(connection, rows)


def find_tile(connection: sa.Connection, first: int, level: int, number: int) -> bytes:
    """Return a tile; empty: it is not there."""
    return next((row[0] for row in _FIND_TILE.run(connection, {"of": first, "at": level, "n": number})), b"")


def put_checkpoint(connection: sa.Connection, first: int, note: bytes) -> None:
    """Store the last checkpoint of a tree."""
    _PUT_CHECKPOINT.run(connection, {"first": first, "note": note})


def newest_checkpoint(connection: sa.Connection) -> tuple[int, bytes] | None:
    """Return the tree that is in use, as the index of its leaf 0, and its last checkpoint."""
    return next(((row[0], row[1]) for row in _NEWEST.run(connection)), None)


def numbered_envelopes(connection: sa.Connection, first: int, page: int = 4096) -> Iterator[list[bytes]]:
    """Yield the envelopes of numbered acts in the order of the log, from an index on."""
    while True:
        query = sa.select(ACTS.c.envelope).where(ACTS.c.leaf_index >= first).order_by(ACTS.c.leaf_index).limit(page)
        found = [row.envelope for row in connection.execute(query)]
        if not found:
            return
        yield found
        first += len(found)
