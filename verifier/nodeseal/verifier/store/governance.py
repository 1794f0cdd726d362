"""Rules, SSH keys of people and proposals with their approvals, in the database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from nodeseal.governance.quorum import Approval, Member, Outcome
from nodeseal.governance.rules import SOLO, Rules, decode_rules
from nodeseal.ids import Digest, PersonId
from nodeseal.verifier.states import Role
from nodeseal.verifier.store.persons import list_persons
from nodeseal.verifier.store.rows import find_record, read_records
from nodeseal.verifier.store.schema import APPROVALS, PERSON_KEYS, PROPOSALS, RULES

_CURRENT: Final = sa.select(RULES.c.document).order_by(RULES.c.version.desc()).limit(1)
_PROPOSERS: Final = frozenset({Role.OPERATOR, Role.APPROVER})


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonKey:
    """An SSH key that approves.

    Attributes:
        blob: the public key as SSH encodes it.
        name: whose it is.
        fingerprint: as ``ssh-keygen -l`` prints it.
        in_token: whether a FIDO2 token holds the private half.
        added: when.
    """

    blob: bytes
    name: PersonId
    fingerprint: str
    in_token: bool
    added: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalRecord:
    """A proposal.

    Attributes:
        proposal: its id.
        document: what people sign.
        signature: of the proposer; empty: none.
        attachment: what travels beside it; empty in lists, since it may be large.
        made: when.
        expires: when it ends by itself.
        outcome: ``open`` until it has its one outcome.
        why: of the outcome.
        settled: when it got it, or None.
        result: what came of it, for whoever proposed it, or None.
    """

    proposal: Digest
    document: bytes
    signature: bytes
    attachment: bytes
    made: datetime
    expires: datetime
    outcome: str
    why: str
    settled: datetime | None
    result: bytes | None

    @property
    def is_open(self) -> bool:
        """Whether it has no outcome yet."""
        return self.outcome == Outcome.OPEN.value


def current_rules(connection: sa.Connection) -> Rules:
    """Return the rules in force.

    Raises:
        MalformedInput: the document was changed in the database.
    """
    document = connection.scalar(_CURRENT)
    return SOLO if document is None else decode_rules(document, "store: rules")


def has_rules(connection: sa.Connection) -> bool:
    """Tell whether any rules were ever set."""
    return connection.scalar(_CURRENT) is not None


def put_rules(connection: sa.Connection, version: int, document: bytes, since: datetime) -> None:
    """Let rules be in force."""
    connection.execute(RULES.insert().values(version=version, document=document, since=since))


def list_person_keys(connection: sa.Connection) -> list[PersonKey]:
    """Return the SSH keys of all people."""
    return read_records(connection, sa.select(PERSON_KEYS).order_by(PERSON_KEYS.c.name, PERSON_KEYS.c.added), PersonKey)


def add_person_key(connection: sa.Connection, key: PersonKey) -> None:
    """Let an SSH key approve."""
    values = {"blob": key.blob, "name": key.name, "fingerprint": key.fingerprint}
    connection.execute(PERSON_KEYS.insert().values(**values, in_token=key.in_token, added=key.added))


def remove_person_key(connection: sa.Connection, name: PersonId, fingerprint: str) -> None:
    """Let an SSH key approve no more."""
    of_person = PERSON_KEYS.c.name == name
    connection.execute(PERSON_KEYS.delete().where(of_person, PERSON_KEYS.c.fingerprint == fingerprint))


def remove_person_keys(connection: sa.Connection, name: PersonId) -> None:
    """Let no SSH key of a person approve any more."""
    connection.execute(PERSON_KEYS.delete().where(PERSON_KEYS.c.name == name))


def members(connection: sa.Connection) -> dict[PersonId, Member]:
    """Return everybody who operates the verifier, as rules see them."""
    keys = list_person_keys(connection)
    found = {}
    for person in list_persons(connection):
        own = [key for key in keys if key.name == person.name]
        active = person.suspended is None
        found[person.name] = Member(
            name=person.name,
            proposes=active and bool(person.roles & _PROPOSERS),
            approves=active and Role.APPROVER in person.roles,
            keys=frozenset(key.blob for key in own),
            token_keys=frozenset(key.blob for key in own if key.in_token),
        )
    return found


def add_proposal(connection: sa.Connection, record: ProposalRecord) -> None:
    """Store a proposal."""
    names = [column.name for column in PROPOSALS.c]
    connection.execute(PROPOSALS.insert().values({name: getattr(record, name) for name in names}))


def find_proposal(connection: sa.Connection, proposal: Digest) -> ProposalRecord | None:
    """Return a proposal with its attachment."""
    return find_record(connection, sa.select(PROPOSALS).where(PROPOSALS.c.proposal == proposal), ProposalRecord)


def list_proposals(connection: sa.Connection, *, only_open: bool) -> list[ProposalRecord]:
    """Return proposals without attachments, the oldest first."""
    query = sa.select(*_slim()).order_by(PROPOSALS.c.made, PROPOSALS.c.proposal)
    if only_open:
        query = query.where(PROPOSALS.c.outcome == Outcome.OPEN.value)
    return read_records(connection, query, ProposalRecord)


def _slim() -> Iterable[sa.ColumnElement[Any]]:
    nothing = sa.literal(b"").label("attachment")
    return (nothing if column is PROPOSALS.c.attachment else column for column in PROPOSALS.c)


def add_approval(connection: sa.Connection, proposal: Digest, approval: Approval) -> None:
    """Store an approval, in place of an older one by the same person."""
    of_person = APPROVALS.c.person == approval.person
    connection.execute(APPROVALS.delete().where(APPROVALS.c.proposal == proposal, of_person))
    values = {"person": approval.person, "signature": approval.signature, "at": approval.at}
    connection.execute(APPROVALS.insert().values(proposal=proposal, **values))


def approvals_of(connection: sa.Connection, proposal: Digest) -> tuple[Approval, ...]:
    """Return the approvals of a proposal in the order in which they arrived."""
    columns = (APPROVALS.c.person, APPROVALS.c.signature, APPROVALS.c.at)
    query = sa.select(*columns).where(APPROVALS.c.proposal == proposal).order_by(APPROVALS.c.at, APPROVALS.c.person)
    return tuple(read_records(connection, query, Approval))


def settle_proposal(connection: sa.Connection, proposal: Digest, outcome: str, why: str, at: datetime) -> None:
    """Give a proposal its outcome."""
    values = {"outcome": outcome, "why": why, "settled": at}
    connection.execute(PROPOSALS.update().where(PROPOSALS.c.proposal == proposal).values(values))


def put_result(connection: sa.Connection, proposal: Digest, result: bytes) -> None:
    """Store what came of a proposal."""
    connection.execute(PROPOSALS.update().where(PROPOSALS.c.proposal == proposal).values(result=result))


def attachment_of(connection: sa.Connection, proposal: Digest) -> bytes:
    """Return what travels beside a proposal."""
    query = sa.select(PROPOSALS.c.attachment).where(PROPOSALS.c.proposal == proposal)
    return bytes(connection.execute(query).scalar_one())
