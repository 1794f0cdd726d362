"""Peers that waste the verifier's time and memory: slow, idle, half-open, and never done.

Each flood runs beside an honest node, which keeps its rounds, and leaves the verifier about as small as it was.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack, suppress

import grpc
import pytest
from grpc import aio

from nodeseal.golden.document import dump_golden
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import FileDigest, RuntimeRules
from nodeseal.ima.log import encode_ima_entry, measured_entry
from nodeseal.ima.template import ImaFields, encode_template
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.v1 import admin_pb2, attestation_pb2, enrollment_pb2, key_release_pb2
from support.admin import a_sealed_model, activate, grant
from support.attackers import seen_by
from support.fake_node import FakeNode, a_node, ima_stretches
from support.floods import GROWTH, Stage, connected, faults, undisturbed
from support.releases import Scene, joined, lease_rows
from support.verifier import RunningVerifier, Stubs, received, refused

# d01: slow, idle, half-open


def say_nothing(_: RunningVerifier, connection: socket.socket) -> socket.socket:
    return connection


def stop_in_the_handshake(_: RunningVerifier, connection: socket.socket) -> socket.socket:
    connection.sendall(bytes.fromhex("16030102000100"))  # a TLS record that promises 512 bytes
    return connection


def idle_after_the_handshake(verifier: RunningVerifier, connection: socket.socket) -> socket.socket:
    context = ssl.create_default_context(cadata=verifier.ca.decode())
    context.set_alpn_protocols(["h2"])
    return context.wrap_socket(connection, server_hostname="localhost")


def stop_in_a_frame(verifier: RunningVerifier, connection: socket.socket) -> socket.socket:
    secure = idle_after_the_handshake(verifier, connection)
    settings, headers = bytes.fromhex("000000040000000000"), bytes.fromhex("004000010400000001")
    secure.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + headers)  # 16 KiB of headers are promised
    return secure


IDLERS = [say_nothing, stop_in_the_handshake, idle_after_the_handshake, stop_in_a_frame]


@pytest.mark.parametrize("idler", IDLERS, ids=lambda idler: str(idler.__name__))
def test_d01_three_hundred_connections_that_idle_disturb_nobody(
    stage: Stage, idler: Callable[[RunningVerifier, socket.socket], socket.socket]
) -> None:
    async def case(held: ExitStack) -> None:
        async with undisturbed(stage):
            for _ in range(300):
                connection = connected(stage.verifier.listen_enrol)
                held.enter_context(await asyncio.to_thread(idler, stage.verifier, connection))
            await a_node(stage.verifier).enrol()

    with ExitStack() as held:
        asyncio.run(case(held))


def test_d01_a_handshake_that_never_ends_is_ended_for_it(stage: Stage) -> None:
    with connected(stage.verifier.listen) as silent, connected(stage.verifier.listen_enrol) as slow:
        stop_in_the_handshake(stage.verifier, slow)
        assert [_read(silent), _read(slow)] == [b"", b""]


def _read(connection: socket.socket) -> bytes:
    """Read until the peer closes; a peer that does not is a failure after the socket's timeout."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return b""


async def _half_open(held: AsyncExitStack, verifier: RunningVerifier) -> list[aio.StreamStreamCall]:  # type: ignore[type-arg]
    """Begin fifty enrolments, over connections of eight, and answer none of the challenges."""
    calls = []
    for _ in range(7):
        channel = aio.secure_channel(
            verifier.listen_enrol,
            grpc.ssl_channel_credentials(verifier.ca),
            [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)],
        )
        stub = Stubs(await held.enter_async_context(channel)).enrollment
        calls += [stub.Enroll(timeout=30) for _ in range(8)]
    for call in calls[:50]:
        await call.write(enrollment_pb2.EnrollRequest(identity=a_node(verifier).identity()))
        assert (await received(call)).challenge.id_object
    return calls


def _enrolments(stage: Stage) -> int:
    return sum(record["action"] == "node.enrolled" for record in stage.verifier.records())


