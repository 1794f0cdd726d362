"""The log as a whole: how it begins, what a start must prove of it, and pages of it for people."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias, TypeVar

import sqlalchemy as sa

from nodeseal.errors import MalformedInput, NotFound, Unavailable
from nodeseal.files import read_private, write_new
from nodeseal.ids import Digest
from nodeseal.tlog.tree import RootBuilder, hash_leaf
from nodeseal.verifier.keys.credentials import read_credential
from nodeseal.verifier.ledger import first_log
from nodeseal.verifier.ledger.acts import VERIFIER, LogOpened, OriginChanged
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.ledger.documents import Document, document_of, named_documents
from nodeseal.verifier.ledger.leaf import MacKey, leaf_hash, read_entry
from nodeseal.verifier.ledger.record import Authorship, checked_versions, record
from nodeseal.verifier.ledger.tree.log_tree import LogTree, read_head
from nodeseal.verifier.ledger.tree.sequencer import number_all
from nodeseal.verifier.store.acts import ActRow, Filter, all_versions, every_act, find_document, log_page, log_size
from nodeseal.verifier.store.database import run
from nodeseal.verifier.store.tree import newest_checkpoint

T = TypeVar("T")
MAC_KEY_SIZE: Final = 32
MAC_KEY_CREDENTIAL: Final = "nodeseal-acts-key"
_CHANGED: Final = "restore the last backup that starts, and find out who can write to the database"


def make_mac_key(path: Path) -> None:
    """Make the key of act rows, unless there is one.

    Raises:
        Unavailable: it cannot be written.
    """
    if not path.exists() and read_credential(MAC_KEY_CREDENTIAL) is None:
        write_new(path, secrets.token_bytes(MAC_KEY_SIZE))


def load_mac_key(path: Path) -> MacKey:
    """Return the key of act rows: from systemd's credential, else from the file.

    Raises:
        MalformedInput: it cannot be read, others may read it, or it is no key.
    """
    raw = read_credential(MAC_KEY_CREDENTIAL)
    if raw is None and not path.exists():
        remedy = "put back the one of this database; only for a database of 0.1: run nodeseal-verifier upgrade"
        raise MalformedInput(f"keys.acts: {path}: not there", remedy=remedy)
    raw = read_private(path, "keys.acts") if raw is None else raw
    if len(raw) != MAC_KEY_SIZE:
        raise MalformedInput(f"keys.acts: {path}: {len(raw)} bytes, not {MAC_KEY_SIZE}")
    return MacKey(raw=raw)


def has_begun(engine: sa.Engine) -> bool:
    """Tell whether there are acts, whose key no other can replace.

    Raises:
        Unavailable: the database cannot be read.
    """
    return run(engine, _first_act) is not None


def _first_act(connection: sa.Connection) -> ActRow | None:
    return next(every_act(connection, page=1), None)


def origin_of(connection: sa.Connection) -> str:
    """Return what tells this log from every other: the leaf hash of its first act.

    Raises:
        Unavailable: the log has not begun.
    """
    first = _first_act(connection)
    if first is None:
        raise Unavailable("store: the log has not begun", remedy="run nodeseal-verifier upgrade")
    return leaf_hash(first.envelope)


def open_log(engine: sa.Engine, mac_key: MacKey, at: datetime) -> None:
    """Begin the log with a leaf that names the closed log before it, unless it has begun.

    Raises:
        MalformedInput: it has begun under another key.
        Unavailable: the database cannot be written.
    """

    def decide(connection: sa.Connection) -> Decided[None]:
        if _first_act(connection) is not None:
            return Decided(None)
        size, root = first_log.head(connection)
        return Decided(None, (LogOpened(closed_size=size, closed_root=root),))

    record_alone(engine, mac_key, VERIFIER, at, decide)


def has_tree(engine: sa.Engine) -> bool:
    """Tell whether the log has a tree, whose key no other can replace.

    Raises:
        Unavailable: the database cannot be read.
    """
    return run(engine, newest_checkpoint) is not None


def open_tree(engine: sa.Engine, mac_key: MacKey, tree: LogTree) -> None:
    """Begin the tree over all acts, unless there is one.

    Raises:
        MalformedInput: a row was not written by this verifier, or a checkpoint is kept outside that is of another tree.
        Unavailable: database or file cannot be written.
    """

    def work(connection: sa.Connection) -> None:
        if newest_checkpoint(connection) is None:
            number_all(connection, mac_key, None)
            tree.rebuild(connection)

    run(engine.execution_options(writes=True), work)


def record_alone(
    engine: sa.Engine, mac_key: MacKey, actor: str, at: datetime, decide: Callable[[sa.Connection], Decided[T]]
) -> T:
    """Record a decision in a process that keeps nothing in memory, such as a command on the verifier's host.

    Raises:
        NodesealError: the refusal of ``decide``; nothing was recorded.
        MalformedInput: the key is not the one of this log, so no verifier would start on what it records.
        Unavailable: the database cannot be written.
    """

    def work(connection: sa.Connection) -> T:
        _require_own(_first_act(connection), mac_key)
        return record(connection, decide(connection), Authorship(actor=actor, at=at), mac_key).result

    return run(engine.execution_options(writes=True), work)


def _require_own(row: ActRow | None, mac_key: MacKey) -> None:
    if row is not None and not mac_key.holds(row.envelope, row.body, row.mac):
        remedy = "put back the acts.key, or the credential, that the verifier of this database starts with"
        raise MalformedInput("keys.acts: not the key of this database's log", remedy=remedy)


def read_whole(connection: sa.Connection, sequence: int) -> tuple[ActRow, tuple[Document, ...]]:
    """Return the act with a number, counted from 1, and the documents that it names.

    Raises:
        NotFound: there is none of that number.
        MalformedInput: row or document does not parse, or a document is missing or was changed in the database.
    """
    if not 1 <= sequence <= log_size(connection):
        raise NotFound(f"there is no act {sequence}", remedy="nodeseal audit list")
    (row,) = log_page(connection, Filter(after=sequence - 1), 1)
    names = named_documents(read_entry(row.envelope, row.body).act)
    return row, tuple(_document(connection, digest) for digest in names)


def _document(connection: sa.Connection, digest: Digest) -> Document:
    content = find_document(connection, digest)
    if content is None or document_of(content).digest != digest:
        raise MalformedInput(f"store: document {digest} is missing, or was changed by hand", remedy=_CHANGED)
    return Document(digest, content)


class LogShape(NamedTuple):
    """What the acts of a log amount to.

    Attributes:
        first: index of the act that is leaf 0 of the tree in use.
        size: numbered acts from there on.
        root: over them.
    """

    first: int
    size: int
    root: bytes


def check_log(engine: sa.Engine, mac_key: MacKey) -> LogShape:
    """Make sure that this verifier wrote every act, and that each follows the ones before it about its subjects.

    Raises:
        MalformedInput: a row was inserted, edited, moved or removed; the message names it.
        Unavailable: the log has not begun, or cannot be read.
    """
    return run(engine, lambda connection: _check(connection, mac_key))


def check_tree(engine: sa.Engine, shape: LogShape, public: bytes) -> None:
    """Make sure that the tree that was signed is the one over the acts.

    Raises:
        MalformedInput: it is over others, or somebody else signed it.
        Unavailable: it cannot be read.
    """
    first, signed = run(engine, partial(read_head, public=public))
    found = signed.checkpoint
    if (first, found.size, found.root) != shape:
        raise _missing(f"the tree over {found.size} acts is not the one over the {shape.size} acts that are there")


def _check(connection: sa.Connection, mac_key: MacKey) -> LogShape:
    numbering, versions = _Numbering(), dict[str, int]()
    roles: dict[str, _Roles] = {}
    for row in every_act(connection):
        carried = checked_versions(row, mac_key)
        if row.kind not in roles:
            roles[row.kind] = _roles(row)
        if not _follows(carried, roles[row.kind], versions):
            raise _missing(f"act {row.id} does not follow the acts about the same subjects before it")
        numbering.add(row)
    if not versions:
        raise Unavailable("store: the log has not begun", remedy="run nodeseal-verifier upgrade")
    stored = all_versions(connection)
    for subject in {**stored, **versions}:
        version, last = stored.get(subject, 0), versions.get(subject, 0)
        if type(version) is int and version > last:  # somebody may have written a text there
            raise _missing(f"the last act about {subject} is not there")
        if version != last:
            raise _missing(f"the version of {subject} is not the one of its last act")
    return numbering.shape()


class _Numbering:
    """Follows the numbers of acts, and the tree over those of the log in use."""

    def __init__(self) -> None:
        self._count = self._numbered = self._first = 0
        self._tree = RootBuilder()

    def add(self, row: ActRow) -> None:
        """Take the next act of the table."""
        if row.leaf_index not in {None, self._numbered}:
            raise _missing(f"act {row.id} is number {row.leaf_index} of the log, where {self._numbered} must stand")
        if row.leaf_index is not None and self._numbered < self._count:
            raise _missing(f"act {row.id} has a number, and one before it has none")
        self._count += 1
        if row.leaf_index is not None:
            if row.kind == OriginChanged.kind:
                self._first, self._tree = self._numbered, RootBuilder()
            self._tree.add(hash_leaf(row.envelope))
            self._numbered += 1

    def shape(self) -> LogShape:
        """Return what the acts amount to."""
        return LogShape(self._first, self._tree.size, self._tree.root())


_Roles: TypeAlias = Mapping[tuple[str, ...], int]
"""By how much acts of a kind raise each of their subjects: 1, or 0 where they only rest on it."""


def _roles(row: ActRow) -> _Roles:
    """Return the roles of subjects in acts of one kind, which are the same in all of them."""
    act = read_entry(row.envelope, row.body).act
    return {_place(subject): 0 for subject in act.rests_on} | {_place(subject): 1 for subject in act.raises}


def _place(subject: str) -> tuple[str, ...]:
    """Return a subject without the names in it: ``node/ID/identity`` is a node's identity."""
    first, *rest = subject.split("/")
    return (first, *rest[1:]) if first in {"node", "person"} else (first,)


def _follows(carried: Mapping[str, int], roles: _Roles, versions: dict[str, int]) -> bool:
    """Tell whether an act carries the versions that its subjects have then, and raise those that it raises."""
    follows = True
    for subject, version in carried.items():
        follows = follows and version == versions.get(subject, 0) + roles[_place(subject)]
        versions[subject] = version
    return follows


def _missing(what: str) -> MalformedInput:
    remedy = "acts were removed or moved by hand: restore the last backup that starts"
    return MalformedInput(f"store: {what}", remedy=remedy)
