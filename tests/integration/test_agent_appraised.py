"""A real agent and a real verifier over a software TPM: nodes that are judged by what their logs say.

The golden has no exact values: it names the images that may boot, and the files that may run.
"""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from nodeseal.golden.document import dump_golden
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import BootRules, FileDigest, Image, RuntimeRules
from nodeseal.swtpm.machine import Machine
from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log import decode_event_log
from nodeseal.uefi.event_log_types import EventType
from nodeseal.v1 import admin_pb2
from nodeseal.wire.varlink import KEYS_INTERFACE
from support.admin import a_sealed_model, activate, grant
from support.agents import AgentProcess, Loader, agent_process, eventually, loader, trusted
from support.hosts import agents_view, open_parameters
from support.machines import a_machine, a_vendor
from support.verifier import RunningVerifier, Stubs, a_verifier

SHA256 = HashAlg.SHA256
GOOD, EVIL = "/usr/bin/vllm", "/usr/bin/exfiltrate"
CHAIN = SampleBoot()


def golden(name: str = "rack-a") -> Golden:
    """What boots by :data:`CHAIN` and runs :data:`GOOD`; what lies in ``/opt/scratch`` is not judged."""
    booted = decode_event_log(sample_boot_log(CHAIN)).events
    images = tuple(
        Image(name=str(place), digests=frozenset({event.digests[SHA256]}))
        for place, event in enumerate(booted)
        if (event.pcr, event.claimed_type) == (4, EventType.EFI_BOOT_SERVICES_APPLICATION)
    )
    files = {GOOD: (FileDigest(digest=SHA256.digest(GOOD.encode())),)}
    return Golden(
        name=name,
        pcrs={},
        boot=BootRules(secure_boot=True, images=images),
        runtime=RuntimeRules(files=files, excludes=("/opt/scratch/",)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One node, which is trusted, and its verifier."""

    machine: Machine
    verifier: RunningVerifier
    admin: Stubs
    agent: AgentProcess

    async def run(self, path: str) -> None:
        """Run a program on the node, whose content is its name."""
        await asyncio.to_thread(self.machine.measure, path, path.encode())

    async def hears(self, state: str, *findings: str) -> None:
        """Wait until the agent has heard of a state and, in some order, of these findings and no others."""
        end = asyncio.get_running_loop().time() + 30
        while (heard := await self._heard()) != (state, sorted(findings)):
            assert asyncio.get_running_loop().time() < end, (heard, self.agent.log)
            await asyncio.sleep(0.05)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Loader]:
        """A loader that holds a model's key."""
        model = await a_sealed_model(self.admin)
        await grant(self.admin, self.agent)
        async with loader(self.agent) as client:
            reply = await client.call(f"{KEYS_INTERFACE}.Open", open_parameters(model), more=True)
            assert not reply.error, reply
            yield client

    async def status(self) -> dict[str, object]:
        async with loader(self.agent) as client:
            return dict((await client.call(f"{KEYS_INTERFACE}.Status")).parameters)

    async def rounds(self, count: int) -> None:
        """Wait for whole rounds from now on."""
        for _ in range(count + 1):
            before = await self._last_seen()
            end = asyncio.get_running_loop().time() + 30
            while await self._last_seen() == before:
                assert asyncio.get_running_loop().time() < end, self.agent.log
                await asyncio.sleep(0.05)

    def reboot(self, chain: SampleBoot = CHAIN) -> None:
        """Restart machine and agent."""
        self.agent.kill()
        self.machine.boot(sample_boot_log(chain), ima=True)
        (self.agent.folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
        self.agent.start()

    async def _heard(self) -> tuple[str, list[str]]:
        status = await self.status()
        found = status["findings"]
        assert isinstance(found, list)
        return str(status["state"]), sorted(each["id"] for each in found)

    async def _last_seen(self) -> str:
        node = await self.admin.nodes.GetNode(admin_pb2.GetNodeRequest(node_id=self.agent.node_id))
        return str(node.last_seen)


def play(scenario: Callable[[Site], Awaitable[None]], prepare: Callable[[Machine], None] = lambda _: None) -> None:
    """Run ``scenario`` with a node that was booted, prepared and found trusted."""

    async def whole(machine: Machine, verifier: RunningVerifier) -> None:
        with agent_process(machine.tcti, agents_view(verifier)) as agent:
            async with verifier.person() as admin:
                await eventually(lambda: agent.node_id)
                await activate(admin, dump_golden(golden()))
                await admin.nodes.AdmitNode(admin_pb2.AdmitNodeRequest(node_id=agent.node_id))
                site = Site(machine=machine, verifier=verifier, admin=admin, agent=agent)
                await trusted(agent)
                await scenario(site)

    with a_vendor() as vendor, a_machine(vendor) as machine, tempfile.TemporaryDirectory() as folder:
        machine.boot(sample_boot_log(CHAIN), ima=True)
        prepare(machine)
        with a_verifier(Path(folder), vendor, start=True, sha256=list(range(16))) as verifier:
            asyncio.run(whole(machine, verifier))


def test_a_node_stays_trusted_while_it_runs_listed_files() -> None:
    async def scenario(site: Site) -> None:
        await site.run(GOOD)
        await site.rounds(2)
        await site.hears("trusted")

    play(scenario)


def test_an_unlisted_file_ends_trust_and_leases_and_the_node_hears_which() -> None:
    async def scenario(site: Site) -> None:
        async with site.opened() as client:
            await site.run(GOOD)
            await site.rounds(1)
            await site.run(EVIL)
            assert "ima.unknown-file" in await client.revoked()
        await site.hears("untrusted", "ima.unknown-file")
        assert EVIL in str((await site.status())["findings"])
        site.reboot()
        await site.hears("trusted")

    play(scenario)


def test_another_boot_loader_ends_trust_and_the_node_hears_which() -> None:
    async def scenario(site: Site) -> None:
        site.reboot(SampleBoot(boot_loader=b"one that somebody replaced"))
        await site.hears("untrusted", "uefi.image")
        assert "grubx64.efi" in str((await site.status())["findings"])

    play(scenario)


def test_an_extend_that_no_log_explains_ends_trust() -> None:
    async def scenario(site: Site) -> None:
        await asyncio.to_thread(site.machine.extend, 10, bytes(32))
        await site.hears("untrusted", "ima.replay")

    play(scenario)


def test_a_log_of_5_mb_goes_through() -> None:
    def prepare(machine: Machine) -> None:
        for number in range(1450):
            machine.measure(f"/opt/scratch/{number}/".ljust(3500, "x"))
        assert machine.ima_log_file.stat().st_size > 5_000_000

    async def scenario(site: Site) -> None:
        await site.run(GOOD)
        await site.rounds(1)
        await site.hears("trusted")

    play(scenario, prepare)


@pytest.mark.parametrize("what", ["agent", "verifier"])
def test_a_restart_in_the_same_boot_goes_on(what: str) -> None:
    async def scenario(site: Site) -> None:
        await site.run(GOOD)
        await site.rounds(1)
        if what == "agent":
            assert await asyncio.to_thread(site.agent.stop) == 0
            site.agent.start()
        else:
            site.verifier.kill()
            site.verifier.start()
        await site.run(GOOD)
        await trusted(site.agent)
        await site.rounds(2)
        await site.hears("trusted")
        await site.run(EVIL)
        await site.hears("untrusted", "ima.unknown-file")

    play(scenario)