def test_d01_half_open_enrolments_end_by_themselves_and_leave_room(stage: Stage) -> None:
    async def case() -> None:
        async with AsyncExitStack() as held, undisturbed(stage):
            calls = await _half_open(held, stage.verifier)
            await a_node(stage.verifier).enrol()
            refusals = await asyncio.gather(*(call.details() for call in calls))
            assert all("took longer than 4 seconds" in str(text) for text in refusals)
        assert not faults(stage.verifier)

    before = _enrolments(stage)
    asyncio.run(case())
    assert _enrolments(stage) == before + 1  # the honest one


def test_d01_a_node_that_never_answers_loses_its_stream_at_the_deadline(stage: Stage) -> None:
    async def case() -> None:
        slow = await joined(stage.verifier)
        async with undisturbed(stage), slow.attesting() as stream:
            await stream.challenge()
            assert (await asyncio.wait_for(stream.end(), 10)).findings == ("quote.nonce",)

    asyncio.run(case())


def test_d01_a_release_that_is_asked_for_and_never_proved_ends_without_a_lease(stage: Stage) -> None:
    async def case() -> None:
        async with stage.verifier.person() as admin, undisturbed(stage):
            slow = await joined(stage.verifier)
            model = await a_sealed_model(admin, "never-proved", "never-proved")
            await grant(admin, slow, "never-proved")
            async with slow.releasing(model.ask(), seconds=30) as release:
                late = slow.proof(release.challenge)
                await asyncio.sleep(4)
                assert (await refused(release.prove(late))).findings == ("quote.nonce",)
            assert slow.node_id not in lease_rows(stage.verifier).values()
            assert (
                await seen_by(admin, slow)
            ).state == attestation_pb2.NODE_STATE_TRUSTED  # being late is no evidence against a node

    asyncio.run(case())


# d03: one node floods


def _limited(codes: list[grpc.StatusCode]) -> int:
    return codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED)


def test_d03_a_flood_of_releases_is_limited_and_serves_others(stage: Stage) -> None:
    async def case() -> None:
        async with stage.verifier.person() as admin:
            flooder, other = await joined(stage.verifier), await joined(stage.verifier)
            model = await a_sealed_model(admin, "flooded", "flooded")
            await grant(admin, other, "flooded")
            scene = Scene(verifier=stage.verifier, admin=admin, node=other, model=model)

            lanes = asyncio.Semaphore(40)

            async def ask(stubs: Stubs) -> grpc.StatusCode:
                async with lanes:
                    call = stubs.release.Release(timeout=30)
                    ask = model.ask()
                    await call.write(key_release_pb2.ReleaseRequest(ask=ask))
                    return await call.code()

            async with undisturbed(stage), flooder.channel() as channel:
                stubs = Stubs(channel)
                flood = asyncio.gather(*(ask(stubs) for _ in range(300)))
                await scene.opens()
                codes = await flood
        assert 200 <= _limited(codes) <= 290  # sixty a minute, and sixteen at once
        denied = [record for record in stage.verifier.records() if record["actor"] == f"node/{flooder.node_id}"]
        assert sum(record["action"] == "release.denied" for record in denied) == 300 - _limited(codes)

    asyncio.run(case())


def test_d03_a_flood_of_rounds_ends_the_stream(stage: Stage) -> None:
    async def case() -> None:
        flooder = await joined(stage.verifier)
        async with undisturbed(stage), flooder.attesting() as stream:
            first = flooder.evidence(await stream.challenge())
            with suppress(aio.AioRpcError, asyncio.InvalidStateError):  # ended under the flood, as it should be
                for _ in range(1000):
                    await stream.send(first)
            assert (await stream.end()).code is not grpc.StatusCode.OK
        assert not faults(stage.verifier)

    asyncio.run(case())


def test_d03_a_flood_of_streams_is_limited(stage: Stage) -> None:
    async def opened(stubs: Stubs) -> grpc.StatusCode:
        call = stubs.attestation.Attest(timeout=30)
        assert (await received(call)).HasField("challenge")
        call.cancel()
        return grpc.StatusCode.OK

    async def case() -> None:
        flooder = await joined(stage.verifier)
        async with undisturbed(stage), flooder.channel() as channel:
            stubs = Stubs(channel)
            codes = [await _code(opened(stubs)) for _ in range(120)]
        assert _limited(codes) == 120 - codes.count(grpc.StatusCode.OK)
        assert _limited(codes) >= 30

    asyncio.run(case())


