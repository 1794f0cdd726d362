"""Adds people, each with a client certificate, gives them new ones, and removes them, on the verifier's host."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import sqlalchemy as sa

from nodeseal.crypto.authority import CertificateAuthority
from nodeseal.crypto.ssh_key import parse_ssh_key
from nodeseal.crypto.tls_files import certificates_in
from nodeseal.crypto.tls_identity import peer_identity, to_pem
from nodeseal.crypto.tls_key import certificate_request, new_tls_key
from nodeseal.errors import MalformedInput, OutOfOrder
from nodeseal.files import PRIVATE, PUBLIC, naming, new_folder, write_file
from nodeseal.ids import PersonId
from nodeseal.verifier.ledger.acts import PersonAdded, PersonCertificateReplaced, PersonRemoved
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.ledger.leaf import MacKey
from nodeseal.verifier.ledger.log import record_alone
from nodeseal.verifier.people.renewals import require_person
from nodeseal.verifier.people.ssh_keys import adding_key
from nodeseal.verifier.states import PEOPLE, Role
from nodeseal.verifier.store.governance import current_rules
from nodeseal.verifier.store.persons import PERSON_LIFETIME, Person, find_person, list_persons


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

        Either the folder is there and the person may call, or neither.

        Raises:
            OutOfOrder: there is a person of that name, or the rules want a proposal.
            MalformedInput: the folder exists and is not empty.
            Unavailable: database or folder cannot be written.
        """
        bundle, certificate = _bundle(authority, newcomer, self.at)
        added = PersonAdded(
            name=newcomer.name, roles=spelled(newcomer.roles), certificate_sha256=sha256(certificate).digest()
        )
        with _new_folder(folder, bundle):
            record_alone(self.engine, self.mac_key, newcomer.actor, self.at, lambda rows: _adding(rows, added))

    def renew(self, authority: CertificateAuthority, newcomer: Newcomer, folder: Path) -> None:
        """Give a person a new client with a new certificate, which ends all others of theirs; the roles stay.

        Raises:
            NotFound: there is nobody of that name.
            MalformedInput: the folder exists and is not empty.
            Unavailable: database or folder cannot be written.
        """
        bundle, certificate = _bundle(authority, newcomer, self.at)
        expires = peer_identity(certificate).not_after
        replaced = PersonCertificateReplaced(
            name=newcomer.name, certificate_sha256=sha256(certificate).digest(), expires=expires
        )
        with _new_folder(folder, bundle):
            record_alone(self.engine, self.mac_key, newcomer.actor, self.at, lambda rows: _renewing(rows, replaced))

    def add_key(self, name: PersonId, line: str, actor: str) -> str:
        """Let a person approve with an SSH key; return its fingerprint.

        Raises:
            MalformedInput: not a line of a ``.pub`` file, or a key that is not accepted.
            NotFound: there is nobody of that name.
            OutOfOrder: somebody has this key, the person has many, or the rules want a proposal.
            Unavailable: the database cannot be written.
        """
        key = parse_ssh_key(line)

        def decide(connection: sa.Connection) -> Decided[None]:
            require_solo(connection)
            return adding_key(connection, name, key)

        record_alone(self.engine, self.mac_key, actor, self.at, decide)
        return key.fingerprint

    def remove(self, name: PersonId, actor: str, *, even_last: bool = False) -> None:
        """Remove a person: their next call is refused.

        Args:
            name: who.
            actor: who removes them.
            even_last: whether the last approver may go, after whom nobody can widen trust over the API.

        Raises:
            NotFound: there is nobody of that name.
            OutOfOrder: they are the last approver.
            Unavailable: the database cannot be written.
        """
        when = None if even_last else self.at
        record_alone(self.engine, self.mac_key, actor, self.at, lambda rows: removing(rows, name, when))


def certificates_end(persons: Iterable[Person], ca_pem: bytes) -> tuple[tuple[Person, datetime], ...]:
    """Return persons with the end of what they can log in with: the later of their certificates, or the authority."""
    last = certificates_in(ca_pem)[0].not_after
    return tuple((person, min(last, _last_end(person))) for person in persons)


def _last_end(person: Person) -> datetime:
    return max(person.expires, person.next_expires or person.expires)


def _adding(connection: sa.Connection, added: PersonAdded) -> Decided[None]:
    require_solo(connection)
    existing = find_person(connection, added.name)
    if existing is not None and existing.removed is None:
        remedy = (
            f"for a new certificate: nodeseal-verifier person renew {added.name}; for other roles, remove them first"
        )
        raise OutOfOrder(f"there is somebody called {added.name} already", remedy=remedy)
    return Decided(None, (added,))


def require_solo(connection: sa.Connection) -> None:
    """Make sure that one person may decide who decides, on the host as over the API.

    Raises:
        OutOfOrder: the rules want a quorum.
    """
    rules = current_rules(connection)
    if not rules.solo:
        remedy = (
            "propose it over the API: nodeseal propose --help; if nobody can approve: nodeseal-verifier rules recover"
        )
        raise OutOfOrder(f"the rules in force are {rules.words}", remedy=remedy)


def _renewing(connection: sa.Connection, replaced: PersonCertificateReplaced) -> Decided[None]:
    require_person(connection, replaced.name)
    return Decided(None, (replaced,))


def removing(connection: sa.Connection, name: PersonId, at: datetime | None) -> Decided[None]:
    """Remove a person; ``at``: the time at which another approver must have a valid certificate, None: nobody need."""
    person = require_person(connection, name)
    approvers = [each for each in list_persons(connection) if Role.APPROVER in each.roles]
    if at is not None and [each.name for each in approvers if _last_end(each) > at] == [name]:
        remedy = "add another approver first; on the verifier's host: nodeseal-verifier person remove NAME --last"
        raise OutOfOrder(f"{name} is the last approver: nobody could widen trust any more", remedy=remedy)
    removed = PersonRemoved(name=name, roles=spelled(person.roles), certificate_sha256=person.certificate_sha256)
    return Decided(None, (removed,))


def spelled(roles: Iterable[Role]) -> tuple[str, ...]:
    """Return roles as acts spell them."""
    return tuple(sorted(role.value for role in roles))


def _bundle(authority: CertificateAuthority, newcomer: Newcomer, at: datetime) -> tuple[dict[str, bytes], bytes]:
    """Return the files of a person's client by name, and the new certificate in them."""
    key = new_tls_key()
    request = certificate_request(key, newcomer.name)
    certificate = authority.issue_person(request, newcomer.trust_domain, newcomer.name, at, PERSON_LIFETIME)
    client = f'verifier: "{newcomer.verifier}"\nca: "ca.pem"\ncertificate: "person.pem"\nkey: "person.key"\n'
    files = {
        "person.key": key,
        "person.pem": to_pem(certificate),
        "ca.pem": authority.certificate_pem,
        "client.yaml": client.encode(),
    }
    return files, certificate


@contextmanager
def _new_folder(folder: Path, files: Mapping[str, bytes]) -> Iterator[None]:
    """Make a folder with files, whole or not at all, and remove it again if the block fails."""
    with naming(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise MalformedInput(f"{folder}: exists already", remedy="name a folder that does not exist yet")
        folder.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(folder) as draft:
        for name, content in files.items():
            write_file(draft / name, content, PRIVATE if name.endswith(".key") else PUBLIC)
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
