"""Whole nodes: a machine with a software TPM, a real agent process on it, and a real verifier process.

Loaders talk to the agent's socket, people to the verifier; tests read records from the verifier's database::

    with a_site() as site, a_host(site) as host:
        asyncio.run(scenario(host))
"""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import signal
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from nodeseal.agent.calls.channels import VerifierConfig
from nodeseal.swtpm.machine import Machine
from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from nodeseal.tpm.pcr_usage import EPOCH_PCR
from nodeseal.v1 import admin_pb2
from nodeseal.wire.varlink import KEYS_INTERFACE, Reply
from support.admin import Sealed, a_sealed_model, activate, golden_from_evidence, grant
from support.agents import AgentProcess, Loader, eventually, heard, loader, trusted
from support.log import acts_of
from support.machines import a_machine, a_vendor
from support.verifier import RunningVerifier, Stubs, a_verifier

REFUSED = f"{KEYS_INTERFACE}.Refused"
_HEALS_SECONDS = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Acts, leases and nodes of a verifier, read from its database in one transaction.

    Attributes:
        indices: places in the log of those acts that are numbered, in the order in which acts were written.
        leaves: leaf hashes of all acts, in that order.
        issued: leases whose begin was recorded.
        ended: leases whose end was recorded.
        begun: leases that have a row.
        running: those of them without an end.
        enrolled: nodes whose enrolment was recorded.
        nodes: nodes that have a row.
    """

    indices: tuple[int, ...]
    leaves: tuple[bytes, ...]
    issued: frozenset[str]
    ended: frozenset[str]
    begun: frozenset[str]
    running: frozenset[str]
    enrolled: frozenset[str]
    nodes: frozenset[str]

    def check(self, before: Records | None = None) -> None:
        """Check that no record is missing or has changed, and that each change has a record."""
        assert self.indices == tuple(range(len(self.indices)))
        assert self.begun == self.issued
        assert self.begun - self.running == self.ended
        assert self.nodes == self.enrolled
        if before is not None:
            assert self.leaves[: len(before.leaves)] == before.leaves


def records_of(verifier: RunningVerifier) -> Records:
    """Read a verifier's database, whether the verifier runs or was killed."""
    with closing(sqlite3.connect(verifier.folder / "verifier.sqlite", isolation_level=None)) as database:
        database.execute("BEGIN")
        acts = list(acts_of(database))
        leases = list(database.execute("SELECT lease_id, ended FROM leases"))
        nodes = [node for (node,) in database.execute("SELECT node_id FROM nodes")]
    named: dict[str, set[str]] = defaultdict(set)
    for act in acts:
        named[act.plain["action"]].add(act.plain["subject"].partition("/")[2])
    return Records(
        indices=tuple(act.place for act in acts if act.place is not None),
        leaves=tuple(act.leaf for act in acts),
        issued=frozenset(named["lease.issued"]),
        ended=frozenset(named["lease.ended"]),
        begun=frozenset(lease for lease, _ in leases),
        running=frozenset(lease for lease, ended in leases if ended is None),
        enrolled=frozenset(named["node.enrolled"]),
        nodes=frozenset(nodes),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A verifier; every host here boots the same, and one golden covers them all."""

    verifier: RunningVerifier

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Let the verifier hang for as long as the block runs: connections stay, answers do not come."""
        self.verifier.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.verifier.process.send_signal(signal.SIGCONT)


@contextmanager
def a_site(**attestation: object) -> Iterator[Site]:
    """Run a verifier that trusts one TPM vendor."""
    with (
        a_vendor() as vendor,
        tempfile.TemporaryDirectory() as folder,
        a_verifier(Path(folder), vendor, start=True, **attestation) as verifier,
    ):
        yield Site(verifier=verifier)


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One node, admitted and trusted, and a model that it may open.

    Attributes:
        site: where it is.
        machine: with its TPM.
        agent: the process on it.
        model: the model that it may open, once at a time.
    """

    site: Site
    machine: Machine
    agent: AgentProcess
    model: Sealed

    @property
    def verifier(self) -> RunningVerifier:
        return self.site.verifier

    @property
    def epoch(self) -> bytes:
        """The lease epoch: PCR 23's value."""
        return self.machine.read_pcrs()[EPOCH_PCR]

    @property
    def actions(self) -> list[str]:
        """Cause and reason of each run of the stop action."""
        ran = self.agent.folder / "ran"
        return ran.read_text().splitlines() if ran.exists() else []

    async def extend(self, pcr: int) -> None:
        """Tamper with the machine."""
        await asyncio.to_thread(self.machine.extend, pcr, os.urandom(32))

    async def status(self) -> dict[str, object]:
        """Return the agent's status."""
        async with loader(self.agent) as client:
            return dict((await client.call(f"{KEYS_INTERFACE}.Status")).parameters)

    async def ask(self, client: Loader) -> Reply:
        """Ask for the model and return the first reply."""
        return await client.call(f"{KEYS_INTERFACE}.Open", open_parameters(self.model), more=True)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Loader]:
        """A loader that holds the model's key; asks again while the agent says that it is not available yet."""
        end = asyncio.get_running_loop().time() + _HEALS_SECONDS
        while True:
            async with loader(self.agent) as client:
                reply = await self.ask(client)
                if not reply.error:
                    self.check_key(reply)
                    yield client
                    return
            assert asyncio.get_running_loop().time() < end, (reply, self.agent.log)
            await asyncio.sleep(0.1)

    def check_key(self, reply: Reply) -> None:
        """Make sure that a reply holds the right key, and that its lease was recorded before."""
        assert base64.b64decode(str(reply.parameters["data_key"])) == self.model.data_key
        assert str(reply.parameters["lease_id"]) in records_of(self.verifier).issued


