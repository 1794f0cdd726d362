"""Adds people, each with a client certificate, and removes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from nodeseal.crypto.authority import CertificateAuthority
from nodeseal.crypto.tls_identity import to_pem
from nodeseal.crypto.tls_key import certificate_request, new_tls_key
from nodeseal.errors import MalformedInput, NotFound, OutOfOrder, Unavailable
from nodeseal.files import PUBLIC, write_new
from nodeseal.ids import PersonId
from nodeseal.verifier.ledger.acts import PersonAdded, PersonRemoved
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.ledger.leaf import MacKey
from nodeseal.verifier.ledger.log import record_alone
from nodeseal.verifier.states import PEOPLE, Role
from nodeseal.verifier.store.persons import find_person

PERSON_DAYS: Final = 365


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """Who is to get a certificate.

    Attributes:
        name: of the person.
        roles: what they may do.
        trust_domain: SPIFFE trust domain.
        verifier: address that their client calls, ``host:port``.
        actor: who adds them, for the log.
    """

    name: PersonId
    roles: frozenset[Role]
    trust_domain: str
    verifier: str
    actor: str


def parse_roles(texts: Iterable[str]) -> frozenset[Role]:
    """Return roles of people by their names.

    Raises:
        MalformedInput: no role, or one that people cannot have.
    """
    known = {role.value: role for role in PEOPLE}
    names = frozenset(texts)
    if not names or not names <= known.keys():
        raise MalformedInput(
            f"not roles: {', '.join(sorted(names)) or 'none'}", remedy=f"choose of {', '.join(sorted(known))}"
        )
    return frozenset(known[name] for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Where people are recorded, by a command on the verifier's host.

    Attributes:
        engine: of the database.
        mac_key: of act rows.
        at: now.
    """

    engine: sa.Engine
    mac_key: MacKey
    at: datetime

    def add(self, authority: CertificateAuthority, newcomer: Newcomer, folder: Path) -> None:
        """Write a new client certificate with its key and ``client.yaml`` to ``folder``, and record who it is for.

        Raises:
            OutOfOrder: there is a person of that name.
            MalformedInput: the folder holds such files already.
            Unavailable: database or folder cannot be written.
        """
        key = new_tls_key()
        request = certificate_request(key, newcomer.name)
        days = timedelta(days=PERSON_DAYS)
        certificate = authority.issue_person(request, newcomer.trust_domain, newcomer.name, self.at, days)
        added = PersonAdded(
            name=newcomer.name, roles=_spelled(newcomer.roles), certificate_sha256=sha256(certificate).digest()
        )
        record_alone(self.engine, self.mac_key, newcomer.actor, self.at, lambda rows: _adding(rows, added))
        _write_bundle(folder, newcomer.verifier, authority.certificate_pem, to_pem(certificate), key)

    def remove(self, name: PersonId, actor: str) -> None:
        """Remove a person: their next call is refused.

        Raises:
            NotFound: there is nobody of that name.
            Unavailable: the database cannot be written.
        """
        record_alone(self.engine, self.mac_key, actor, self.at, lambda rows: _removing(rows, name))


def _adding(connection: sa.Connection, added: PersonAdded) -> Decided[None]:
    existing = find_person(connection, added.name)
    if existing is not None and existing.removed is None:
        raise OutOfOrder(f"there is somebody called {added.name} already", remedy="remove them first")
    return Decided(None, (added,))


def _removing(connection: sa.Connection, name: PersonId) -> Decided[None]:
    person = find_person(connection, name)
    if person is None or person.removed is not None:
        raise NotFound(f"there is nobody called {name}")
    removed = PersonRemoved(name=name, roles=_spelled(person.roles), certificate_sha256=person.certificate_sha256)
    return Decided(None, (removed,))


def _spelled(roles: Iterable[Role]) -> tuple[str, ...]:
    return tuple(sorted(role.value for role in roles))


def _write_bundle(folder: Path, verifier: str, ca: bytes, certificate: bytes, key: bytes) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"{folder}: {error.strerror}") from error
    client = f'verifier: "{verifier}"\nca: "ca.pem"\ncertificate: "person.pem"\nkey: "person.key"\n'
    write_new(folder / "person.key", key)
    write_new(folder / "person.pem", certificate, PUBLIC)
    write_new(folder / "ca.pem", ca, PUBLIC)
    write_new(folder / "client.yaml", client.encode(), PUBLIC)
