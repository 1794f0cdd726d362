"""The load generator: nodes with synthetic TPMs that enrol, connect and answer challenges over mutual TLS and gRPC.

All nodes share one event loop, on another core than the verifier. Each has a key, a certificate, a connection and a
stream of its own; every quote is fresh. Between :meth:`Load.go` and :meth:`Load.halt` nodes answer as soon as they
are asked, or after a pause drawn at random.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import resource
import time
from typing import Any, Final

from grpc import aio

from benchmarks.harness import Missing
from benchmarks.nodes import Attester, BootedNode, booted_node, golden
from benchmarks.verifier import TRUST_DOMAIN, VerifierProcess
from nodeseal.crypto.tls_identity import to_pem
from nodeseal.crypto.tls_key import certificate_request, new_tls_key
from nodeseal.evidence.binding import Channel
from nodeseal.evidence.logs import KnownLogs
from nodeseal.golden.document import dump_golden
from nodeseal.ids import NodeId, Nonce
from nodeseal.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    attestation_pb2,
    attestation_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
)
from nodeseal.wire.evidence import evidence_to_proto

_TOGETHER: Final = 64
"""Nodes that connect at once."""
_ENROL_TOGETHER: Final = 4
"""Half of what a verifier takes on one connection: at its limit, a stream right after another may be refused."""
_CALL_SECONDS: Final = 60
_SETTLE_SECONDS: Final = 0.3
_FACTS: Final = enrollment_pb2.NodeFacts(
    hostname="rack1-node7",
    boot_id="3f0c7c9e-0000-4000-8000-000000000001",
    tpm_manufacturer="IBM",
    tpm_firmware="1.2",
)


def allow_many_connections() -> None:
    """Raise this process's limit of open files as far as it goes; what it starts inherits it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class LoadNode:
    """One node. ``enrol`` it, then let ``attest`` run as a task.

    Args:
        load: whose gate it waits at and whose rounds it counts.
        name: makes its PCR values its own.
    """

    __slots__ = ("_attester", "_chain", "_key", "_load", "_node", "node_id", "trusted")

    _attester: Attester

    def __init__(self, load: Load, name: str) -> None:
        self._load: Final = load
        self._node: Final[BootedNode] = booted_node(load.verifier.vendor, name)
        self._key: Final = new_tls_key()
        self._chain: tuple[bytes, ...] = ()
        self.node_id = ""
        self.trusted: Final = asyncio.Event()

    async def enrol(self, channel: aio.Channel) -> None:
        """Enrol over a channel that others may share."""
        call = enrollment_pb2_grpc.EnrollmentStub(channel).Enroll(timeout=_CALL_SECONDS)
        await call.write(enrollment_pb2.EnrollRequest(identity=self.identity()))
        challenge = (await _received(call)).challenge
        secret = self._node.tpm.activate(challenge.id_object, challenge.encrypted_secret)
        await call.write(enrollment_pb2.EnrollRequest(activation=enrollment_pb2.Activation(secret=secret)))
        enrolled = (await _received(call)).enrolled
        self.node_id, self._chain = enrolled.node_id, tuple(enrolled.certificate_chain)
        bound = hashlib.sha256(self._chain[0]).digest()
        node_id = NodeId(self.node_id)
        self._attester = Attester(
            self._node, Channel(trust_domain=TRUST_DOMAIN, node_id=node_id, certificate_sha256=bound)
        )

    async def attest(self) -> None:
        """Connect and answer challenges until cancelled."""
        async with self._load.verifier.channel(self._key, to_pem(self._chain[0])) as channel:
            call = attestation_pb2_grpc.AttestationStub(channel).Attest()
            sent = 0.0
            while True:
                instruction = await _received(call)
                if instruction.HasField("verdict"):
                    self._judged(instruction.verdict, time.perf_counter() - sent)
                if instruction.HasField("challenge"):
                    await self._load.turn(first=not self.trusted.is_set())
                    sent = time.perf_counter()
                    await call.write(self._evidence(instruction.challenge))

    def _judged(self, verdict: attestation_pb2.Verdict, seconds: float) -> None:
        if verdict.state == attestation_pb2.NODE_STATE_TRUSTED:
            self.trusted.set()
            self._load.count(seconds)
        elif self.trusted.is_set():
            self._load.fail(f"a node is not trusted any more: {verdict}")

    def _evidence(self, challenge: attestation_pb2.Challenge) -> attestation_pb2.Evidence:
        known = KnownLogs(
            boot_id=challenge.boot_id_known,
            boot_log_sha256=challenge.boot_log_known,
            ima_offset=challenge.ima_offset_known,
        )
        made = self._attester.evidence(Nonce(challenge.nonce), known, values=challenge.values_required)
        (message,) = evidence_to_proto(made)
        return message

    def identity(self) -> enrollment_pb2.Identity:
        """Return what the node shows of itself when it enrols."""
        return enrollment_pb2.Identity(
            ek_public=self._node.tpm.ek.encode(),
            ek_certificates=[self._node.tpm.ek_certificate],
            ek_chain=[self._load.verifier.vendor.intermediate],
            ak_public=self._node.tpm.ak.encode(),
            certificate_request=certificate_request(self._key, "node"),
            facts=_FACTS,
        )


