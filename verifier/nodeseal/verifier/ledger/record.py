"""Records acts in the caller's transaction: versions, leaf, MAC, documents and rows of each."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from nodeseal.documents import encode_json
from nodeseal.errors import MalformedInput
from nodeseal.verifier.ledger.acts import Act
from nodeseal.verifier.ledger.decided import Committed, Decided, Recorded, T
from nodeseal.verifier.ledger.documents import Document
from nodeseal.verifier.ledger.leaf import SALT_SIZE, Entry, MacKey, leaf_hash
from nodeseal.verifier.ledger.projectors import project
from nodeseal.verifier.store.acts import ActRow, add_acts, put_document, set_versions, versions_of
from nodeseal.verifier.store.nodes import put_progress

_REMEDY: Final = (
    "the database was changed by hand: restore the last backup that starts, and find out who can write to it"
)


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


class Recorder:
    """Records the decisions of one transaction, one after the other.

    What a later decision may read is written at once: documents, progress, and the rows of each act. Acts themselves,
    and the versions that they raise, are written together at the end, by :meth:`write`.
    """

    def __init__(self, connection: sa.Connection, mac_key: MacKey) -> None:
        self._connection: Final = connection
        self._mac_key: Final = mac_key
        self._stored: dict[str, int] = {}
        self._raised: dict[str, int] = {}
        self._added: list[tuple[ActRow, Mapping[str, int]]] = []

    def record(self, decided: Decided[T], authorship: Authorship) -> Committed[T]:
        """Record a decision; if this raises, the caller undoes what it has written.

        Raises:
            MalformedInput: an act is larger than its bounds allow.
        """
        size = _store(self._connection, decided.documents)
        contents = dict(decided.contents)
        documents = dict(decided.documents) | contents
        raised: dict[str, int] = {}
        added, recorded = [], []
        for act, salt in zip(decided.acts, _salts(authorship.salt), strict=False):
            entry = self._entry(act, authorship, salt, raised)
            row = _row(entry, self._mac_key)
            project(self._connection, entry, contents)
            added.append((row, entry.versions))
            recorded.append(Recorded(entry, leaf_hash(row.envelope), documents))
            size += len(row.envelope) + len(row.body)
        for node_id, progress in decided.progress:
            put_progress(self._connection, node_id, progress)
        self._raised |= raised
        self._added += added
        return Committed(decided.result, tuple(recorded), size)

    def _entry(self, act: Act, authorship: Authorship, salt: bytes, raised: dict[str, int]) -> Entry:
        """Return an act with the versions of its subjects, and put those that it raises into ``raised``."""
        raises = act.raises
        versions: dict[str, int] = {}
        for subject in (*act.rests_on, *raises):
            versions[subject] = raised.get(subject, self._raised.get(subject, self._stored.get(subject, -1)))
        unknown = [subject for subject, version in versions.items() if version < 0]
        found = versions_of(self._connection, unknown)
        self._stored |= found
        versions |= found
        for subject in raises:
            versions[subject] = raised[subject] = versions[subject] + 1
        return Entry(act=act, actor=authorship.actor, at=authorship.at, versions=versions, salt=salt)

    def write(self) -> None:
        """Write the acts, and the versions of their subjects."""
        add_acts(self._connection, self._added)
        set_versions(self._connection, self._raised)


def record(connection: sa.Connection, decided: Decided[T], authorship: Authorship, mac_key: MacKey) -> Committed[T]:
    """Record one decision that is alone in its transaction.

    Raises:
        MalformedInput: an act is larger than its bounds allow.
    """
    recorder = Recorder(connection, mac_key)
    committed = recorder.record(decided, authorship)
    recorder.write()
    return committed


def _salts(first: bytes) -> Iterator[bytes]:
    """Yield the salts of the acts of a decision: the first is the decision's own, if it has one."""
    if first:
        yield first
    while True:
        yield secrets.token_bytes(SALT_SIZE)


def _store(connection: sa.Connection, documents: Iterable[Document]) -> int:
    return sum(
        len(document.content)
        for document in documents
        if document.digest and put_document(connection, document.digest, document.content)
    )


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


def checked_versions(row: ActRow, mac_key: MacKey) -> dict[str, int]:
    """Return the versions of the subjects of an act that this verifier wrote.

    Leaves whose MAC holds are the canonical bytes that this verifier made, so nothing else of them is read again.

    Raises:
        MalformedInput: somebody else wrote or changed it; the message names it.
    """
    stored = {type(row.envelope), type(row.body), type(row.mac), type(row.salt)}
    if stored != {bytes} or not mac_key.holds(row.envelope, row.body, row.mac):
        raise MalformedInput(f"store: act {row.id} was not written by this verifier: its MAC is wrong", remedy=_REMEDY)
    envelope = json.loads(row.envelope)
    ends = f',"salt":"{row.salt.hex()}"}}'.encode()
    begins = b'{"actor":' + encode_json(row.actor) + b',"fields":{'
    if row.kind != envelope["kind"] or not (row.body.startswith(begins) and row.body.endswith(ends)):
        raise MalformedInput(f"store: columns of act {row.id} do not say what its leaf says", remedy=_REMEDY)
    versions: dict[str, int] = envelope["subjects"]
    return versions
