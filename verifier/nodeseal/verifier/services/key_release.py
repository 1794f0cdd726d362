"""``nodeseal.v1.KeyRelease``: one stream is one release, with one deadline over all of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Final

from grpc import aio

from nodeseal.errors import OutOfOrder
from nodeseal.v1 import key_release_pb2, key_release_pb2_grpc
from nodeseal.verifier.release.approval import ReleaseProof
from nodeseal.verifier.release.releases import Releases
from nodeseal.verifier.rounds.log_collector import LogCollector
from nodeseal.verifier.rounds.rounds import Rounds
from nodeseal.verifier.services.attestation import node_of
from nodeseal.verifier.services.bounds import arriving
from nodeseal.verifier.services.convert_release import (
    leases_from_proto,
    proof_from_proto,
    released_to_proto,
    request_to_proto,
    wanted_from_proto,
)
from nodeseal.verifier.services.interceptor import caller
from nodeseal.wire.evidence import banks_from_proto, evidence_from_proto

_ASK_SECONDS: Final = 10
_ATTEST_FIRST: Final = "attest on it; claims without these leases end them too"
_Stream = aio.ServicerContext[key_release_pb2.ReleaseRequest, key_release_pb2.ReleaseResponse]


class KeyReleaseService(key_release_pb2_grpc.KeyReleaseServicer):
    """Releases data keys and takes leases back."""

    def __init__(self, releases: Releases, rounds: Rounds) -> None:
        self._releases: Final = releases
        self._rounds: Final = rounds

    async def Release(  # type: ignore[override]  # noqa: N802 - the generated stubs know no handlers that write
        self, _requests: AsyncIterator[key_release_pb2.ReleaseRequest], context: _Stream
    ) -> None:
        """Release one data key."""
        node, _ = node_of(caller())
        logs = LogCollector(node.record.node_id, self._rounds.budget)
        try:
            async with asyncio.timeout(_ASK_SECONDS + self._rounds.settings.answer_within_seconds) as deadline:
                await self._release(context, logs, deadline)
        except TimeoutError as error:
            raise OutOfOrder("the release took too long") from error
        finally:
            logs.clear()

    async def Return(  # noqa: N802 - gRPC's spelling
        self,
        request: key_release_pb2.ReturnRequest,
        context: aio.ServicerContext[Any, Any],
    ) -> key_release_pb2.ReturnResponse:
        """End leases that the node has closed; only the connection on which its TPM has answered may say so.

        Of leases that are not returned so, the node's next claims say that they are over.
        """
        node, peer = node_of(caller(), context.peer())
        leases = leases_from_proto(request.lease_ids)
        if node.stream is None or node.stream.proved_on != peer.connection:
            raise OutOfOrder("the node's TPM has not answered on this connection", remedy=_ATTEST_FIRST)
        await self._releases.give_back(node, leases)
        return key_release_pb2.ReturnResponse()

    async def _release(self, context: _Stream, logs: LogCollector, deadline: asyncio.Timeout) -> None:
        node, peer = node_of(caller())
        async with arriving("ask"):
            ask = (await _expect(context, "ask")).ask
        banks = banks_from_proto(ask.pcr_banks)
        request = await self._releases.begin(node, peer.channel, wanted_from_proto(ask), banks)
        await context.write(request_to_proto(request))
        message, began = await _expect(context, "logs", "proof"), self._rounds.clock.steady()
        if message.WhichOneof("step") == "logs":
            deadline.reschedule(asyncio.get_running_loop().time() + self._rounds.settings.complete_within_seconds)
        while message.WhichOneof("step") == "logs":
            logs.add(evidence_from_proto(message.logs), more=True)
            message = await _expect(context, "logs", "proof")
        proof = _whole(proof_from_proto(message.proof), logs)
        await context.write(released_to_proto(await self._releases.finish(request, proof, began)))


def _whole(proof: ReleaseProof, logs: LogCollector) -> ReleaseProof:
    """Return a proof whose evidence has the logs that came before it."""
    evidence = logs.add(proof.evidence, more=False)
    return replace(proof, evidence=evidence or proof.evidence)


async def _expect(context: _Stream, *steps: str) -> key_release_pb2.ReleaseRequest:
    message: object = await context.read()  # or the end of the stream, whatever the stubs say
    if not isinstance(message, key_release_pb2.ReleaseRequest) or message.WhichOneof("step") not in steps:
        raise OutOfOrder(f"{' or '.join(steps)} was expected")
    return message
