"""Records acts in the caller's transaction: versions, leaf, MAC, documents and rows of each."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from nodeseal.errors import MalformedInput
from nodeseal.verifier.ledger.acts import Act
from nodeseal.verifier.ledger.decided import Committed, Decided, Recorded, T
from nodeseal.verifier.ledger.documents import Document
from nodeseal.verifier.ledger.leaf import SALT_SIZE, Entry, MacKey, leaf_hash, read_entry
from nodeseal.verifier.ledger.projectors import project
from nodeseal.verifier.store.acts import ActRow, add_act, put_document, set_versions, versions_of
from nodeseal.verifier.store.nodes import put_progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorship:
    """What acts of one decision share.

    Attributes:
        actor: who decided.
        at: when.
        salt: of the first act; empty: a fresh one. It tells whether a restriction was recorded before.
    """

    actor: str
    at: datetime
    salt: bytes = b""


def record(connection: sa.Connection, decided: Decided[T], authorship: Authorship, mac_key: MacKey) -> Committed[T]:
    """Record a decision: all of its acts, or none if the transaction is rolled back.

    Raises:
        MalformedInput: an act is larger than its bounds allow.
    """
    size = _store(connection, decided.documents)
    contents = dict(decided.contents)
    documents = dict(decided.documents) | contents
    recorded, salt = [], authorship.salt
    for act in decided.acts:
        entry = _entry(connection, act, authorship, salt or secrets.token_bytes(SALT_SIZE))
        row = _row(entry, mac_key)
        add_act(connection, row, entry.versions)
        project(connection, entry, contents)
        recorded.append(Recorded(entry, leaf_hash(row.envelope), documents))
        size += len(row.envelope) + len(row.body)
        salt = b""
    for node_id, progress in decided.progress:
        put_progress(connection, node_id, progress)
    return Committed(decided.result, tuple(recorded), size)


def _store(connection: sa.Connection, documents: Iterable[Document]) -> int:
    return sum(
        len(document.content)
        for document in documents
        if document.digest and put_document(connection, document.digest, document.content)
    )


def _entry(connection: sa.Connection, act: Act, authorship: Authorship, salt: bytes) -> Entry:
    versions = versions_of(connection, (*act.rests_on, *act.raises))
    raised = {subject: versions[subject] + 1 for subject in act.raises}
    set_versions(connection, raised)
    versions |= raised
    return Entry(act=act, actor=authorship.actor, at=authorship.at, versions=versions, salt=salt)


def _row(entry: Entry, mac_key: MacKey) -> ActRow:
    body = entry.body()
    envelope = entry.envelope(body)
    return ActRow(
        salt=entry.salt,
        kind=entry.act.kind,
        actor=entry.actor,
        envelope=envelope,
        body=body,
        mac=mac_key.mac(envelope, body),
    )


def checked_entry(row: ActRow, mac_key: MacKey) -> Entry:
    """Return the entry of a row that this verifier wrote.

    Raises:
        MalformedInput: somebody else wrote or changed it; the message names it.
    """
    remedy = "the database was changed by hand: restore the last backup that starts, and find out who can write to it"
    stored = (row.envelope, row.body, row.mac, row.salt)
    if not all(isinstance(each, bytes) for each in stored) or not mac_key.holds(row.envelope, row.body, row.mac):
        raise MalformedInput(f"store: act {row.id} was not written by this verifier: its MAC is wrong", remedy=remedy)
    entry = read_entry(row.envelope, row.body)
    if (entry.act.kind, entry.actor, entry.salt) != (row.kind, row.actor, row.salt):
        raise MalformedInput(f"store: columns of act {row.id} do not say what its leaf says", remedy=remedy)
    return entry
