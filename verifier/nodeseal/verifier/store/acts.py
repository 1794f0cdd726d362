"""Acts in the database: rows, versions of subjects, documents. It stores bytes and knows no kinds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import inf
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from nodeseal.ids import Digest
from nodeseal.verifier.store.prepared import Prepared
from nodeseal.verifier.store.rows import read_records
from nodeseal.verifier.store.schema import ACT_SUBJECTS, ACTS, DOCUMENTS, VERSIONS

PAGE_BYTES: Final = 1024 * 1024
"""Bytes of acts that are read at once."""


_COLUMNS: Final = ("salt", "kind", "actor", "envelope", "body", "mac")
_NAMES: Final = ("id", *_COLUMNS, "leaf_index")
_PAGE: Final = Prepared(
    sa.select(*(ACTS.c[name] for name in _NAMES))
    .where(ACTS.c.id > sa.bindparam("after"))
    .order_by(ACTS.c.id)
    .limit(sa.bindparam("page"))
    .offset(sa.literal_column("0"))  # as SQLAlchemy would add it, with a parameter
)
_ADD_ACT: Final = Prepared(ACTS.insert(), *_COLUMNS)
_ADD_SUBJECT: Final = Prepared(
    ACT_SUBJECTS.insert().from_select(
        ["subject", "act_id"],
        sa.select(sa.bindparam("named", type_=sa.String), ACTS.c.id).where(ACTS.c.salt == sa.bindparam("of")),
    )
)
_HAS_ACT: Final = Prepared(sa.select(ACTS.c.id).where(ACTS.c.salt == sa.bindparam("of")))
_PUT_DOCUMENT: Final = Prepared(
    insert(DOCUMENTS).on_conflict_do_nothing().returning(DOCUMENTS.c.digest), "digest", "content"
)
_FIND_DOCUMENT: Final = Prepared(sa.select(DOCUMENTS.c.content).where(DOCUMENTS.c.digest == sa.bindparam("named")))
_NEW_VERSION: Final = insert(VERSIONS)
_SET_VERSION: Final = Prepared(
    _NEW_VERSION.on_conflict_do_update(
        index_elements=[VERSIONS.c.subject], set_={"version": _NEW_VERSION.excluded.version}
    ),
    "subject",
    "version",
)
_NUMBER: Final = Prepared(
    ACTS.update().where(ACTS.c.id == sa.bindparam("row")).values(leaf_index=sa.bindparam("place"))
)


@cache
def _versions_of(count: int) -> Prepared:
    names = [sa.bindparam(f"subject_{number}", type_=sa.String) for number in range(count)]
    return Prepared(sa.select(VERSIONS.c.subject, VERSIONS.c.version).where(VERSIONS.c.subject.in_(names)))


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


def add_acts(connection: sa.Connection, acts: Sequence[tuple[ActRow, Iterable[str]]]) -> None:
    """Add acts that are not numbered yet, in this order, each with its subjects."""
    _ADD_ACT.run_all(connection, [{name: getattr(row, name) for name in _COLUMNS} for row, _ in acts])
    subjects = [{"named": subject, "of": row.salt} for row, named in acts for subject in named]
    _ADD_SUBJECT.run_all(connection, subjects)


def has_act(connection: sa.Connection, salt: bytes) -> bool:
    """Tell whether the act with this salt was recorded."""
    return bool(_HAS_ACT.run(connection, {"of": salt}))


def versions_of(connection: sa.Connection, subjects: Iterable[str]) -> dict[str, int]:
    """Return the version of each subject; 0: no act has raised it."""
    versions = dict.fromkeys(subjects, 0)
    if versions:
        asked = {f"subject_{number}": subject for number, subject in enumerate(versions)}
        versions.update(_versions_of(len(asked)).run(connection, asked))
    return versions


def set_versions(connection: sa.Connection, versions: Mapping[str, int]) -> None:
    """Store the versions of subjects."""
    _SET_VERSION.run_all(connection, [{"subject": name, "version": version} for name, version in versions.items()])


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
    _NUMBER.run_all(connection, [{"row": row.id, "place": first + place} for place, row in enumerate(rows)])


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


def acts_about(connection: sa.Connection, subjects: Iterable[str], kinds: Iterable[str]) -> list[ActRow]:
    """Return the acts of some kinds about some subjects, in the order in which they were written."""
    named = sa.select(ACT_SUBJECTS.c.act_id).where(ACT_SUBJECTS.c.subject.in_(tuple(subjects)))
    query = sa.select(ACTS).where(ACTS.c.id.in_(named), ACTS.c.kind.in_(tuple(kinds))).order_by(ACTS.c.id)
    return read_records(connection, query, ActRow)


def last_acts_about(connection: sa.Connection, subjects: Iterable[str], kinds: Iterable[str]) -> list[ActRow]:
    """Return the first and the last act of each of some kinds about some subjects, in the order of the log."""
    chosen = (
        sa.select(sa.func.min(ACTS.c.id), sa.func.max(ACTS.c.id))
        .join(ACT_SUBJECTS, ACT_SUBJECTS.c.act_id == ACTS.c.id)
        .where(ACT_SUBJECTS.c.subject.in_(tuple(subjects)), ACTS.c.kind.in_(tuple(kinds)))
        .group_by(ACTS.c.kind)
    )
    ids = {number for pair in connection.execute(chosen) for number in pair}
    return read_records(connection, sa.select(ACTS).where(ACTS.c.id.in_(ids)).order_by(ACTS.c.id), ActRow)


def every_act(connection: sa.Connection, page: int = 1000) -> Iterator[ActRow]:
    """Yield all acts, numbered or not, in the order in which they were written."""
    after = -inf  # an id that somebody wrote by hand may be anything
    while rows := _PAGE.run(connection, {"after": after, "page": page}):
        for values in rows:
            yield ActRow(**dict(zip(_NAMES, values, strict=True)))
        after = rows[-1][0]


def put_document(connection: sa.Connection, digest: Digest, content: bytes) -> bool:
    """Store a document, unless it is there; tell whether it was added."""
    return bool(_PUT_DOCUMENT.run(connection, {"digest": digest, "content": content}))


def find_document(connection: sa.Connection, digest: Digest) -> bytes | None:
    """Return a document."""
    return next((content for (content,) in _FIND_DOCUMENT.run(connection, {"named": digest})), None)
