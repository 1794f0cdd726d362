"""Messages that cost more to read than to send: too large, compressed, nested, or with lists without end.

They are refused before they are decoded, or where they are, and nobody else notices.
"""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc import aio

from nodeseal.evidence.binding import Purpose
from nodeseal.ids import digest_of
from nodeseal.sealed.slots import Slot, Slots
from nodeseal.v1 import attestation_pb2
from support.fake_node import FakeNode
from support.floods import Stage, faults, undisturbed
from support.releases import joined
from support.sealed import model_key
from support.verifier import Refusal, received, refusal_of, refused

MAIN_LIMIT, ENROL_LIMIT = 1 << 20, 256 << 10
ATTEST, RELEASE, RETURN, RENEW, ENROL = (
    "/nodeseal.v1.Attestation/Attest",
    "/nodeseal.v1.KeyRelease/Release",
    "/nodeseal.v1.KeyRelease/Return",
    "/nodeseal.v1.Attestation/Renew",
    "/nodeseal.v1.Enrollment/Enroll",
)
NODE_METHODS = [ATTEST, RELEASE, RETURN, RENEW]
METHODS = [*NODE_METHODS, ENROL]


@pytest.fixture(scope="module")
def node(stage: Stage) -> FakeNode:
    return asyncio.run(joined(stage.verifier))


async def sent(stage: Stage, node: FakeNode, method: str, message: bytes, *, gzip: bool = False) -> Refusal:
    """Send raw bytes as the first message of a call, and return how it is refused."""
    compression = grpc.Compression.Gzip if gzip else grpc.Compression.NoCompression
    async with stage.verifier.enrolment_channel() if method == ENROL else node.channel() as channel:
        try:
            if method == RETURN:
                unary: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
                await unary(message, timeout=5, compression=compression)
            stream: aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
            call = stream(timeout=5, compression=compression)
            await call.write(message)
            while True:
                await received(call)
        except aio.AioRpcError as error:
            return refusal_of(error)


def refused_message(stage: Stage, node: FakeNode, method: str, message: bytes, *, gzip: bool = False) -> Refusal:
    """Do that beside an honest node, and make sure that it was no fault of the verifier's own."""

    async def case() -> Refusal:
        async with undisturbed(stage):
            return await sent(stage, node, method, message, gzip=gzip)

    refusal = asyncio.run(case())
    assert not faults(stage.verifier)
    return refusal


def _field(number: int, payload: bytes) -> bytes:
    """Return one length-delimited field (protobuf encoding, wire type 2)."""
    size, length = len(payload), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2]) + bytes([*length, size]) + payload


@pytest.mark.parametrize("method", METHODS)
def test_d02_a_message_over_the_limit_is_refused(stage: Stage, node: FakeNode, method: str) -> None:
    limit = ENROL_LIMIT if method == ENROL else MAIN_LIMIT
    refusal = refused_message(stage, node, method, _field(15, bytes(limit)))
    assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in refusal.details


@pytest.mark.parametrize("method", [RELEASE, ENROL])
def test_d02_a_message_just_below_the_limit_is_read(stage: Stage, node: FakeNode, method: str) -> None:
    limit = ENROL_LIMIT if method == ENROL else MAIN_LIMIT
    refusal = refused_message(stage, node, method, _field(15, bytes(limit - 100)))
    assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION  # an unknown field, and none that was expected


@pytest.mark.parametrize("method", METHODS)
def test_d02_a_compressed_message_is_refused_before_anything_expands_it(
    stage: Stage, node: FakeNode, method: str
) -> None:
    refusal = refused_message(stage, node, method, _field(15, bytes(200 << 10)), gzip=True)
    # gRPC's core ends the call itself; at times grpc.aio notices first, and says less.
    assert refusal.code in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL)
    assert refusal.details in ("Compression algorithm 'gzip' is disabled.", "Internal error from Core")


