"""``nodeseal.v1.Enrollment``: one stream is one attempt, with one deadline over all of it.

Nobody has proved anything here, so room is shared by address (:class:`~nodeseal.verifier.limits.SharedSeats`). Streams
that have said nothing wait in a lobby, for a few seconds, and a newcomer takes the place of the oldest one. Whoever has
shown an identity holds a seat, which silence of others never takes; addresses with many give way to addresses with few.
Of one endorsement key, the newest attempts count, at one address and at all of them together.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final, Literal

from grpc import aio

from nodeseal.errors import OutOfOrder
from nodeseal.v1 import enrollment_pb2, enrollment_pb2_grpc
from nodeseal.verifier.config import EnrolmentSettings
from nodeseal.verifier.enrolment.enroller import Attempt, Enrolled, Enroller, parse_facts
from nodeseal.verifier.enrolment.identity import ClaimedIdentity
from nodeseal.verifier.limits import SharedSeats
from nodeseal.verifier.services.bounds import address_of, arriving
from nodeseal.verifier.store.nodes import NodeFacts

_ATTEMPTS: Final = 2
"""Of one endorsement key at one address that wait for the TPM."""
_COPIES: Final = 8
"""Of one endorsement key at all addresses: its certificate is public, and many networks cost nothing."""
_Stream = aio.ServicerContext[enrollment_pb2.EnrollRequest, enrollment_pb2.EnrollResponse]


class EnrolmentService(enrollment_pb2_grpc.EnrollmentServicer):
    """Enrolments, a limited number at once."""

    def __init__(self, enroller: Enroller, settings: EnrolmentSettings) -> None:
        self._enroller: Final = enroller
        self._settings: Final = settings
        most = settings.concurrent
        self._lobby: Final = SharedSeats(most, most, "silent enrolments", renews=True)
        self._seats: Final = SharedSeats(most, most, "enrolments")
        self._copies: Final = SharedSeats(most, _COPIES, "enrolments of one node", renews=True)
        self._attempts: Final = SharedSeats(most, _ATTEMPTS, "enrolments of one node", renews=True)

    async def Enroll(  # type: ignore[override]  # noqa: N802 - the generated stubs know no handlers that write
        self, _requests: AsyncIterator[enrollment_pb2.EnrollRequest], context: _Stream
    ) -> None:
        """Enrol one node."""
        try:
            async with asyncio.timeout(self._settings.deadline_seconds):
                await self._enrol(context, address_of(context.peer()))
        except TimeoutError as error:
            raise OutOfOrder(f"enrolment took longer than {self._settings.deadline_seconds} seconds") from error

    async def _enrol(self, context: _Stream, address: str) -> None:
        identity = await self._identity(context, address)
        with self._seats.one(address) as seat:
            attempt = await self._enroller.begin(_claimed(identity), _facts(identity), address)
            node_id = attempt.challenge.candidate.node_id
            with self._attempts.one(f"{node_id} at {address}"), self._copies.one(node_id):
                await context.write(_challenge(attempt))
                activation = (await _expect(context, "activation")).activation
            seat.settle()
            await context.write(_enrolled(await self._enroller.finish(attempt, activation.secret)))

    async def _identity(self, context: _Stream, address: str) -> enrollment_pb2.Identity:
        with self._lobby.one(address):
            async with arriving("identity"):
                return (await _expect(context, "identity")).identity


async def _expect(context: _Stream, step: Literal["identity", "activation"]) -> enrollment_pb2.EnrollRequest:
    message: object = await context.read()  # or the end of the stream, whatever the stubs say
    if not isinstance(message, enrollment_pb2.EnrollRequest) or message.WhichOneof("step") != step:
        raise OutOfOrder(f"{step} was expected")
    return message


def _claimed(identity: enrollment_pb2.Identity) -> ClaimedIdentity:
    return ClaimedIdentity(
        ek_public=identity.ek_public,
        ek_certificates=tuple(identity.ek_certificates),
        ek_chain=tuple(identity.ek_chain),
        ak_public=identity.ak_public,
        certificate_request=identity.certificate_request,
    )


def _facts(identity: enrollment_pb2.Identity) -> NodeFacts:
    facts = identity.facts
    return parse_facts(
        hostname=facts.hostname,
        boot_id=facts.boot_id,
        tpm_manufacturer=facts.tpm_manufacturer,
        tpm_firmware=facts.tpm_firmware,
    )


def _challenge(attempt: Attempt) -> enrollment_pb2.EnrollResponse:
    credential = attempt.challenge.credential
    challenge = enrollment_pb2.CredentialChallenge(
        id_object=credential.id_object, encrypted_secret=credential.encrypted_secret
    )
    return enrollment_pb2.EnrollResponse(challenge=challenge)


def _enrolled(enrolled: Enrolled) -> enrollment_pb2.EnrollResponse:
    message = enrollment_pb2.Enrolled(
        node_id=enrolled.node_id,
        trust_domain=enrolled.trust_domain,
        certificate_chain=enrolled.certificate_chain,
    )
    return enrollment_pb2.EnrollResponse(enrolled=message)
