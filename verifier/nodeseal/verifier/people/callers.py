"""Callers: from a TLS client certificate to a node or a person, with the roles that count now.

TLS checked the chain when the connection was made. Everything that can change since then is checked here on every
call: the certificate's end, whether the node or person still exists, and whether this certificate is still theirs.
People are looked up in the database, since a command on the host adds and removes them. While it cannot be read, memory
speaks for people who only take trust away.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from hmac import compare_digest
from typing import Final

import sqlalchemy as sa

from nodeseal.crypto.tls_identity import PeerIdentity, PeerKind, peer_identity
from nodeseal.errors import MalformedInput, PolicyRefused, ProofFailed, Unavailable
from nodeseal.findings import Finding, FindingId
from nodeseal.governance.changes import ChangeKind
from nodeseal.ids import NodeId, PersonId
from nodeseal.verifier.enrolment.certificates import Certificates
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.fleet.mandate import Mandate, alone, require_alone
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.ledger.tree.state import RowPlace
from nodeseal.verifier.people.renewals import first_use
from nodeseal.verifier.people.roles import ALLOWED, ON_MEMORY, WIDENING
from nodeseal.verifier.states import NodeState, Role
from nodeseal.verifier.store.database import BUSY_SECONDS
from nodeseal.verifier.store.persons import Person, find_person


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls.

    Attributes:
        roles: what they may do.
        actor: how the audit log calls them.
        identity: what their certificate says, or None without one.
        node: the node, if one calls.
        mandate: on whose authority the call may widen trust: their own, as far as the rules leave it to one person;
            None: the method needs none.
    """

    roles: frozenset[Role]
    actor: str
    identity: PeerIdentity | None = None
    node: Node | None = None
    mandate: Mandate | None = None

    @property
    def authority(self) -> Mandate:
        """The mandate of a call that needs one.

        Raises:
            PolicyRefused: the table of roles names no kind of change for the method, so nobody may use it alone.
        """
        if self.mandate is None:
            raise PolicyRefused(_role_finding("a method of the table of mandates", "another", ""))
        return self.mandate


_OF_NODES: Final = frozenset({Role.NODE})
ANONYMOUS: Final = Caller(roles=frozenset({Role.ANONYMOUS}), actor="anonymous")


