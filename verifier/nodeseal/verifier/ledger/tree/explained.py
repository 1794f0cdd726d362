"""Rows that their acts explain: what is read from the database is compared with what its acts would have written.

An act has a MAC under a key outside the database; a row has none. So before a key is released, and at every start, rows
are made anew from the acts about their subjects, by the same projectors, in an empty database in memory. A row that
differs stops what depends on it, and the error names the row. The outcome is kept until a version or the row changes.

Rows of a database of the first release may be older than the log: no act made them, and they are taken as they are.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import sqlalchemy as sa

from nodeseal.errors import MalformedInput, NodesealError, Unavailable
from nodeseal.ids import Digest, KeyId, NodeId, digest_of
from nodeseal.verifier.ledger.acts import RULES_SUBJECT, LeaseEnded, LeaseIssued, LogOpened, RulesSet
from nodeseal.verifier.ledger.documents import named_documents
from nodeseal.verifier.ledger.leaf import Entry, MacKey, read_entry
from nodeseal.verifier.ledger.projectors import project, projected_kinds
from nodeseal.verifier.ledger.record import checked_versions
from nodeseal.verifier.ledger.tree.state import CREATING, RowPlace, places_in, state_row
from nodeseal.verifier.store.acts import (
    ActRow,
    acts_about,
    every_act,
    find_document,
    last_acts_about,
    put_document,
    versions_of,
)
from nodeseal.verifier.store.schema import GOLDENS, METADATA, MODELS, PROPOSALS, RULES

_PEOPLE: Final = ("rules", "persons", "person_keys")
"""Tables of who decides, on which every quorum rests."""
_POLICY: Final = ("goldens", "grants", "model_keys", "models", *_PEOPLE)
"""Tables of what people decided. Nodes are many; one is compared when a key is released to it."""
_WITHOUT_OLDER: Final = frozenset({"rules", "person_keys", "proposals", "approvals"})
"""Tables that no release before the log had: each of their rows has an act."""
_KINDS: Final = projected_kinds() - {LeaseIssued.kind, LeaseEnded.kind}
_OF_PROPOSAL: Final = (PROPOSALS.c.attachment, PROPOSALS.c.proposal)
_CONTENTS: Final = {
    "goldens": (GOLDENS.c.document, GOLDENS.c.digest),
    "models": (MODELS.c.content, MODELS.c.digest),
    "proposals": _OF_PROPOSAL,
    "approvals": _OF_PROPOSAL,
}
"""The column with a row's content, and the one that names the row."""


class _Compared(NamedTuple):
    """A row that its acts explained.

    Attributes:
        versions: of its subjects then.
        row: without its large columns.
    """

    versions: tuple[int, ...]
    row: bytes


