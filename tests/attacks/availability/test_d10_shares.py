"""Strangers that take all the room: each address and each node has a share of enrolments, streams and watches.

People are answered, honest nodes enrol and keep their rounds, whoever is silent, in whatever number.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from nodeseal.v1 import admin_pb2, enrollment_pb2
from support.addresses import relayed
from support.admin import a_sealed_model, grant, trusted_node
from support.agents import eventually
from support.fake_node import FakeNode, a_node
from support.floods import Stage, faults, undisturbed
from support.releases import Scene, joined
from support.verifier import RunningVerifier, Stubs, a_verifier, received, set_config

SEATS = 16
"""Enrolments at once; few, so that a test can take them all."""
PER_CONNECTION = 8
ELSEWHERE = "127.0.0.2"
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
LOCAL: list[tuple[str, Any]] = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
Call = Any


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder: Path = tmp_path_factory.mktemp("shares")
    with a_verifier(folder, start=False, trust_seconds=20, answer_within_seconds=3) as verifier:
        set_config(verifier, deadline_seconds=30, concurrent=SEATS)
        verifier.start()
        yield Stage(verifier=verifier, honest=asyncio.run(trusted_node(verifier)))


async def _connections(held: AsyncExitStack, verifier: RunningVerifier, address: str, count: int) -> list[aio.Channel]:
    """Return connections of a stranger to the port for enrolment."""
    target = await held.enter_async_context(relayed(verifier.listen_enrol, address))
    credentials = grpc.ssl_channel_credentials(verifier.ca)
    channels = [aio.secure_channel(target, credentials, LOCAL) for _ in range(count)]
    for channel in channels:
        await held.enter_async_context(channel)
    return channels


async def _code(call: Call) -> grpc.StatusCode:
    """Read until a call has ended; return its status."""
    try:
        while True:
            await received(call)
    except aio.AioRpcError as error:
        return error.code()


async def _enrols(node: FakeNode) -> int:
    """Enrol as agents do, again and again until it works; return how often it was refused for want of room."""
    for refusals in range(200):
        code = await _code_of(node)
        if code is grpc.StatusCode.OK:
            return refusals
        assert code is EXHAUSTED
        await asyncio.sleep(0.1)
    raise AssertionError("never let in")


@asynccontextmanager
async def _at(verifier: RunningVerifier, address: str) -> AsyncIterator[FakeNode]:
    """A new node at an address."""
    node = a_node(verifier)
    async with relayed(verifier.listen_enrol, address) as target:
        channel = aio.secure_channel(target, grpc.ssl_channel_credentials(verifier.ca), LOCAL)
        node.enrolment_channel = lambda: channel
        yield node


def _silent(stub: Stubs) -> Call:
    return stub.enrollment.Enroll(timeout=60)


async def _silent_flood(held: AsyncExitStack, verifier: RunningVerifier, address: str) -> list[Call]:
    """Hold four times as many silent enrolments as there are seats."""
    channels = await _connections(held, verifier, address, 4 * SEATS // PER_CONNECTION)
    calls = [_silent(Stubs(channel)) for channel in channels for _ in range(PER_CONNECTION)]
    for call in calls:
        with suppress(aio.AioRpcError):  # displaced already
            await call.wait_for_connection()
    return calls


async def _answers(verifier: RunningVerifier, node: FakeNode) -> None:
    async with verifier.person() as admin:
        assert (await admin.nodes.GetNode(admin_pb2.GetNodeRequest(node_id=node.node_id), timeout=20)).node_id


@pytest.mark.parametrize("address", [ELSEWHERE, "127.0.0.1"], ids=["the same", "another"])
def test_d10_silent_enrolments_keep_nobody_out_who_comes_from_address(stage: Stage, address: str) -> None:
    async def case() -> None:
        async with AsyncExitStack() as held, undisturbed(stage):
            calls = await _silent_flood(held, stage.verifier, ELSEWHERE)
            async with _at(stage.verifier, address) as node:
                await node.enrol()
            await _answers(stage.verifier, stage.honest)
            codes = Counter(await asyncio.gather(*map(_code, calls)))
            assert set(codes) == {EXHAUSTED, grpc.StatusCode.FAILED_PRECONDITION}  # displaced, or too long silent
            assert codes[grpc.StatusCode.FAILED_PRECONDITION] <= SEATS
        assert not faults(stage.verifier)

    asyncio.run(case())


async def _challenged(channel: aio.Channel, verifier: RunningVerifier, node: FakeNode | None = None) -> Call:
    """Begin an enrolment and leave its challenge without an answer."""
    call = Stubs(channel).enrollment.Enroll(timeout=60)
    await call.write(enrollment_pb2.EnrollRequest(identity=(node or a_node(verifier)).identity()))
    assert (await received(call)).challenge.id_object
    return call


def test_d10_an_address_that_holds_every_seat_gives_way_to_another(stage: Stage) -> None:
    async def case() -> None:
        async with AsyncExitStack() as held, undisturbed(stage):
            channels = await _connections(held, stage.verifier, ELSEWHERE, SEATS // PER_CONNECTION)
            calls = [await _challenged(channels[i // PER_CONNECTION], stage.verifier) for i in range(SEATS)]
            await _silent_flood(held, stage.verifier, ELSEWHERE)  # takes no seat of anybody who has spoken
            assert not any(call.done() for call in calls)
            async with _at(stage.verifier, ELSEWHERE) as neighbour:
                assert await _code_of(neighbour) is EXHAUSTED
            async with _at(stage.verifier, "127.0.0.3") as node:
                await node.enrol()
            assert await _code(calls[0]) is EXHAUSTED
            assert not any(call.done() for call in calls[1:])

    asyncio.run(case())


async def _code_of(node: FakeNode) -> grpc.StatusCode:
    try:
        await node.enrol()
    except aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_d10_one_endorsement_key_holds_two_seats_at_one_address(stage: Stage) -> None:
    async def case() -> None:
        async with AsyncExitStack() as held:
            (channel,) = await _connections(held, stage.verifier, ELSEWHERE, 1)
            (other,) = await _connections(held, stage.verifier, "127.0.0.3", 1)
            victim = a_node(stage.verifier)
            own = await _challenged(other, stage.verifier, victim)
            calls = [await _challenged(channel, stage.verifier, victim) for _ in range(4)]
            assert [await _code(call) for call in calls[:2]] == [EXHAUSTED] * 2
            assert not any(call.done() for call in (own, *calls[2:]))

    asyncio.run(case())


def test_d10_a_copied_certificate_at_many_addresses_leaves_seats_to_others(stage: Stage) -> None:
    async def case() -> None:
        async with AsyncExitStack() as held:
            copied = a_node(stage.verifier)
            calls = []
            for number in range(2, 2 + SEATS):
                (channel,) = await _connections(held, stage.verifier, f"127.0.1.{number}", 1)
                calls.append(await _challenged(channel, stage.verifier, copied))
            async with _at(stage.verifier, "127.0.0.99") as node:
                await node.enrol()
            oldest, newest = calls[: SEATS // 2], calls[SEATS // 2 :]
            assert [await _code(call) for call in oldest] == [EXHAUSTED] * len(oldest)
            assert not any(call.done() for call in newest)

    asyncio.run(case())


def test_d10_many_honest_nodes_at_one_address_get_in_under_a_silent_flood(stage: Stage) -> None:
    async def case() -> None:
        async with AsyncExitStack() as held, undisturbed(stage):
            floods = [await _silent_flood(held, stage.verifier, f"127.0.0.{number}") for number in (2, 3)]
            nodes = [a_node(stage.verifier) for _ in range(3 * SEATS)]
            await asyncio.gather(*map(_enrols, nodes))
            await _answers(stage.verifier, nodes[-1])
            assert floods

    asyncio.run(case())


def test_d10_a_node_that_nobody_admitted_holds_few_release_streams(stage: Stage) -> None:
    async def case() -> None:
        pending = a_node(stage.verifier)
        await pending.enrol()
        async with AsyncExitStack() as held, stage.verifier.person() as admin, undisturbed(stage):
            channels = [await held.enter_async_context(pending.channel()) for _ in range(4)]
            calls = [Stubs(channels[i % 4]).release.Release(timeout=60) for i in range(160)]
            refused = [asyncio.create_task(_code(call)) for call in calls]
            await eventually(lambda: sum(task.done() for task in refused) >= 144)
            node, model = await joined(stage.verifier), await a_sealed_model(admin, "shares", "shares")
            await grant(admin, node, "shares")
            await Scene(verifier=stage.verifier, admin=admin, node=node, model=model).opens()
            codes = Counter(await asyncio.gather(*refused))
            assert codes == {EXHAUSTED: 144, grpc.StatusCode.FAILED_PRECONDITION: 16}  # the others were silent for long

    asyncio.run(case())


def _watch(channel: aio.Channel) -> Call:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return stub.Watch(health_pb2.HealthCheckRequest(), timeout=60)


def test_d10_watches_of_health_are_shared_by_addresses(stage: Stage) -> None:
    async def case() -> None:
        async with AsyncExitStack() as held, undisturbed(stage):
            for number in range(2, 18):  # sixteen addresses hold all there are
                (channel,) = await _connections(held, stage.verifier, f"127.0.0.{number}", 1)
                for _ in range(4):
                    assert (await received(_kept(held, _watch(channel)))).status
                assert await _code(_watch(channel)) is EXHAUSTED
            (newcomer,) = await _connections(held, stage.verifier, "127.0.0.99", 1)
            assert (await received(_kept(held, _watch(newcomer)))).status

    asyncio.run(case())


def _kept(held: AsyncExitStack, call: Call) -> Call:
    held.callback(call.cancel)
    return call


def test_d10_calls_whose_request_never_comes_end(stage: Stage) -> None:
    async def case() -> None:
        async with AsyncExitStack() as held:
            (channel,) = await _connections(held, stage.verifier, ELSEWHERE, 1)
            streams: aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream("/grpc.health.v1.Health/Check")
            calls = [streams(timeout=60) for _ in range(PER_CONNECTION)]
            assert {await _code(call) for call in calls} == {grpc.StatusCode.FAILED_PRECONDITION}

    asyncio.run(case())


def test_d10_a_stranger_causes_few_lines_in_the_log(stage: Stage) -> None:
    async def case() -> None:
        async with AsyncExitStack() as held:
            (channel,) = await _connections(held, stage.verifier, "127.0.0.77", 1)
            for _ in range(300):
                call = Stubs(channel).enrollment.Enroll(timeout=20)
                await call.write(enrollment_pb2.EnrollRequest())
                assert await _code(call) is grpc.StatusCode.FAILED_PRECONDITION

    before = len(stage.verifier.log())
    asyncio.run(case())
    lines = [line for line in stage.verifier.log()[before:] if line["event"] == "call refused"]
    assert 1 <= len(lines) <= 180  # sixty a minute


def test_d10_streams_that_say_nothing_end_for_it(stage: Stage) -> None:
    async def case() -> None:
        async with stage.honest.channel() as channel, stage.verifier.enrolment_channel() as enrolment:
            node, stranger = Stubs(channel), Stubs(enrolment)
            calls: dict[str, Call] = {
                "ask": node.release.Release(timeout=60),
                "certificate request": node.attestation.Renew(timeout=60),
                "identity": stranger.enrollment.Enroll(timeout=60),
            }
            for what, call in calls.items():
                assert await _code(call) is grpc.StatusCode.FAILED_PRECONDITION
                assert await call.details() == f"no {what} within 5 seconds"

    asyncio.run(case())