class Load:
    """Many nodes of one verifier.

    Attributes:
        verifier: whose.
        nodes: those that have connected.
        rounds: good rounds until now.
        seconds: how long each round took from evidence to verdict, as the node sees it.
    """

    def __init__(self, verifier: VerifierProcess) -> None:
        self.verifier: Final = verifier
        self.nodes: Final[list[LoadNode]] = []
        self.rounds = 0
        self.seconds: list[float] = []
        self._gate: Final = asyncio.Event()
        self._pause_seconds = 0.0
        self._tasks: Final[list[asyncio.Task[None]]] = []
        self._failure = ""

    async def add(self, count: int) -> None:
        """Enrol, admit and connect ``count`` more nodes; return when all of them are trusted.

        Raises:
            Missing: a stream broke, or a node was refused.
        """
        try:
            async with self.verifier.enrolment_channel() as enrolment, self.verifier.admin_channel() as admin:
                while count > 0:
                    batch = [LoadNode(self, f"{len(self.nodes)}-{number}") for number in range(min(count, _TOGETHER))]
                    for start in range(0, len(batch), _ENROL_TOGETHER):
                        some = batch[start : start + _ENROL_TOGETHER]
                        await asyncio.gather(*(node.enrol(enrolment) for node in some))
                    await self._connect(batch, admin)
                    count -= len(batch)
        except (aio.AioRpcError, TimeoutError) as error:
            raise Missing(f"nodes cannot connect: {' '.join(str(error).split())[:200]}") from error

    async def _connect(self, batch: list[LoadNode], admin: aio.Channel) -> None:
        nodes = admin_pb2_grpc.NodesStub(admin)
        for node in batch:
            await nodes.AdmitNode(admin_pb2.AdmitNodeRequest(node_id=node.node_id))
        self._tasks.extend(asyncio.create_task(node.attest()) for node in batch)
        if not self.nodes:
            await activate_golden(admin)
        self.nodes.extend(batch)
        await asyncio.wait_for(asyncio.gather(*(node.trusted.wait() for node in batch)), _CALL_SECONDS)
        self.check()

    async def turn(self, *, first: bool) -> None:
        """Wait until a node may answer; until it is trusted it always may."""
        if first:
            return
        await self._gate.wait()
        if self._pause_seconds:
            await asyncio.sleep(random.expovariate(1 / self._pause_seconds))

    def count(self, seconds: float) -> None:
        """Count a good round."""
        self.rounds += 1
        if self._gate.is_set():
            self.seconds.append(seconds)

    def fail(self, reason: str) -> None:
        """Remember that the load is not what it should be."""
        self._failure = self._failure or reason

    def check(self) -> None:
        """Raise if something went wrong.

        Raises:
            Missing: what.
        """
        for task in self._tasks:
            if task.done():
                raise Missing(f"a stream has ended: {task.exception()!r}")
        if self._failure:
            raise Missing(self._failure)

    def go(self, pause_seconds: float = 0.0) -> None:
        """Let nodes answer, each after a pause of this length on average."""
        self._pause_seconds = pause_seconds
        self.seconds.clear()
        self._gate.set()

    async def halt(self) -> None:
        """Let nodes wait before their next answer, and what is under way come to its end."""
        self._gate.clear()
        seen = -1
        while seen != self.rounds:
            seen = self.rounds
            await asyncio.sleep(_SETTLE_SECONDS + self._pause_seconds)
        self.check()

    async def close(self) -> None:
        """Break all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def activate_golden(admin: aio.Channel) -> None:
    """Activate the golden that all nodes match."""
    request = admin_pb2.ActivateGoldenRequest(document=dump_golden(golden()))
    await admin_pb2_grpc.GoldensStub(admin).ActivateGolden(iter([request]))


async def _received(call: Any) -> Any:
    message = await call.read()
    if message is aio.EOF:
        raise Missing(f"the verifier ended a stream: {await call.code()} {await call.details()}")
    return message
