from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc
import grpc.aio
import pytest

from nodeseal.agent.calls.channels import send, translated
from nodeseal.errors import (
    MalformedInput,
    NodesealError,
    NotFound,
    OutOfOrder,
    PolicyRefused,
    ProofFailed,
    TooManyRequests,
    Unavailable,
)
from nodeseal.findings import FindingId
from nodeseal.v1 import attestation_pb2, attestation_pb2_grpc

CODE = grpc.StatusCode


def a_failure(code: grpc.StatusCode, *findings: str) -> grpc.aio.AioRpcError:
    verdict = attestation_pb2.Verdict(findings=[attestation_pb2.Finding(id=each) for each in findings])
    metadata = grpc.aio.Metadata(("nodeseal-findings-bin", verdict.SerializeToString()))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), metadata, details="why")


@pytest.mark.parametrize(
    ("code", "findings", "kind"),
    [
        pytest.param(CODE.NOT_FOUND, (), NotFound, id="an unknown node"),
        pytest.param(CODE.INVALID_ARGUMENT, (), MalformedInput, id="a message that does not parse"),
        pytest.param(CODE.FAILED_PRECONDITION, (), OutOfOrder, id="a message out of turn"),
        pytest.param(CODE.RESOURCE_EXHAUSTED, (), TooManyRequests, id="a limit"),
        pytest.param(CODE.UNAVAILABLE, (), Unavailable, id="nobody there"),
        pytest.param(CODE.DEADLINE_EXCEEDED, (), Unavailable, id="no answer in time"),
        pytest.param(CODE.INTERNAL, (), Unavailable, id="a fault of the verifier"),
        pytest.param(CODE.PERMISSION_DENIED, (), Unavailable, id="a refusal without findings"),
        pytest.param(CODE.UNAUTHENTICATED, ("quote.nonce",), ProofFailed, id="a proof that failed"),
        pytest.param(CODE.PERMISSION_DENIED, ("release.not-granted",), PolicyRefused, id="a refusal"),
        pytest.param(CODE.PERMISSION_DENIED, ("future.finding",), Unavailable, id="findings of the future"),
    ],
)
def test_statuses_become_errors(code: grpc.StatusCode, findings: tuple[str, ...], kind: type[NodesealError]) -> None:
    with pytest.raises(NodesealError) as caught, translated("v:1"):
        raise a_failure(code, *findings)
    assert type(caught.value) is kind


def test_findings_of_a_refusal_come_along() -> None:
    with pytest.raises(PolicyRefused) as caught, translated("v:1"):
        raise a_failure(CODE.PERMISSION_DENIED, "release.not-granted", "pcr.mismatch")
    assert [each.id for each in caught.value.findings] == [FindingId.RELEASE_GRANT, FindingId.PCR_MISMATCH]


def test_a_call_whose_channel_was_closed_is_unavailable() -> None:
    async def scenario() -> None:
        with pytest.raises(Unavailable, match="v:1"), translated("v:1"):
            raise asyncio.CancelledError

    asyncio.run(scenario())


class EndedCall:
    """A stream that the verifier has ended, as grpc.aio shows it to a writer."""

    def __init__(self, reason: grpc.aio.AioRpcError | None) -> None:
        self._reason = reason

    async def write(self, _message: object) -> None:
        raise asyncio.InvalidStateError("RPC already finished.")

    async def read(self) -> object:
        if self._reason is not None:
            raise self._reason
        return grpc.aio.EOF


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        pytest.param(a_failure(CODE.NOT_FOUND), NotFound, id="with an error"),
        pytest.param(None, Unavailable, id="without one"),
    ],
)
def test_a_stream_that_ended_before_a_message_was_sent_says_why(
    reason: grpc.aio.AioRpcError | None, kind: type[NodesealError]
) -> None:
    async def scenario() -> None:
        with pytest.raises(NodesealError) as caught, translated("v:1"):
            await send(cast("grpc.aio.StreamStreamCall[Any, Any]", EndedCall(reason)), b"")
        assert type(caught.value) is kind

    asyncio.run(scenario())


class RefusingVerifier(attestation_pb2_grpc.AttestationServicer):
    """Reads one message of an answer and refuses; the node goes on writing."""

    async def Renew(self, requests: AsyncIterator[object], context: grpc.aio.ServicerContext[Any, Any]) -> None:  # type: ignore[override]  # noqa: N802 - gRPC's spelling
        raise NotImplementedError

    async def Attest(self, requests: AsyncIterator[object], context: grpc.aio.ServicerContext[Any, Any]) -> None:  # type: ignore[override]  # noqa: N802 - gRPC's spelling
        await anext(requests)
        await context.abort(CODE.RESOURCE_EXHAUSTED, "logs of too many nodes wait to be judged")


async def answer(call: Any, stretch: attestation_pb2.Evidence, address: str) -> None:
    with translated(address):
        for _ in range(1000):
            await send(call, stretch)


def test_a_refusal_in_the_middle_of_an_answer_is_one_to_come_back_after() -> None:
    # grpc.aio tells a write that was under way that it failed inside (INTERNAL), and forgets the verifier's reason.
    async def refused(address: str) -> NodesealError:
        stretch = attestation_pb2.Evidence(boot_log=bytes(256 * 1024), more=True)
        async with grpc.aio.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
            call = attestation_pb2_grpc.AttestationStub(channel).Attest()
            with pytest.raises(NodesealError) as caught:
                await answer(call, stretch, address)
            return caught.value

    async def scenario() -> None:
        server = grpc.aio.server()
        attestation_pb2_grpc.add_AttestationServicer_to_server(RefusingVerifier(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            kinds = {type(await refused(f"127.0.0.1:{port}")) for _ in range(20)}
            assert kinds <= {TooManyRequests, Unavailable}
        finally:
            await server.stop(0)

    asyncio.run(scenario())


def test_a_task_that_is_cancelled_stays_cancelled() -> None:
    async def work() -> None:
        with translated("v:1"):
            await asyncio.sleep(10)

    async def scenario() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
