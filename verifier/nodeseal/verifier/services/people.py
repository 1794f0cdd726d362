"""Service for people themselves: ``People`` of ``nodeseal.v1``."""
# ruff: noqa: N802, D102, ARG002 - methods are named, described and shaped in people.proto

from __future__ import annotations

from typing import Any, Final

from grpc import aio

from nodeseal.errors import MalformedInput
from nodeseal.ids import parse_person_id
from nodeseal.v1 import people_pb2, people_pb2_grpc
from nodeseal.verifier.people.renewals import PersonCertificates
from nodeseal.verifier.services.interceptor import caller

_Context = aio.ServicerContext[Any, Any]


class PeopleService(people_pb2_grpc.PeopleServicer):
    """Renews certificates of the people who call."""

    def __init__(self, certificates: PersonCertificates) -> None:
        self._certificates: Final = certificates

    async def RenewCertificate(
        self, request: people_pb2.RenewCertificateRequest, context: _Context
    ) -> people_pb2.RenewCertificateResponse:
        identity = caller().identity
        if identity is None:
            raise MalformedInput("no certificate to renew")
        chain = await self._certificates.renew(parse_person_id(identity.name), request.certificate_request)
        return people_pb2.RenewCertificateResponse(certificate_chain=chain)
