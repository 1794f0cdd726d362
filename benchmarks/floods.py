"""What a flood of strangers costs people and honest nodes: how long their calls take while it lasts.

Each flood runs in a process of its own, beside the load generator, and does one thing as fast as it can over many
connections. People ask for a node at even times; an honest node answers as soon as it is asked.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Final, NamedTuple

import grpc
import uvloop
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.harness import Missing, Result, pinned
from benchmarks.load import Load, LoadNode, allow_many_connections
from benchmarks.verifier import CLIENT_CORE, running_verifier
from nodeseal.swtpm.vendor import TpmVendor
from nodeseal.v1 import admin_pb2, admin_pb2_grpc, enrollment_pb2, enrollment_pb2_grpc

_NODES: Final = 4
_CONNECTIONS: Final = 32
_PER_CONNECTION: Final = 8
_SECONDS: Final = 8.0
_PAUSE_SECONDS: Final = 0.02
_START_SECONDS: Final = 30.0
_OPTIONS: Final = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
_IN_USE: Final = {"interval_seconds": 1, "answer_within_seconds": 10, "trust_seconds": 60}


class Target(NamedTuple):
    """What a flood is aimed at.

    Attributes:
        address: the port for enrolment.
        authority: certificate of the verifier's authority, in PEM.
        identity: an identity that the verifier challenges, serialised.
    """

    address: str
    authority: bytes
    identity: bytes


class Latencies(NamedTuple):
    """Times in milliseconds during one flood.

    Attributes:
        person: of each of a person's calls.
        honest: of each round of an honest node, from evidence to verdict.
    """

    person: list[float]
    honest: list[float]


async def _silence(channel: aio.Channel, _target: Target) -> None:
    """Open an enrolment, say nothing, and begin again when it is ended."""
    await enrollment_pb2_grpc.EnrollmentStub(channel).Enroll(timeout=30).code()


async def _reset(channel: aio.Channel, _target: Target) -> None:
    """Open an enrolment and take it back."""
    call = enrollment_pb2_grpc.EnrollmentStub(channel).Enroll(timeout=30)
    await call.wait_for_connection()
    call.cancel()


async def _identities(channel: aio.Channel, target: Target) -> None:
    """Have an identity checked in full, signatures and all, and leave its challenge without an answer."""
    call = enrollment_pb2_grpc.EnrollmentStub(channel).Enroll(timeout=30)
    await call.write(enrollment_pb2.EnrollRequest(identity=enrollment_pb2.Identity.FromString(target.identity)))
    await call.read()
    call.cancel()


async def _watches(channel: aio.Channel, _target: Target) -> None:
    """Watch the verifier's health for ever."""
    await health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=30).code()  # type: ignore[attr-defined]  # its stubs know no streams


async def _connections(_channel: aio.Channel, target: Target) -> None:
    """Connect, shake hands, and hang up."""
    async with _channel_to(target) as channel:
        await channel.channel_ready()


FLOODS: Final[dict[str, Callable[[aio.Channel, Target], Awaitable[None]]]] = {
    "silent enrolments": _silence,
    "enrolments that are taken back": _reset,
    "identities": _identities,
    "health watches": _watches,
    "connections": _connections,
}


def person_p99() -> Result:
    """Return the 99th percentile of a person's call, during the flood that delays it most."""
    return uvloop.run(_worst(lambda seen: seen.person, "GetNode"))


def honest_p99() -> Result:
    """Return the 99th percentile of an honest node's round, during the flood that delays it most."""
    return uvloop.run(_worst(lambda seen: seen.honest, "evidence to verdict"))


async def _worst(part: Callable[[Latencies], list[float]], what: str) -> Result:
    async with _scene() as (load, target):
        quiet = _p99(part(await _measured(load)))
        runs = {}
        for name in FLOODS:
            async with _flooded(name, target):
                runs[name] = _p99(part(await _measured(load)))
    shown = ", ".join(f"{name} {value:.0f}" for name, value in runs.items())
    note = f"{what}, 99th percentile in {_SECONDS:.0f} s each, from one address: {shown}; without a flood {quiet:.0f}"
    return Result(value=max(runs.values()), unit="ms", runs=tuple(runs.values()), against="", note=note)


@asynccontextmanager
async def _scene() -> AsyncIterator[tuple[Load, Target]]:
    """Run a verifier with a few connected nodes."""
    allow_many_connections()
    with tempfile.TemporaryDirectory() as folder:
        vendor = TpmVendor.create(Path(folder) / "vendor")
        with running_verifier(Path(folder) / "verifier", vendor, **_IN_USE) as verifier, pinned(CLIENT_CORE):
            load = Load(verifier)
            authority = (verifier.folder / "ca.pem").read_bytes()
            identity = LoadNode(load, "stranger").identity().SerializeToString()
            try:
                await load.add(_NODES)
                yield load, Target(verifier.listen_enrol, authority, identity)
            finally:
                await load.close()


async def _measured(load: Load) -> Latencies:
    load.go()
    person = []
    async with load.verifier.admin_channel() as admin:
        nodes, request = admin_pb2_grpc.NodesStub(admin), admin_pb2.GetNodeRequest(node_id=load.nodes[0].node_id)
        end = time.monotonic() + _SECONDS
        while time.monotonic() < end:
            start = time.perf_counter()
            await nodes.GetNode(request)
            person.append(1000 * (time.perf_counter() - start))
            await asyncio.sleep(_PAUSE_SECONDS)
    honest = [1000 * seconds for seconds in load.seconds]
    await load.halt()
    return Latencies(person, honest)


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


@asynccontextmanager
async def _flooded(name: str, target: Target) -> AsyncIterator[None]:
    """Let a flood run in a process of its own while the block runs."""
    context = get_context("spawn")
    begun = context.Event()
    process = context.Process(target=_flood, args=(name, target, begun), daemon=True)
    process.start()
    try:
        if not await asyncio.to_thread(begun.wait, _START_SECONDS):
            raise Missing(f"the flood of {name} does not begin")
        yield
    finally:
        process.terminate()
        await asyncio.to_thread(process.join)


def _flood(name: str, target: Target, begun: Event) -> None:
    os.nice(5)  # whom it delays is measured on the same core
    uvloop.run(_flooding(name, target, begun))


async def _flooding(name: str, target: Target, begun: Event) -> None:
    channels = [_channel_to(target) for _ in range(_CONNECTIONS)]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    begun.set()

    async def again(channel: aio.Channel) -> None:
        while True:
            with suppress(aio.AioRpcError, asyncio.InvalidStateError):
                await FLOODS[name](channel, target)

    await asyncio.gather(*(again(channel) for channel in channels for _ in range(_PER_CONNECTION)))


def _channel_to(target: Target) -> aio.Channel:
    return aio.secure_channel(target.address, grpc.ssl_channel_credentials(target.authority), _OPTIONS)
