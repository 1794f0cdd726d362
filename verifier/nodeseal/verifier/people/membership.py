"""Who operates the verifier: invited with a certificate for a key of their own, and removed, over the API."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Final

import sqlalchemy as sa

from nodeseal.crypto.authority import CertificateAuthority
from nodeseal.crypto.tls_identity import to_pem
from nodeseal.errors import OutOfOrder
from nodeseal.governance.quorum import reaches
from nodeseal.ids import PersonId
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.fleet.mandate import Mandate
from nodeseal.verifier.ledger.acts import PersonAdded
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.people.persons import parse_roles, removing, spelled
from nodeseal.verifier.store.governance import current_rules, members
from nodeseal.verifier.store.persons import PERSON_LIFETIME, find_person


class Membership:
    """Invites and removes people."""

    def __init__(self, fleet: Fleet, authority: CertificateAuthority, trust_domain: str) -> None:
        self._fleet: Final = fleet
        self._authority: Final = authority
        self._trust_domain: Final = trust_domain

    async def invite(self, name: PersonId, roles: Iterable[str], request_der: bytes, by: Mandate) -> bytes:
        """Let a person operate the verifier; return the certificate for the key of their request, in PEM.

        Raises:
            MalformedInput: roles or request do not parse.
            ProofFailed: ``tls.request``: it is not signed by its own key.
            PolicyRefused: the mandate does not allow it.
            OutOfOrder: there is a person of that name.
            Unavailable: it cannot be recorded now.
        """
        named = spelled(parse_roles(roles))
        await self._fleet.store.read(lambda connection: by.allow(connection, b""))  # before there is a certificate
        at = self._fleet.clock.wall()
        leaf = self._authority.issue_person(request_der, self._trust_domain, name, at, PERSON_LIFETIME)
        act, certificate = PersonAdded(name=name, roles=named, certificate_sha256=sha256(leaf).digest()), to_pem(leaf)

        def decide(connection: sa.Connection) -> Decided[None]:
            known = find_person(connection, name)
            if known is not None and known.removed is None:
                raise OutOfOrder(f"there is somebody called {name} already", remedy="nodeseal person list")
            return Decided(None, (act,))

        await self._fleet.ledger.commit(by.actor, by.over(decide, certificate))
        return certificate

    async def remove(self, name: PersonId, by: Mandate) -> None:
        """Remove a person: their next call is refused, and their approvals count no more.

        Raises:
            PolicyRefused: the mandate does not allow it.
            NotFound: there is nobody of that name.
            OutOfOrder: they are the last approver, or nobody could meet the rules without them.
            Unavailable: it cannot be recorded now.
        """
        at = self._fleet.clock.wall()

        def decide(connection: sa.Connection) -> Decided[None]:
            decided = removing(connection, name, at)
            if not reaches(current_rules(connection), members(connection), name):
                remedy = "invite another approver first, or propose other rules"
                raise OutOfOrder(f"without {name} nobody could meet the rules", remedy=remedy)
            return decided

        await self._fleet.ledger.commit(by.actor, by.over(decide))
