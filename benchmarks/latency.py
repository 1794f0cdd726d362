"""How long a node waits beyond its TPM: enrolment and release, by the agent's own code on a software-TPM machine.

The TPM's time is what the agent's TPM thread spends in operations; all else counts: gRPC and TLS on both sides, the
verifier's checks, its database with the audit record on disk, and the way into and out of that thread.
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import uvloop
from grpc import aio

from benchmarks.harness import Missing, Result, pinned
from benchmarks.load import activate_golden
from benchmarks.nodes import FILES, boot_log_of
from benchmarks.verifier import CLIENT_CORE, VerifierProcess, running_verifier
from nodeseal.agent.attest import AgentStatus, AttestationStream
from nodeseal.agent.calls.channels import Link, VerifierConfig, node_channel
from nodeseal.agent.enrol import enrol
from nodeseal.agent.evidence.attester import Attester
from nodeseal.agent.evidence.host import HostFiles
from nodeseal.agent.identity import AK_UNIQUE_SIZE, Identity
from nodeseal.agent.release.epoch import LeaseEpoch
from nodeseal.agent.release.leases import ForcedEnd, HeldLease, Leases
from nodeseal.agent.release.release import Releaser
from nodeseal.agent.tpm.device import Device
from nodeseal.agent.tpm.owner import TpmOwner
from nodeseal.errors import Unavailable
from nodeseal.ids import Digest, ModelId
from nodeseal.sealed.content import Content, SealedFile
from nodeseal.sealed.model_key import parse_model_key
from nodeseal.sealed.slots import Slot
from nodeseal.swtpm.machine import Machine
from nodeseal.swtpm.vendor import TpmVendor
from nodeseal.v1 import admin_pb2, admin_pb2_grpc

T = TypeVar("T")
_TPM_SECONDS: Final = 30
_EPOCH_SECONDS: Final = 10
_REPEATS: Final = 25
"""Below what verifiers allow one node in a minute."""
_KEY: Final = "bench"


class TimedTpm(TpmOwner):
    """The agent's TPM owner, which adds up how long operations take.

    Attributes:
        seconds: until now.
    """

    def __init__(self, tcti: str) -> None:
        super().__init__(tcti, secrets.token_bytes(AK_UNIQUE_SIZE), _TPM_SECONDS)
        self.seconds = 0.0

    async def call(self, operation: Callable[[Device], T]) -> T:
        """Run ``operation`` as the agent does."""

        def timed(device: Device) -> T:
            start = time.perf_counter()
            try:
                return operation(device)
            finally:
                self.seconds += time.perf_counter() - start

        return await super().call(timed)


class Time(NamedTuple):
    """How long something took, in milliseconds: all of it, and what of it was the TPM's."""

    whole: float
    tpm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A verifier, and a machine with the agent's parts.

    Attributes:
        verifier: runs.
        config: how the agent reaches it.
        tpm: of the machine.
        attester: makes evidence with it.
    """

    verifier: VerifierProcess
    config: VerifierConfig
    tpm: TimedTpm
    attester: Attester

    async def enrol(self) -> Identity:
        """Enrol as the agent does."""
        return await enrol(self.config, self.tpm, self.attester)


def enrol_overhead() -> Result:
    """Return what enrolling takes beyond the TPM."""
    return uvloop.run(_enrol_overhead())


def release_overhead() -> Result:
    """Return what a release, up to the data key, takes beyond the TPM."""
    return uvloop.run(_release_overhead())


async def _enrol_overhead() -> Result:
    async with _site() as site:
        await site.enrol()  # the TPM makes its keys the first time
        times = [await _timed(site.tpm, site.enrol) for _ in range(_REPEATS)]
    return _beyond([time for _, time in times])


async def _release_overhead() -> Result:
    times = []
    async with _site() as site, _releaser(site) as (releaser, model, slots):

        async def release() -> HeldLease:
            released = await releaser.lease(model, slots)
            await releaser.open(released)
            return released

        for _ in range(_REPEATS + 1):
            released, time_ = await _timed(site.tpm, release)
            await releaser.give_back(released.lease_id)
            times.append(time_)
    return _beyond(times[1:])


async def _timed(tpm: TimedTpm, work: Callable[[], Awaitable[T]]) -> tuple[T, Time]:
    inside, start = tpm.seconds, time.perf_counter()
    result = await work()
    return result, Time(whole=1000 * (time.perf_counter() - start), tpm=1000 * (tpm.seconds - inside))


def _beyond(times: Sequence[Time]) -> Result:
    whole, tpm = (statistics.median(each) for each in zip(*times, strict=True))
    note = f"medians: {whole:.1f} ms in all, {tpm:.1f} ms of them in the agent's TPM operations (swtpm)"
    runs = tuple(each.whole - each.tpm for each in times)
    return Result.of(runs, unit="ms", against="the time in the agent's TPM operations", note=note)


@asynccontextmanager
async def _site() -> AsyncIterator[Site]:
    with tempfile.TemporaryDirectory() as name, pinned(CLIENT_CORE):
        folder = Path(name)
        vendor = TpmVendor.create(folder / "vendor")
        try:
            machine = Machine.manufacture(folder, name="node", vendor=vendor)
        except Unavailable as error:
            raise Missing(f"no software TPM: {error}") from error
        with running_verifier(folder / "verifier", vendor) as verifier, machine:
            machine.boot(boot_log_of("disk"))
            for path, content in FILES.items():
                machine.measure(path, content)
            tpm = TimedTpm(machine.tcti)
            try:
                yield Site(
                    verifier=verifier,
                    config=_config(verifier),
                    tpm=tpm,
                    attester=Attester(tpm, _host(machine), "node.example"),
                )
            finally:
                tpm.close()


def _host(machine: Machine) -> HostFiles:
    return HostFiles(
        boot_id=Path("/proc/sys/kernel/random/boot_id"),
        boot_log=machine.boot_log_file,
        ima_log=machine.ima_log_file,
        firmware=machine.directory,
    )


def _config(verifier: VerifierProcess) -> VerifierConfig:
    return VerifierConfig(
        address=verifier.listen,
        enrol_address=verifier.listen_enrol,
        ca_file=verifier.folder / "ca.pem",
        server_name="",
    )


@asynccontextmanager
async def _releaser(site: Site) -> AsyncIterator[tuple[Releaser, Digest, tuple[Slot, ...]]]:
    """Attest until trusted, and hand out what opens a registered model."""
    identity, ended = await site.enrol(), list[ForcedEnd]()
    leases, status = Leases(time.monotonic, ended.append), AgentStatus()
    releaser = Releaser(site.tpm, site.attester, leases, LeaseEpoch(site.tpm, _EPOCH_SECONDS))
    await site.tpm.call(lambda device: device.begin_epoch())
    async with site.verifier.admin_channel() as admin, node_channel(site.config, identity) as channel:
        link = Link(channel=channel, identity=identity, address=site.config.address)
        stream = asyncio.create_task(AttestationStream(link, site.attester, leases, status, time.monotonic).run())
        try:
            nodes = admin_pb2_grpc.NodesStub(admin)
            await nodes.AdmitNode(admin_pb2.AdmitNodeRequest(node_id=identity.node_id))
            await activate_golden(admin)
            await _until_trusted(status)
            releaser.link = link
            yield releaser, *await _sealed_model(admin, identity)
        finally:
            stream.cancel()
            await asyncio.gather(stream, return_exceptions=True)
    if ended:
        raise Missing(f"leases ended meanwhile: {ended}")


async def _until_trusted(status: AgentStatus) -> None:
    for _ in range(500):
        if status.state == "trusted":
            return
        await asyncio.sleep(0.02)
    raise Missing(f"the node is {status.state}: {status.findings}")


async def _sealed_model(admin: aio.Channel, identity: Identity) -> tuple[Digest, tuple[Slot, ...]]:
    keys = admin_pb2_grpc.KeysStub(admin)
    key = await keys.CreateKey(admin_pb2.CreateKeyRequest(key_id=_KEY))
    grant = admin_pb2.Grant(node_id=identity.node_id, max_leases=1)
    await keys.GrantKey(admin_pb2.GrantKeyRequest(key_id=_KEY, grant=grant))
    register = admin_pb2.RegisterModelRequest(content=_content())
    model = Digest((await admin_pb2_grpc.ModelsStub(admin).RegisterModel(register)).digest)
    return model, (parse_model_key(key.public, "model key").slot(model, secrets.token_bytes(32)),)


def _content() -> bytes:
    file = SealedFile(
        path="model.safetensors.sealed",
        size=1000,
        file_id=bytes(16),
        segment_size=1 << 20,
        header_tag=bytes(32),
        tags_digest=Digest("0" * 64),
    )
    return Content(
        model_id=ModelId("bench"), version=1, created=datetime(2026, 1, 1, tzinfo=UTC), files=(file,)
    ).encode()