class Callers:
    """Identifies callers and holds them against the table of roles."""

    def __init__(self, fleet: Fleet, trust_domain: str, certificates: Certificates) -> None:
        self._fleet: Final = fleet
        self._trust_domain: Final = trust_domain
        self._certificates: Final = certificates

    async def authorise(self, method: str, certificate_pem: bytes | None) -> Caller:
        """Return who calls ``method``.

        Raises:
            ProofFailed: the certificate is expired, of another trust domain, unknown, or not theirs any more.
            PolicyRefused: the caller has none of the roles that may call it, or the rules want a proposal.
            Unavailable: people cannot be looked up now, or the caller's row is not what their acts made, and the
                method does more than restrict.
        """
        caller = ANONYMOUS if certificate_pem is None else await self._identify(method, certificate_pem)
        allowed = ALLOWED.get(method, frozenset())
        if not caller.roles & allowed:
            expected = " or ".join(sorted(role.value for role in allowed)) or "nobody"
            seen = ", ".join(sorted(role.value for role in caller.roles)) or "no role"
            raise PolicyRefused(_role_finding(expected, seen, method))
        kind = WIDENING.get(method)
        if kind is None:
            return caller
        if kind is not ChangeKind.KEY_REVOKE:  # taking a key from one node is this method, too
            require_alone(self._fleet.memory.rules, kind)
        return replace(caller, mandate=alone(caller.actor, kind))

    async def _identify(self, method: str, certificate_pem: bytes) -> Caller:
        try:
            identity = peer_identity(ssl.PEM_cert_to_DER_cert(certificate_pem.decode("ascii")))
        except (ValueError, MalformedInput) as error:
            raise ProofFailed(_certificate("a certificate that parses", str(error))) from error
        self._check(identity, self._fleet.clock.wall())
        if identity.kind is PeerKind.NODE:
            return await self._node(identity)
        if identity.kind is PeerKind.PERSON:
            return await self._person(method, identity)
        raise ProofFailed(_certificate("a certificate of a node or person", identity.kind.value))

    def _check(self, identity: PeerIdentity, now: datetime) -> None:
        if now >= identity.not_after:
            raise ProofFailed(_certificate("a certificate that is valid now", f"one until {identity.not_after}"))
        if identity.trust_domain != self._trust_domain:
            raise ProofFailed(_certificate(f"trust domain {self._trust_domain}", identity.trust_domain))

    async def _node(self, identity: PeerIdentity) -> Caller:
        node = self._fleet.find(NodeId(identity.name))
        if node is None:
            raise ProofFailed(_unknown(FindingId.NODE_UNKNOWN, "an enrolled node", identity))
        if node.state is NodeState.RETIRED:
            raise ProofFailed(_unknown(FindingId.NODE_RETIRED, "a node in service", identity))
        if not await self._certificates.speaks_for(node, identity.certificate_sha256):
            raise ProofFailed(_unknown(FindingId.NODE_UNKNOWN, "the node's current certificate", identity))
        return Caller(roles=_OF_NODES, actor=node.actor, identity=identity, node=node)

    async def _person(self, method: str, identity: PeerIdentity) -> Caller:
        name = PersonId(identity.name)
        store = self._fleet.store
        try:
            read = store.read_soon if method in ON_MEMORY else store.read
            person = await read(lambda connection: self._find(connection, method, name))
        except Unavailable:
            if method not in ON_MEMORY:
                raise
            person = self._fleet.memory.person(name)
        if person is None or person.removed is not None:
            raise ProofFailed(_unknown(FindingId.PERSON_UNKNOWN, "a person who may operate this verifier", identity))
        if person.suspended is not None or self._fleet.memory.is_locked_out(name):
            raise ProofFailed(_unknown(FindingId.PERSON_SUSPENDED, "a person who is not suspended", identity))
        if not await self._speaks_for(person, identity.certificate_sha256):
            raise ProofFailed(_unknown(FindingId.PERSON_UNKNOWN, "the person's current certificate", identity))
        return Caller(roles=person.roles, actor=f"person/{name}", identity=identity)

    def _find(self, connection: sa.Connection, method: str, name: PersonId) -> Person | None:
        """Return a person by a row that their acts explain; whoever only takes trust away need not wait for that."""
        if method not in ON_MEMORY:
            self._fleet.ledger.explained.require(connection, (RowPlace("persons", (name,)),))
        return find_person(connection, name)

    async def _speaks_for(self, person: Person, used: bytes) -> bool:
        """Tell whether a certificate counts; the first use of a renewed one ends the one before.

        While the store takes no act, or not soon, both count: whoever renewed must be able to take trust away.
        """
        if compare_digest(person.certificate_sha256, used):
            return True
        if person.next_certificate_sha256 is None or not compare_digest(person.next_certificate_sha256, used):
            return False
        name = person.name
        with suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(BUSY_SECONDS):
                await self._fleet.ledger.commit(f"person/{name}", lambda connection: first_use(connection, name, used))
        return True


def _role_finding(expected: str, seen: str, method: str) -> Finding:
    return Finding(id=FindingId.PERSON_ROLE, expected=expected, seen=seen, where=method)


def _certificate(expected: str, seen: str) -> Finding:
    return Finding(id=FindingId.TLS_CERTIFICATE, expected=expected, seen=seen)


def _unknown(finding: FindingId, expected: str, identity: PeerIdentity) -> Finding:
    seen = f"certificate {identity.certificate_sha256.hex()}"
    return Finding(id=finding, expected=expected, seen=seen, where=identity.name)
