"""``nodeseal.v1.Attestation``: moves messages between a node's stream and its session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final

from grpc import aio

from nodeseal.errors import OutOfOrder
from nodeseal.evidence.binding import Channel
from nodeseal.v1 import attestation_pb2, attestation_pb2_grpc
from nodeseal.verifier.enrolment.certificates import Certificates
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.limits import RateLimit
from nodeseal.verifier.people.callers import Caller
from nodeseal.verifier.rounds.rounds import Rounds
from nodeseal.verifier.rounds.session import DRAIN_SECONDS, Peer, Session
from nodeseal.verifier.services.convert import instruction_to_proto
from nodeseal.verifier.services.interceptor import caller
from nodeseal.wire.evidence import evidence_from_proto

_STREAMS_PER_MINUTE: Final = 60
_RENEWALS_PER_MINUTE: Final = 10
_Stream = aio.ServicerContext[attestation_pb2.Evidence, attestation_pb2.Instruction]


class AttestationService(attestation_pb2_grpc.AttestationServicer):
    """Serves the attestation streams of nodes."""

    def __init__(self, fleet: Fleet, rounds: Rounds, certificates: Certificates) -> None:
        self._fleet: Final = fleet
        self._rounds: Final = rounds
        self._certificates: Final = certificates
        self._limit: Final = RateLimit(_STREAMS_PER_MINUTE, "attestation streams")
        self._renewals: Final = RateLimit(_RENEWALS_PER_MINUTE, "renewals")

    async def Attest(  # type: ignore[override]  # noqa: N802 - the generated stubs know no handlers that write
        self, _requests: AsyncIterator[attestation_pb2.Evidence], context: _Stream
    ) -> None:
        """Lead a node's stream until one side ends it; a node's new stream replaces its old one."""
        node, peer = node_of(caller())
        self._limit.take(node.record.node_id, self._fleet.clock.steady())
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - handlers run in tasks
        session = Session(node, peer, self._rounds, task.cancel)
        if node.stream is not None:
            node.stream.close(OutOfOrder("the node has opened another attestation stream"))
        node.stream = session
        await _serve(session, context)

    async def Renew(  # noqa: N802 - gRPC's spelling
        self,
        request: attestation_pb2.RenewRequest,
        context: aio.ServicerContext[Any, Any],  # noqa: ARG002 - gRPC's
    ) -> attestation_pb2.RenewResponse:
        """Return a fresh certificate for a node that is trusted now."""
        node, _ = node_of(caller())
        self._renewals.take(node.record.node_id, self._fleet.clock.steady())
        chain = await self._certificates.renew(node, request.certificate_request)
        return attestation_pb2.RenewResponse(certificate_chain=chain)


def node_of(who: Caller) -> tuple[Node, Peer]:
    """Return the calling node and its end of the channel.

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
    return who.node, Peer(channel=channel, not_after=who.identity.not_after)


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