class Explained:
    """Compares rows with their acts; both threads of a store may use it.

    Args:
        mac_key: authenticates the acts.
    """

    def __init__(self, mac_key: MacKey) -> None:
        self._mac_key: Final = mac_key
        self._seen: dict[RowPlace, _Compared] = {}
        self._one: Final = threading.Lock()
        self._empty: sa.Engine | None = None
        """A database in memory, made when it is first needed; what is written to it is undone each time."""

    def close(self) -> None:
        """Close the database in memory; it is made again when it is needed."""
        with self._one:
            if self._empty is not None:
                self._empty.dispose()
            self._empty = None

    def require(self, connection: sa.Connection, places: Iterable[RowPlace]) -> None:
        """Make sure that rows are what their acts made; a row that is not there needs no act.

        Raises:
            Unavailable: a row is not; the message names it, and nothing may rely on it.
        """
        with self._one:
            for place in places:
                self._require(connection, place)

    def require_policy(self, connection: sa.Connection) -> None:
        """Make sure that everything that people decided is what their acts made.

        Raises:
            Unavailable: a row is not; the message names it.
        """
        self._require_newest_rules(connection)
        for table in _POLICY:
            self.require(connection, places_in(connection, table))

    def require_quorum(self, connection: sa.Connection, proposal: Digest) -> None:
        """Make sure that a proposal, its approvals, the rules and the people are what their acts made.

        Raises:
            Unavailable: a row is not; the message names it, and the proposal must have no effect.
        """
        self._require_newest_rules(connection)
        for table in _PEOPLE:
            self.require(connection, places_in(connection, table))
        of_proposal = (place for place in places_in(connection, "approvals") if place.names[0] == proposal)
        self.require(connection, (RowPlace("proposals", (proposal,)), *of_proposal))

    def _require_newest_rules(self, connection: sa.Connection) -> None:
        """Make sure that the rules of the last act about rules are there: without their row older ones would hold."""
        rows = last_acts_about(connection, (RULES_SUBJECT,), (RulesSet.kind,))
        act = self._entry(rows[-1]).act if rows else None
        version = act.version if isinstance(act, RulesSet) else None
        found = connection.scalar(sa.select(sa.func.max(RULES.c.version)))
        if found != version:
            raise _unexplained(RowPlace("rules", (found or 0,)), f"the last act about rules set version {version}")

    def _require(self, connection: sa.Connection, place: RowPlace) -> None:
        row = state_row(connection, place, large=False)
        if row is None:
            return
        seen = _Compared(tuple(versions_of(connection, place.subjects).values()), row)
        if self._seen.get(place) != seen:
            self._explain(connection, place)
            self._seen[place] = seen

    def _explain(self, connection: sa.Connection, place: RowPlace) -> None:
        subjects = place.subjects
        find = last_acts_about if place.table == "nodes" else acts_about
        entries = list(map(self._entry, find(connection, subjects, _KINDS)))
        own = subjects if place.table in _WITHOUT_OLDER else subjects[:1]
        if not any(entry.act.kind in CREATING and not entry.versions.keys().isdisjoint(own) for entry in entries):
            if place.table in _WITHOUT_OLDER or not _has_older_rows(connection):
                raise _unexplained(place, "no act made it")
            return
        if self._made(connection, entries, place) != state_row(connection, place, large=True):
            raise _unexplained(place, "it is not what its acts made")

    def _made(self, connection: sa.Connection, entries: Iterable[Entry], place: RowPlace) -> bytes | None:
        """Return the row that acts make in an empty database."""
        contents = _contents(connection, place)
        with self._scratch().connect() as empty:
            try:
                for entry in entries:
                    for digest in named_documents(entry.act):
                        put_document(empty, digest, find_document(connection, digest) or b"")
                    project(empty, entry, contents)
                return state_row(empty, place, large=True)
            except KeyError as error:
                raise _unexplained(place, "its document was changed in the database") from error
            except (NodesealError, ValueError) as error:
                raise _unexplained(place, f"its acts cannot be replayed ({error})") from error
            finally:
                empty.rollback()

    def _scratch(self) -> sa.Engine:
        if self._empty is None:
            shared = {"check_same_thread": False}
            self._empty = sa.create_engine("sqlite://", poolclass=sa.StaticPool, connect_args=shared)
            METADATA.create_all(self._empty)
        return self._empty

    def _entry(self, row: ActRow) -> Entry:
        try:
            checked_versions(row, self._mac_key)
            return read_entry(row.envelope, row.body)
        except MalformedInput as error:
            raise Unavailable(str(error), remedy=error.remedy) from error


def release_places(node_id: NodeId, model: Digest, key_ids: Iterable[KeyId]) -> Iterator[RowPlace]:
    """Yield the places of all rows on which the release of a key rests."""
    yield RowPlace("nodes", (node_id,))
    for key_id in key_ids:
        yield RowPlace("grants", (key_id, node_id))
    yield from rotation_places(model, key_ids)


def rotation_places(model: Digest, key_ids: Iterable[KeyId]) -> Iterator[RowPlace]:
    """Yield the places of all rows on which the rotation of a model's slots rests."""
    yield RowPlace("models", (model,))
    for key_id in key_ids:
        yield RowPlace("model_keys", (key_id,))


def _contents(connection: sa.Connection, place: RowPlace) -> dict[Digest, bytes]:
    """Return the content that a row keeps, by its digest: an act names it."""
    if place.table not in _CONTENTS:
        return {}
    column, name = _CONTENTS[place.table]
    content = connection.scalar(sa.select(column).where(name == place.names[0]))
    return {} if content is None else {digest_of(bytes(content)): bytes(content)}


def _has_older_rows(connection: sa.Connection) -> bool:
    """Tell whether the database had rows before it had a log of acts."""
    first = next(every_act(connection, page=1), None)
    if first is None:
        return True
    act = read_entry(first.envelope, first.body).act
    return isinstance(act, LogOpened) and act.closed_size > 0


def _unexplained(place: RowPlace, why: str) -> Unavailable:
    remedy = "somebody edited the database: nodeseal audit export and verify show what; restore the last good backup"
    return Unavailable(f"store: the row of {place} cannot be relied on: {why}", remedy=remedy)