def open_parameters(model: Sealed) -> dict[str, object]:
    """Return the parameters of ``Open``."""
    return {"model_digest": model.digest, "slots": [model.slot.to_json()]}


@contextmanager
def a_newcomer(site: Site, *extended: int) -> Iterator[tuple[Machine, AgentProcess]]:
    """A booted machine and an agent that has never run; its stop action writes cause and reason into a file.

    Args:
        site: where it is.
        extended: PCRs that its system extends at the end of the boot.
    """
    with (
        a_machine(site.verifier.vendor) as machine,
        tempfile.TemporaryDirectory(prefix="agent") as folder,
    ):
        machine.boot(sample_boot_log(SampleBoot()))
        for pcr in extended:
            machine.extend(pcr, os.urandom(32))
        action = f"echo $NODESEAL_CAUSE: $NODESEAL_REASON >> {folder}/ran"
        agent = AgentProcess(Path(folder), machine.tcti, agents_view(site.verifier), on_revocation=action)
        try:
            yield machine, agent
        finally:
            agent.kill()


@contextmanager
def a_host(site: Site, *extended: int) -> Iterator[Host]:
    """A new node, which is trusted; ``extended`` as in :func:`a_newcomer`."""
    with a_newcomer(site, *extended) as (machine, agent):
        agent.start()
        yield Host(site=site, machine=machine, agent=agent, model=asyncio.run(_admitted(site.verifier, agent)))


def agents_view(verifier: RunningVerifier) -> VerifierConfig:
    """Return how an agent finds a verifier."""
    return VerifierConfig(
        address=verifier.listen,
        enrol_address=verifier.listen_enrol,
        ca_file=verifier.folder / "ca.pem",
        server_name="",
    )


async def _admitted(verifier: RunningVerifier, agent: AgentProcess) -> Sealed:
    async with verifier.person() as admin:
        await first_verdict(agent)
        await _cover(admin, agent.node_id)
        await admin.nodes.AdmitNode(admin_pb2.AdmitNodeRequest(node_id=agent.node_id))
        name = f"model-{secrets.token_hex(4)}"
        model = await a_sealed_model(admin, name, name)
        await grant(admin, agent, name)
        await trusted(agent)
        return model


async def first_verdict(agent: AgentProcess) -> None:
    """Wait until the verifier has judged a node that nobody has admitted yet."""
    await heard(agent, lambda status: status["state"] == "pending")


async def _cover(admin: Stubs, node_id: str) -> None:
    """Make the node's state golden, unless a host before it did."""
    active = (await admin.goldens.ListGoldens(admin_pb2.ListGoldensRequest())).goldens
    if any(golden.name == "rack-a" for golden in active):
        return
    await activate(admin, await golden_from_evidence(admin, node_id, *range(10)))


def opens(host: Host) -> None:
    """Let a loader open the model and close it; the verifier hears of both, and the lease epoch goes on."""

    async def scenario() -> None:
        async with host.opened():
            epoch = host.epoch
        await eventually(lambda: not running_leases(host))
        assert host.epoch == epoch

    asyncio.run(scenario())


def running_leases(host: Host) -> set[str]:
    """Return running leases of a host's node."""
    issued = {
        record["subject"].partition("/")[2]
        for record in host.verifier.records()
        if record["action"] == "lease.issued" and record["details"]["node_id"] == host.agent.node_id
    }
    return issued & records_of(host.verifier).running


class Wire:
    """A TCP relay in front of a verifier that can drop the verifier's answers."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._tasks: set[asyncio.Task[None]] = set()
        self.swallows = False
        self.address = ""

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        for task in (self._pass(reader, far_writer, from_verifier=False), self._pass(far_reader, writer)):
            running = asyncio.create_task(task)
            self._tasks.add(running)
            running.add_done_callback(self._tasks.discard)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_verifier: bool = True
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if not (from_verifier and self.swallows):
                    writer.write(data)
                    await writer.drain()
        writer.close()


@asynccontextmanager
async def a_wire(target: str) -> AsyncIterator[Wire]:
    """Relay connections to ``target`` from a free port."""
    wire = Wire(target)
    server = await asyncio.start_server(wire._accept, "127.0.0.1", 0)
    wire.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield wire
    finally:
        server.close()
        for task in tuple(wire._tasks):
            task.cancel()
        await asyncio.gather(*wire._tasks, return_exceptions=True)
