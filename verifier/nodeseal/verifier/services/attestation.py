"""``nodeseal.v1.Attestation``: moves messages between a node and its session, or its renewal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final, Literal

from grpc import aio

from nodeseal.errors import OutOfOrder, PolicyRefused
from nodeseal.evidence.binding import Channel
from nodeseal.v1 import attestation_pb2, attestation_pb2_grpc
from nodeseal.verifier.enrolment.renewal import UNQUOTED, Renewals
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.limits import RateLimit
from nodeseal.verifier.people.callers import Caller
from nodeseal.verifier.rounds.log_collector import LogCollector
from nodeseal.verifier.rounds.rounds import Rounds
from nodeseal.verifier.rounds.session import DRAIN_SECONDS, Peer, Session
from nodeseal.verifier.services.bounds import REQUEST_SECONDS, address_of, arriving
from nodeseal.verifier.services.convert import fill_challenge, instruction_to_proto
from nodeseal.verifier.services.interceptor import caller, seat
from nodeseal.wire.evidence import evidence_from_proto

_STREAMS_PER_MINUTE: Final = 60
_Renewing = aio.ServicerContext[attestation_pb2.RenewRequest, attestation_pb2.RenewResponse]
_Stream = aio.ServicerContext[attestation_pb2.Evidence, attestation_pb2.Instruction]


class AttestationService(attestation_pb2_grpc.AttestationServicer):
    """Serves the attestation streams of nodes."""

    def __init__(self, fleet: Fleet, rounds: Rounds, renewals: Renewals) -> None:
        self._fleet: Final = fleet
        self._rounds: Final = rounds
        self._renewals: Final = renewals
        self._limit: Final = RateLimit(_STREAMS_PER_MINUTE, "attestation streams")

    async def Attest(  # type: ignore[override]  # noqa: N802 - the generated stubs know no handlers that write
        self, _requests: AsyncIterator[attestation_pb2.Evidence], context: _Stream
    ) -> None:
        """Lead a node's stream until one side ends it; it replaces an older one once it has proved itself."""
        node, peer = node_of(caller(), context.peer())
        self._limit.take(f"{node.record.node_id} at {peer.address}", self._fleet.clock.steady())
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - handlers run in tasks
        session = Session(node, peer, self._rounds, task.cancel, seat().settle)
        session.begin()
        await _serve(session, context)

    async def Renew(  # type: ignore[override]  # noqa: N802 - the generated stubs know no handlers that write
        self, _requests: AsyncIterator[attestation_pb2.RenewRequest], context: _Renewing
    ) -> None:
        """Return a fresh certificate for a node that is trusted now and proves it for the new key."""
        node, _ = node_of(caller())
        logs = LogCollector(node.record.node_id, self._rounds.budget)
        try:
            async with asyncio.timeout(REQUEST_SECONDS + self._rounds.settings.complete_within_seconds):
                await self._renew(context, logs)
        except TimeoutError as error:
            raise OutOfOrder("the renewal took too long") from error
        finally:
            logs.clear()

    async def _renew(self, context: _Renewing, logs: LogCollector) -> None:
        node, peer = node_of(caller(), context.peer())
        async with arriving("certificate request"):
            request = (await _step(context, "certificate_request")).certificate_request
        renewal = self._renewals.begin(node, peer.channel, request, peer.address)
        response = attestation_pb2.RenewResponse()
        fill_challenge(response.challenge, renewal.asked)
        await context.write(response)
        message, began = (await _step(context, "evidence")).evidence, self._rounds.clock.steady()
        while (evidence := logs.add(evidence_from_proto(message), more=message.more)) is None:
            message = (await _step(context, "evidence")).evidence
        chain = await self._renewals.finish(renewal, evidence, began)
        await context.write(attestation_pb2.RenewResponse(certificate_chain=chain))


async def _step(context: _Renewing, step: Literal["certificate_request", "evidence"]) -> attestation_pb2.RenewRequest:
    message: object = await context.read()  # or the end of the stream, whatever the stubs say
    if not isinstance(message, attestation_pb2.RenewRequest):
        raise PolicyRefused(UNQUOTED)
    if message.WhichOneof("step") != step:
        raise OutOfOrder(f"{step} was expected")
    return message


def node_of(who: Caller, connection: str = "") -> tuple[Node, Peer]:
    """Return the calling node and its end of the channel.

    Args:
        who: calls.
        connection: gRPC's name of the peer.

    Raises:
        OutOfOrder: the caller is no node; the table of roles refuses that before.
    """
    if who.node is None or who.identity is None:
        raise OutOfOrder("only a node may call this")
    channel = Channel(
        trust_domain=who.identity.trust_domain,
        node_id=who.node.record.node_id,
        certificate_sha256=who.identity.certificate_sha256,
    )
    address = address_of(connection)
    return who.node, Peer(channel=channel, not_after=who.identity.not_after, address=address, connection=connection)


async def _serve(session: Session, context: _Stream) -> None:
    # Two tasks, so that the next read is posted before the answer is written: on one core that is a third faster.
    writing = asyncio.Lock()
    writer = asyncio.create_task(_write(session, context, writing))
    try:
        while isinstance(message := await context.read(), attestation_pb2.Evidence):
            await session.answer(evidence_from_proto(message), more=message.more)
            del message  # it would stay until the next one comes: 1.3 KiB of every node
    except asyncio.CancelledError:
        if session.failure is None:
            raise
        _uncancel()
        raise session.failure from None
    finally:
        session.detach()
        await _end(writer, writing)


async def _write(session: Session, context: _Stream, writing: asyncio.Lock) -> None:
    with suppress(aio.BaseError):  # the peer has gone
        while (instruction := await session.instruction()) is not None:
            async with writing:
                await context.write(instruction_to_proto(instruction))
    session.finish()


async def _end(writer: asyncio.Task[None], writing: asyncio.Lock) -> None:
    """End the writer between two messages: gRPC takes no status while a message is on its way."""
    try:
        with suppress(TimeoutError):  # the peer reads nothing
            async with asyncio.timeout(DRAIN_SECONDS), writing:
                pass
    finally:
        writer.cancel()


def _uncancel() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
