"""``nodeseal.v1.KeyRelease``: one stream is one release, with one deadline over all of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, Literal

from grpc import aio

from nodeseal.errors import OutOfOrder
from nodeseal.v1 import key_release_pb2, key_release_pb2_grpc
from nodeseal.verifier.releases import Releases
from nodeseal.verifier.services.attestation import node_of
from nodeseal.verifier.services.convert_release import (
    leases_from_proto,
    proof_from_proto,
    released_to_proto,
    request_to_proto,
    wanted_from_proto,
)
from nodeseal.verifier.services.interceptor import caller

_ASK_SECONDS: Final = 10
_Stream = aio.ServicerContext[key_release_pb2.ReleaseRequest, key_release_pb2.ReleaseResponse]


class KeyReleaseService(key_release_pb2_grpc.KeyReleaseServicer):
    """Releases and returns of keys."""

    def __init__(self, releases: Releases, answer_within_seconds: int) -> None:
        self._releases: Final = releases
        self._deadline: Final = _ASK_SECONDS + answer_within_seconds

    async def Release(  # type: ignore[override]  # noqa: N802 - the generated stubs know no handlers that write
        self, _requests: AsyncIterator[key_release_pb2.ReleaseRequest], context: _Stream
    ) -> None:
        """Release one data key."""
        try:
            async with asyncio.timeout(self._deadline):
                await self._release(context)
        except TimeoutError as error:
            raise OutOfOrder(f"the release took longer than {self._deadline} seconds") from error

    async def Return(  # noqa: N802 - gRPC's spelling
        self,
        request: key_release_pb2.ReturnRequest,
        context: aio.ServicerContext[Any, Any],  # noqa: ARG002 - gRPC's
    ) -> key_release_pb2.ReturnResponse:
        """End leases that the node has closed."""
        node, _ = node_of(caller())
        await self._releases.give_back(node, leases_from_proto(request.lease_ids))
        return key_release_pb2.ReturnResponse()

    async def _release(self, context: _Stream) -> None:
        node, peer = node_of(caller())
        wanted = wanted_from_proto((await _expect(context, "ask")).ask)
        request = await self._releases.begin(node, peer.channel, wanted)
        await context.write(request_to_proto(request))
        proof = proof_from_proto((await _expect(context, "proof")).proof)
        await context.write(released_to_proto(await self._releases.finish(request, proof)))


async def _expect(context: _Stream, step: Literal["ask", "proof"]) -> key_release_pb2.ReleaseRequest:
    message: object = await context.read()  # or the end of the stream, whatever the stubs say
    if not isinstance(message, key_release_pb2.ReleaseRequest) or message.WhichOneof("step") != step:
        raise OutOfOrder(f"{step} was expected")
    return message