@pytest.mark.parametrize("size", [15 << 10, 40 << 10], ids=["what fits", "more"])
@pytest.mark.parametrize("port", ["enrolment", "main"])
def test_d02_metadata_is_limited(stage: Stage, node: FakeNode, port: str, size: int) -> None:
    async def case() -> grpc.StatusCode:
        async with stage.verifier.enrolment_channel() if port == "enrolment" else node.channel() as channel:
            check: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/grpc.health.v1.Health/Check")
            try:
                await check(b"", timeout=20, metadata=(("x-bin", bytes(size * 3 // 4)),))
            except aio.AioRpcError as error:
                return error.code()
            return grpc.StatusCode.OK

    fits = size < 16 << 10
    assert (asyncio.run(case()) is grpc.StatusCode.OK) is fits


NESTED = {
    "groups that never end": b"\x0b" * 100_000,
    "groups within groups": b"\x0b" * 50_000 + b"\x0c" * 50_000,
    "a field that promises four gigabytes": b"\x0a\xff\xff\xff\xff\x0f",
    "a number without an end": b"\x08" + b"\xff" * 11,
    "bytes that are no message": b"\xff" * 1000,
}


@pytest.mark.parametrize("message", NESTED.values(), ids=NESTED)
@pytest.mark.parametrize("method", METHODS)
def test_d02_a_message_that_does_not_parse_is_refused_in_our_own_words(
    stage: Stage, node: FakeNode, method: str, message: bytes
) -> None:
    async def case() -> Refusal:
        return await sent(stage, node, method, message)

    refusal = asyncio.run(case())
    assert (refusal.code, refusal.details) == (grpc.StatusCode.INVALID_ARGUMENT, "the message does not parse")
    assert not faults(stage.verifier)


def test_d02_a_request_of_somebody_who_may_not_call_is_not_decoded(node: FakeNode) -> None:
    async def case() -> Refusal:
        async with node.channel() as channel:
            call: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/nodeseal.v1.Nodes/ListNodes")
            return await refused(call(b"\xff" * 1000, timeout=5))

    assert asyncio.run(case()).findings == ("person.role",)


def test_d02_a_message_within_itself_thousands_of_times_is_refused(stage: Stage, node: FakeNode) -> None:
    message = b""
    for _ in range(3000):
        message = _field(1, message)
    for method in (RELEASE, RETURN):
        assert refused_message(stage, node, method, message).code is grpc.StatusCode.INVALID_ARGUMENT


def test_d02_claims_nested_without_end_are_a_finding_even_when_they_are_signed(stage: Stage) -> None:
    async def case() -> None:
        hostile = await joined(stage.verifier)
        async with undisturbed(stage), hostile.attesting() as stream:
            for claims in (b"[" * 100_000, b'{"a":' * 50_000, b"[" * 50_000 + b"]" * 50_000):
                challenge = await stream.challenge()
                hostile.claims = lambda claims=claims: claims  # type: ignore[method-assign, misc]
                await stream.send(hostile.evidence(challenge, Purpose.ATTEST))
                verdict = await stream.verdict()
                assert verdict.state == attestation_pb2.NODE_STATE_UNTRUSTED
                assert [finding.id for finding in verdict.findings] == ["quote.malformed"]

    asyncio.run(case())
    assert not faults(stage.verifier)


def _ask(slots: list[Slot]) -> bytes:
    return _field(1, _field(3, Slots(digest_of(b"model"), tuple(slots)).encode()))


SLOT = model_key()[1].slot(digest_of(b"model"), bytes(32))
LISTS = {
    "slots": (RELEASE, _ask(65 * [SLOT])),
    "slots that are no document": (RELEASE, _field(1, _field(3, b"[" * 100_000))),
    "slots by the megabyte": (RELEASE, _ask(900 * [SLOT])),
    "leases": (RETURN, _field(1, b"l-" + b"a" * 26) * 1025),
    "slots of the first release by the hundred thousand": (RELEASE, _field(1, _field(2, b"") * 400_000)),
    "empty leases by the hundred thousand": (RETURN, _field(1, b"") * 400_000),
    "empty certificates by the ten thousand": (ENROL, _field(1, _field(2, b"") * 100_000)),
}


@pytest.mark.parametrize(("method", "message"), LISTS.values(), ids=LISTS)
def test_d02_a_list_without_end_is_refused(stage: Stage, node: FakeNode, method: str, message: bytes) -> None:
    refusal = refused_message(stage, node, method, message)
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
