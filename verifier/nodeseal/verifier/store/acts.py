"""Acts in the database: rows, versions of subjects, documents. It stores bytes and knows no kinds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from nodeseal.ids import Digest
from nodeseal.verifier.store.rows import read_records
from nodeseal.verifier.store.schema import ACT_SUBJECTS, ACTS, DOCUMENTS, VERSIONS

PAGE_BYTES: Final = 1024 * 1024
"""Bytes of acts that are read at once."""


# Every act runs these; SQLAlchemy takes longer to build a statement than to run it.
_ADD_ACT: Final = ACTS.insert()
_ADD_SUBJECTS: Final = ACT_SUBJECTS.insert()
_VERSIONS_OF: Final = sa.select(VERSIONS).where(VERSIONS.c.subject.in_(sa.bindparam("subjects", expanding=True)))
_NEW_VERSION: Final = insert(VERSIONS)
_SET_VERSIONS: Final = _NEW_VERSION.on_conflict_do_update(
    index_elements=[VERSIONS.c.subject], set_={"version": _NEW_VERSION.excluded.version}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActRow:
    """A row of the log.

    Attributes:
        salt: 16 random bytes, unique.
        kind: of the act, to filter by.
        actor: who decided, to filter by.
        envelope: public part of the leaf.
        body: the part that an export may withhold.
        mac: over both.
        leaf_index: place in the log, from 0; None: not numbered yet.
        id: place in the table.
    """

    salt: bytes
    kind: str
    actor: str
    envelope: bytes
    body: bytes
    mac: bytes
    leaf_index: int | None = None
    id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which acts of the log are wanted.

    Attributes:
        after: those behind so many.
        subject: only of this subject or of those below it, such as ``node/ID``; empty: all.
        actor: only by this actor; empty: all.
        kind: only of this kind; empty: all.
    """

    after: int = 0
    subject: str = ""
    actor: str = ""
    kind: str = ""


def add_act(connection: sa.Connection, row: ActRow, subjects: Iterable[str]) -> None:
    """Add an act that is not numbered yet."""
    values = {name: getattr(row, name) for name in ("salt", "kind", "actor", "envelope", "body", "mac")}
    added = connection.execute(_ADD_ACT, values).inserted_primary_key
    act_id = added[0] if added else None
    named = [{"subject": subject, "act_id": act_id} for subject in subjects]
    if named:
        connection.execute(_ADD_SUBJECTS, named)


def has_act(connection: sa.Connection, salt: bytes) -> bool:
    """Tell whether the act with this salt was recorded."""
    return connection.execute(sa.select(ACTS.c.id).where(ACTS.c.salt == salt)).first() is not None


def versions_of(connection: sa.Connection, subjects: Iterable[str]) -> dict[str, int]:
    """Return the version of each subject; 0: no act has raised it."""
    asked = list(subjects)
    known = {row.subject: row.version for row in connection.execute(_VERSIONS_OF, {"subjects": asked})}
    return {subject: known.get(subject, 0) for subject in asked}


def set_versions(connection: sa.Connection, versions: Mapping[str, int]) -> None:
    """Store the versions of subjects."""
    rows = [{"subject": subject, "version": version} for subject, version in versions.items()]
    if rows:
        connection.execute(_SET_VERSIONS, rows)


def all_versions(connection: sa.Connection, *kinds: str) -> dict[str, int]:
    """Return the version of every subject, or of those of some kinds, such as ``node``: leases are many."""
    query = sa.select(VERSIONS)
    if kinds:
        query = query.where(sa.or_(*(VERSIONS.c.subject.startswith(f"{kind}/") for kind in kinds)))
    return {row.subject: row.version for row in connection.execute(query)}


def unnumbered(connection: sa.Connection, limit: int) -> list[ActRow]:
    """Return the first acts that have no index yet, in the order in which they were written."""
    query = sa.select(ACTS).where(ACTS.c.leaf_index.is_(None)).order_by(ACTS.c.id).limit(limit)
    return read_records(connection, query, ActRow)


def log_size(connection: sa.Connection) -> int:
    """Return the number of acts that have an index."""
    return connection.scalar(sa.select(sa.func.coalesce(sa.func.max(ACTS.c.leaf_index) + 1, 0))) or 0


def number_acts(connection: sa.Connection, rows: Iterable[ActRow], first: int) -> None:
    """Give acts the indices from ``first`` on."""
    numbers = [{"row": row.id, "place": first + place} for place, row in enumerate(rows)]
    if numbers:
        given = ACTS.update().where(ACTS.c.id == sa.bindparam("row")).values(leaf_index=sa.bindparam("place"))
        connection.execute(given, numbers)


def log_page(connection: sa.Connection, wanted: Filter, limit: int) -> list[ActRow]:
    """Return up to ``limit`` numbered acts in the order of the log, and no more bytes than :data:`PAGE_BYTES`."""
    sizes = sa.select(ACTS.c.id, sa.func.length(ACTS.c.envelope) + sa.func.length(ACTS.c.body))
    ids: list[int] = []
    left = PAGE_BYTES
    for act_id, size in connection.execute(_chosen(sizes, wanted).order_by(ACTS.c.leaf_index).limit(limit)):
        left -= size
        if left < 0 and ids:
            break
        ids.append(act_id)
    return read_records(connection, sa.select(ACTS).where(ACTS.c.id.in_(ids)).order_by(ACTS.c.leaf_index), ActRow)


def first_of_newest(connection: sa.Connection, wanted: Filter, count: int) -> int:
    """Return the index of the first of the last ``count`` acts."""
    query = _chosen(sa.select(ACTS.c.leaf_index), wanted).order_by(ACTS.c.leaf_index.desc()).limit(count)
    return min((row.leaf_index for row in connection.execute(query)), default=wanted.after)


def _chosen(query: sa.Select[Any], wanted: Filter) -> sa.Select[Any]:
    query = query.where(ACTS.c.leaf_index >= wanted.after)
    if wanted.subject:
        below = ACT_SUBJECTS.c.subject.startswith(f"{wanted.subject}/", autoescape=True)
        named = sa.select(ACT_SUBJECTS.c.act_id).where(sa.or_(ACT_SUBJECTS.c.subject == wanted.subject, below))
        query = query.where(ACTS.c.id.in_(named))
    if wanted.actor:
        query = query.where(ACTS.c.actor == wanted.actor)
    if wanted.kind:
        query = query.where(ACTS.c.kind == wanted.kind)
    return query


def every_act(connection: sa.Connection, page: int = 1000) -> Iterator[ActRow]:
    """Yield all acts, numbered or not, in the order in which they were written."""
    after = 0
    while rows := read_records(
        connection, sa.select(ACTS).where(ACTS.c.id > after).order_by(ACTS.c.id).limit(page), ActRow
    ):
        yield from rows
        after = rows[-1].id


def put_document(connection: sa.Connection, digest: Digest, content: bytes) -> bool:
    """Store a document, unless it is there; tell whether it was added."""
    added = insert(DOCUMENTS).values(digest=digest, content=content).on_conflict_do_nothing()
    return connection.execute(added).rowcount > 0


def find_document(connection: sa.Connection, digest: Digest) -> bytes | None:
    """Return a document."""
    content: bytes | None = connection.scalar(sa.select(DOCUMENTS.c.content).where(DOCUMENTS.c.digest == digest))
    return content
