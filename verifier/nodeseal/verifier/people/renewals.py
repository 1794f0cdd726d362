"""Fresh certificates of people: they ask for one while theirs is valid, and it ends the one before at its first use.

Until then both count, so that an answer that got lost locks nobody out. Whoever has a person's key can renew, too; the
person then notices at their next call, since their own certificate does not count any more.
"""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from typing import Final

import sqlalchemy as sa

from nodeseal.crypto.authority import CertificateAuthority
from nodeseal.crypto.tls_identity import peer_identity
from nodeseal.errors import NotFound
from nodeseal.ids import PersonId
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.ledger.acts import PersonCertificateReplaced, PersonRenewed
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.store.persons import PERSON_LIFETIME, Person, find_person


class PersonCertificates:
    """Renews certificates of people."""

    def __init__(self, fleet: Fleet, authority: CertificateAuthority, trust_domain: str) -> None:
        self._fleet: Final = fleet
        self._authority: Final = authority
        self._trust_domain: Final = trust_domain

    async def renew(self, name: PersonId, request_der: bytes) -> tuple[bytes, ...]:
        """Return a fresh certificate for a person, leaf first, in DER.

        Raises:
            MalformedInput: the request does not parse.
            ProofFailed: ``tls.request``: it is not signed by its own key.
            NotFound: the person was removed.
            Unavailable: it cannot be recorded now.
        """
        at = self._fleet.clock.wall()
        leaf = self._authority.issue_person(request_der, self._trust_domain, name, at, PERSON_LIFETIME)
        expires = peer_identity(leaf).not_after
        following = sha256(leaf).digest()
        await self._fleet.ledger.commit(
            f"person/{name}", lambda connection: _renewal(connection, name, following, expires)
        )
        return leaf, self._authority.certificate_der


def require_person(connection: sa.Connection, name: PersonId) -> Person:
    """Return a person who may operate the verifier.

    Raises:
        NotFound: there is nobody of that name.
    """
    person = find_person(connection, name)
    if person is None or person.removed is not None:
        raise NotFound(f"there is nobody called {name}", remedy="nodeseal-verifier person list")
    return person


def _renewal(connection: sa.Connection, name: PersonId, following: bytes, expires: datetime) -> Decided[None]:
    person = require_person(connection, name)
    act = PersonRenewed(
        name=name,
        certificate_sha256=person.certificate_sha256,
        next_certificate_sha256=following,
        expires=expires,
    )
    return Decided(None, (act,))


def first_use(connection: sa.Connection, name: PersonId, used: bytes) -> Decided[None]:
    """Decide on the row of the moment that a renewed certificate alone counts: another call may have been first."""
    person = require_person(connection, name)
    if person.next_certificate_sha256 != used or person.next_expires is None:
        return Decided(None)
    act = PersonCertificateReplaced(name=name, certificate_sha256=used, expires=person.next_expires)
    return Decided(None, (act,))