async def _code(call: object) -> grpc.StatusCode:
    try:
        return await call  # type: ignore[misc, no-any-return]
    except aio.AioRpcError as error:
        return error.code()


def test_d03_a_flood_of_enrolments_of_one_key_is_limited_and_lets_others_in(stage: Stage) -> None:
    async def case() -> None:
        flooder = a_node(stage.verifier)
        async with undisturbed(stage):
            codes = [await _code(_enrolled(flooder)) for _ in range(50)]
            await a_node(stage.verifier).enrol()
        assert 5 <= _limited(codes) <= 20

    asyncio.run(case())


async def _enrolled(node: FakeNode) -> grpc.StatusCode:
    await node.enrol()
    return grpc.StatusCode.OK


def test_d03_a_flood_of_renewals_is_limited(stage: Stage) -> None:
    async def renew(node: FakeNode) -> grpc.StatusCode:
        await node.renew(node.key)
        return grpc.StatusCode.OK

    async def case() -> None:
        flooder = await joined(stage.verifier)
        async with undisturbed(stage):
            codes = [await _code(renew(flooder)) for _ in range(30)]
        assert codes.count(grpc.StatusCode.OK) == 30 - _limited(codes)
        assert stage.verifier.actions(f"node/{flooder.node_id}").count("node.renewed") == codes.count(
            grpc.StatusCode.OK
        )
        assert _limited(codes) >= 15

    asyncio.run(case())


def test_d03_a_flood_of_returns_writes_nothing(stage: Stage) -> None:
    async def case() -> None:
        flooder = await joined(stage.verifier)
        async with undisturbed(stage), flooder.channel() as channel:
            stubs = Stubs(channel)
            request = key_release_pb2.ReturnRequest(lease_ids=["l-" + "a" * 26] * 1000)
            for _ in range(10):
                codes = await asyncio.gather(*(_code(stubs.release.Return(request)) for _ in range(40)))
                assert set(codes) <= {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert "lease.ended" not in {
            record["action"] for record in stage.verifier.records() if record["actor"] == f"node/{flooder.node_id}"
        }

    asyncio.run(case())


# d06: long logs of many nodes

LONG_LOG = 4 << 20
FLOODERS = 8


async def _flood_with_a_log(node: FakeNode, log: bytes) -> attestation_pb2.Verdict:
    async with node.attesting() as stream:
        challenge = await stream.challenge()
        for stretch in ima_stretches(log):
            await stream.send(stretch)
        await stream.send(node.evidence(challenge))
        return await stream.verdict()


def _listing() -> bytes:
    """Return a golden that judges logs, and that no node here matches."""
    runtime = RuntimeRules(files={"/usr/bin/agent": (FileDigest(digest=bytes(32)),)})
    return dump_golden(Golden(name="listing", pcrs={HashAlg.SHA256: {4: frozenset({bytes(32)})}}, runtime=runtime))


def test_d06_long_logs_of_many_nodes_at_once_keep_nobody_from_his_rounds(stage: Stage) -> None:
    file = ImaFields(algorithm="sha256", digest=bytes(32), path=b"/usr/bin/never-run")
    entry = encode_ima_entry(measured_entry("ima-ng", encode_template("ima-ng", file)))
    log = entry * (LONG_LOG // len(entry))

    async def case() -> None:
        async with stage.verifier.person() as admin:
            flooders = [await joined(stage.verifier) for _ in range(FLOODERS)]
            listing = await activate(admin, _listing())
            async with undisturbed(stage, GROWTH + 2 * FLOODERS * LONG_LOG):
                verdicts = await asyncio.gather(*(_flood_with_a_log(node, log) for node in flooders))
            assert len(verdicts) == FLOODERS
            await admin.goldens.RetireGolden(admin_pb2.RetireGoldenRequest(digest=listing))

    asyncio.run(case())
    assert not faults(stage.verifier)
