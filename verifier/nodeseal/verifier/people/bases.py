"""The state of what a change touches, as a digest: a proposal counts only while it is the same."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple

import sqlalchemy as sa

from nodeseal.documents import encode_json
from nodeseal.governance.changes import Change, ChangeKind
from nodeseal.ids import Digest, digest_of
from nodeseal.verifier.store.schema import GOLDENS, GRANTS, KEYS, MODELS, NODES, PERSON_KEYS, PERSONS, RULES


class _Part(NamedTuple):
    """Rows that a change touches.

    Attributes:
        query: selects what counts of them.
        ids: the columns that name them, each with the fact of the change that it must be.
    """

    query: sa.Select[tuple[object, ...]]
    ids: Mapping[sa.Column[str], str]


def base_of(connection: sa.Connection, change: Change) -> Digest:
    """Return the digest of the state of what a change touches, by the rows of the moment.

    Rows, not the versions of subjects: earlier decisions of the same transaction have written the rows already. Rounds
    change a node all the time, so of a node only what a person would look at counts.
    """
    state = [_rows(connection, part, change) for part in _PARTS[change.kind]]
    return digest_of(encode_json(state))


def _rows(connection: sa.Connection, part: _Part, change: Change) -> list[list[str]]:
    named = (column == change.text(fact) for column, fact in part.ids.items())
    return sorted([_spelled(value) for value in row] for row in connection.execute(part.query.where(*named)))


def _spelled(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return value.isoformat() if isinstance(value, datetime) else repr(value)


_KEY: Final = _Part(sa.select(KEYS), {KEYS.c.key_id: "key"})
_GRANT: Final = _Part(sa.select(GRANTS), {GRANTS.c.key_id: "key", GRANTS.c.node_id: "node"})
_MODEL: Final = _Part(sa.select(MODELS.c.registered, MODELS.c.retired), {MODELS.c.digest: "model"})
_PERSON: Final = _Part(
    sa.select(PERSONS.c.roles, PERSONS.c.added, PERSONS.c.removed, PERSONS.c.suspended, PERSONS.c.suspended_until),
    {PERSONS.c.name: "person"},
)
_PERSON_KEYS: Final = _Part(sa.select(PERSON_KEYS), {PERSON_KEYS.c.name: "person"})
_PARTS: Final[Mapping[ChangeKind, tuple[_Part, ...]]] = {
    ChangeKind.NODE_ADMIT: (
        _Part(sa.select(NODES.c.state, NODES.c.reason, NODES.c.ak_name, NODES.c.enrolled), {NODES.c.node_id: "node"}),
    ),
    ChangeKind.NODE_LABEL: (_Part(sa.select(NODES.c.labels), {NODES.c.node_id: "node"}),),
    ChangeKind.GOLDEN_ACTIVATE: (
        _Part(sa.select(GOLDENS.c.activated, GOLDENS.c.retired), {GOLDENS.c.digest: "golden"}),
    ),
    ChangeKind.KEY_CREATE: (_KEY,),
    ChangeKind.KEY_POLICY: (_KEY,),
    ChangeKind.KEY_GRANT: (_KEY, _GRANT),
    ChangeKind.KEY_RESUME: (_KEY,),
    ChangeKind.KEY_REVOKE: (_KEY,),
    ChangeKind.MODEL_REGISTER: (_MODEL,),
    ChangeKind.MODEL_RESLOT: (_MODEL,),
    ChangeKind.PERSON_INVITE: (_PERSON,),
    ChangeKind.PERSON_REMOVE: (_PERSON,),
    ChangeKind.PERSON_KEY_ADD: (_PERSON, _PERSON_KEYS),
    ChangeKind.PERSON_KEY_REMOVE: (_PERSON, _PERSON_KEYS),
    ChangeKind.PERSON_RESUME: (_PERSON,),
    ChangeKind.RULES_SET: (_Part(sa.select(RULES.c.version, RULES.c.since), {}),),
}
