"""Service for people: ``People`` of ``nodeseal.v1``."""
# ruff: noqa: N802, D102, ARG002 - methods are named, described and shaped in people.proto

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version as distribution_version
from typing import Any, Final

import sqlalchemy as sa
from grpc import aio

from nodeseal.crypto.ssh_key import decode_ssh_key
from nodeseal.crypto.tls_identity import PeerIdentity
from nodeseal.errors import MalformedInput
from nodeseal.ids import PersonId, parse_person_id
from nodeseal.v1 import people_pb2, people_pb2_grpc
from nodeseal.verifier.fleet.admin import parse_reason
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.people.membership import Membership
from nodeseal.verifier.people.renewals import PersonCertificates
from nodeseal.verifier.people.rulebook import Rulebook
from nodeseal.verifier.people.ssh_keys import SshKeys
from nodeseal.verifier.people.suspensions import Suspensions
from nodeseal.verifier.services.interceptor import caller
from nodeseal.verifier.store.governance import PersonKey, list_person_keys
from nodeseal.verifier.store.persons import Person, list_persons
from nodeseal.wire.messages import fill_timestamp, timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleParts:
    """What decides about people."""

    fleet: Fleet
    rulebook: Rulebook
    ssh_keys: SshKeys
    suspensions: Suspensions
    membership: Membership


_Context = aio.ServicerContext[Any, Any]


class PeopleService(people_pb2_grpc.PeopleServicer):
    """Tells people who they are here, renews their certificates, and takes decisions about people."""

    def __init__(self, certificates: PersonCertificates, parts: PeopleParts) -> None:
        self._certificates: Final = certificates
        self._parts: Final = parts

    async def GetSelf(self, request: people_pb2.GetSelfRequest, context: _Context) -> people_pb2.Self:
        identity, now = _identity(), self._parts.fleet.clock.wall()
        return people_pb2.Self(
            name=identity.name,
            roles=sorted(role.value for role in caller().roles),
            expires=timestamp(identity.not_after),
            verifier_version=distribution_version("nodeseal"),
            time=timestamp(now),
            rules=self._parts.rulebook.words,
        )

    async def RenewCertificate(
        self, request: people_pb2.RenewCertificateRequest, context: _Context
    ) -> people_pb2.RenewCertificateResponse:
        name = parse_person_id(_identity().name)
        chain = await self._certificates.renew(name, request.certificate_request)
        return people_pb2.RenewCertificateResponse(certificate_chain=chain)

    async def ListPeople(
        self, request: people_pb2.ListPeopleRequest, context: _Context
    ) -> people_pb2.ListPeopleResponse:
        people, keys = await self._parts.fleet.store.read(_people)
        facts = (person_to_proto(person, keys) for person in people)
        return people_pb2.ListPeopleResponse(people=facts, rules=self._parts.rulebook.words)

    async def InvitePerson(
        self, request: people_pb2.InvitePersonRequest, context: _Context
    ) -> people_pb2.InvitePersonResponse:
        name = parse_person_id(request.person)
        membership, by = self._parts.membership, caller().authority
        certificate = await membership.invite(name, request.roles, request.certificate_request, by)
        return people_pb2.InvitePersonResponse(person=await self._facts(name), certificate=certificate)

    async def RemovePerson(
        self, request: people_pb2.RemovePersonRequest, context: _Context
    ) -> people_pb2.RemovePersonResponse:
        await self._parts.membership.remove(parse_person_id(request.person), caller().authority)
        return people_pb2.RemovePersonResponse()

    async def AddPersonKey(self, request: people_pb2.AddPersonKeyRequest, context: _Context) -> people_pb2.PersonFacts:
        name = parse_person_id(request.person)
        await self._parts.ssh_keys.add(name, request.key, caller().authority)
        return await self._facts(name)

    async def RemovePersonKey(
        self, request: people_pb2.RemovePersonKeyRequest, context: _Context
    ) -> people_pb2.PersonFacts:
        name = parse_person_id(request.person)
        await self._parts.ssh_keys.remove(name, request.fingerprint, caller().authority)
        return await self._facts(name)

    async def SuspendPerson(
        self, request: people_pb2.SuspendPersonRequest, context: _Context
    ) -> people_pb2.PersonFacts:
        name = parse_person_id(request.person)
        await self._parts.suspensions.suspend_person(name, parse_reason(request.reason), caller().actor)
        return await self._facts(name)

    async def ResumePerson(self, request: people_pb2.ResumePersonRequest, context: _Context) -> people_pb2.PersonFacts:
        name = parse_person_id(request.person)
        await self._parts.suspensions.resume_person(name, caller().authority)
        return await self._facts(name)

    async def _facts(self, name: PersonId) -> people_pb2.PersonFacts:
        people, keys = await self._parts.fleet.store.read(_people)
        return next(person_to_proto(person, keys) for person in people if person.name == name)


def _people(connection: sa.Connection) -> tuple[list[Person], list[PersonKey]]:
    return list_persons(connection), list_person_keys(connection)


def person_to_proto(person: Person, keys: Iterable[PersonKey]) -> people_pb2.PersonFacts:
    """Return a person's message, with those of ``keys`` that are theirs."""
    message = people_pb2.PersonFacts(
        name=person.name,
        roles=sorted(role.value for role in person.roles),
        expires=timestamp(max(person.expires, person.next_expires or person.expires)),
        keys=[_key(key) for key in keys if key.name == person.name],
        suspended_by=person.suspended_by or "",
    )
    if person.suspended is not None:
        fill_timestamp(message.suspended, person.suspended)
    if person.suspended_until is not None:
        fill_timestamp(message.suspended_until, person.suspended_until)
    return message


def _key(key: PersonKey) -> people_pb2.PersonSshKey:
    line = decode_ssh_key(key.blob).line
    added = timestamp(key.added)
    return people_pb2.PersonSshKey(fingerprint=key.fingerprint, line=line, in_token=key.in_token, added=added)


def _identity() -> PeerIdentity:
    identity = caller().identity
    if identity is None:
        raise MalformedInput("the caller shows no certificate")
    return identity
