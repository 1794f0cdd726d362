"""People who operate the verifier: their roles, and the one certificate each of them holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from nodeseal.ids import PersonId
from nodeseal.verifier.states import Role
from nodeseal.verifier.store.schema import PERSONS

PERSON_LIFETIME: Final = timedelta(days=365)
"""For how long a new certificate of a person is valid, unless its authority ends before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One person.

    Attributes:
        name: as in the certificate's SPIFFE ID.
        roles: what they may do.
        certificate_sha256: the only certificate that speaks for them, beside the next one.
        added: when.
        expires: when that certificate ends.
        removed: when their access was taken away, or None.
        next_certificate_sha256: the one they renewed it to, which counts alone from its first use on; None: none waits.
        next_expires: when that one ends.
        suspended: since when they are locked out, or None.
        suspended_until: when that lapses; None: not by itself.
        suspended_by: who locked them out.
    """

    name: PersonId
    roles: frozenset[Role]
    certificate_sha256: bytes
    added: datetime
    expires: datetime
    removed: datetime | None = None
    next_certificate_sha256: bytes | None = None
    next_expires: datetime | None = None
    suspended: datetime | None = None
    suspended_until: datetime | None = None
    suspended_by: str | None = None


def find_person(connection: sa.Connection, name: PersonId) -> Person | None:
    """Return the person called ``name``, removed or not."""
    row = connection.execute(sa.select(PERSONS).where(PERSONS.c.name == name)).one_or_none()
    return None if row is None else _person(row)


def list_persons(connection: sa.Connection) -> list[Person]:
    """Return the persons who may operate the verifier, by name."""
    query = sa.select(PERSONS).where(PERSONS.c.removed.is_(None)).order_by(PERSONS.c.name)
    return [_person(row) for row in connection.execute(query)]


def put_person(connection: sa.Connection, person: Person) -> None:
    """Add a person, or give a removed one a new certificate and new roles."""
    connection.execute(PERSONS.delete().where(PERSONS.c.name == person.name, PERSONS.c.removed.is_not(None)))
    connection.execute(
        PERSONS.insert().values(
            name=person.name,
            roles=" ".join(sorted(role.value for role in person.roles)),
            certificate_sha256=person.certificate_sha256,
            added=person.added,
            expires=person.expires,
        )
    )


def put_next_certificate(connection: sa.Connection, name: PersonId, following: bytes, expires: datetime) -> None:
    """Let a renewed certificate speak for a person, too."""
    values = {"next_certificate_sha256": following, "next_expires": expires}
    connection.execute(PERSONS.update().where(PERSONS.c.name == name).values(values))


def replace_certificate(connection: sa.Connection, name: PersonId, certificate: bytes, expires: datetime) -> None:
    """Let one certificate alone speak for a person."""
    values = {
        "certificate_sha256": certificate,
        "expires": expires,
        "next_certificate_sha256": None,
        "next_expires": None,
    }
    connection.execute(PERSONS.update().where(PERSONS.c.name == name).values(values))


def mark_removed(connection: sa.Connection, name: PersonId, at: datetime) -> None:
    """Mark a person as removed."""
    connection.execute(PERSONS.update().where(PERSONS.c.name == name).values(removed=at))


def suspend_person(
    connection: sa.Connection, name: PersonId, since: datetime | None, until: datetime | None, by: str | None
) -> None:
    """Lock a person out until a time, for good without one, or let them in again without a beginning."""
    values = {"suspended": since, "suspended_until": until, "suspended_by": by}
    connection.execute(PERSONS.update().where(PERSONS.c.name == name).values(values))


def lapsed_persons(connection: sa.Connection, now: datetime) -> list[PersonId]:
    """Return people whose suspension has lapsed."""
    over = sa.and_(PERSONS.c.removed.is_(None), PERSONS.c.suspended_until <= now)
    return [PersonId(row.name) for row in connection.execute(sa.select(PERSONS.c.name).where(over))]


def confirm_person(connection: sa.Connection, name: PersonId) -> None:
    """Let the suspension of a person not lapse."""
    connection.execute(PERSONS.update().where(PERSONS.c.name == name).values(suspended_until=None))


def _person(row: sa.Row[tuple[object, ...]]) -> Person:
    return Person(
        name=row.name,
        roles=frozenset(map(Role, row.roles.split())),
        certificate_sha256=row.certificate_sha256,
        added=row.added,
        expires=row.expires,
        removed=row.removed,
        next_certificate_sha256=row.next_certificate_sha256,
        next_expires=row.next_expires,
        suspended=row.suspended,
        suspended_until=row.suspended_until,
        suspended_by=row.suspended_by,
    )
