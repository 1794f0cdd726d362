"""Service for people themselves: ``People`` of ``nodeseal.v1``."""
# ruff: noqa: N802, D102, ARG002 - methods are named, described and shaped in people.proto

from __future__ import annotations

from importlib.metadata import version as distribution_version
from typing import Any, Final

from grpc import aio

from nodeseal.crypto.tls_identity import PeerIdentity
from nodeseal.errors import MalformedInput
from nodeseal.ids import parse_person_id
from nodeseal.v1 import people_pb2, people_pb2_grpc
from nodeseal.verifier.clock import Clock
from nodeseal.verifier.people.renewals import PersonCertificates
from nodeseal.verifier.services.interceptor import caller
from nodeseal.wire.messages import timestamp

_Context = aio.ServicerContext[Any, Any]


class PeopleService(people_pb2_grpc.PeopleServicer):
    """Tells people who they are here, and renews their certificates."""

    def __init__(self, certificates: PersonCertificates, clock: Clock) -> None:
        self._clock: Final = clock
        self._certificates: Final = certificates

    async def GetSelf(self, request: people_pb2.GetSelfRequest, context: _Context) -> people_pb2.Self:
        identity, now = _identity(), self._clock.wall()
        return people_pb2.Self(
            name=identity.name,
            roles=sorted(role.value for role in caller().roles),
            expires=timestamp(identity.not_after),
            verifier_version=distribution_version("nodeseal"),
            time=timestamp(now),
        )

    async def RenewCertificate(
        self, request: people_pb2.RenewCertificateRequest, context: _Context
    ) -> people_pb2.RenewCertificateResponse:
        name = parse_person_id(_identity().name)
        chain = await self._certificates.renew(name, request.certificate_request)
        return people_pb2.RenewCertificateResponse(certificate_chain=chain)


def _identity() -> PeerIdentity:
    identity = caller().identity
    if identity is None:
        raise MalformedInput("the caller shows no certificate")
    return identity
