"""A real agent and a real verifier, as processes, over a software TPM: the whole way from enrolment to the key.

Loaders talk to the agent's socket; people talk to the verifier over mutual TLS.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from nodeseal.agent.calls.channels import VerifierConfig
from nodeseal.agent.tpm.device import CAP_LABEL
from nodeseal.swtpm.machine import Machine
from nodeseal.swtpm.sample_log import BootChain, sample_boot_log
from nodeseal.v1 import admin_pb2
from nodeseal.wire.varlink import KEYS_INTERFACE, Reply
from support.admin import Sealed, a_sealed_model, golden_from_evidence
from support.agents import AgentProcess, Loader, agent_process, eventually, loader, trusted
from support.machines import a_machine, a_vendor
from support.verifier import RunningVerifier, Stubs, a_verifier

CAPPED = hashlib.sha256(bytes(32) + hashlib.sha256(CAP_LABEL).digest()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One node, admitted and trusted, and a model that it may open."""

    machine: Machine
    verifier: RunningVerifier
    admin: Stubs
    agent: AgentProcess
    model: Sealed

    @property
    def cap(self) -> bytes:
        """The cap PCR's value."""
        return self.machine.read_pcrs()[15]

    async def open(self, client: Loader) -> Reply:
        """Ask for the model."""
        parameters: dict[str, object] = {
            "model_digest": self.model.digest,
            "slots": [self.model.slot.to_json()],
        }
        return await client.call(f"{KEYS_INTERFACE}.Open", parameters, more=True)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Loader]:
        """A loader that holds the model's key."""
        async with loader(self.agent) as client:
            reply = await self.open(client)
            assert not reply.error, reply
            assert base64.b64decode(str(reply.parameters["data_key"])) == self.model.data_key
            yield client

    def actions(self) -> list[str]:
        """All audited actions, oldest first."""
        return [record["action"] for record in self.verifier.records()]


@contextmanager
def parts(**attestation: object) -> Iterator[tuple[Machine, RunningVerifier, VerifierConfig]]:
    """A booted machine, a verifier that trusts its vendor, and how an agent finds that verifier."""
    with a_vendor() as vendor, a_machine(vendor) as machine, tempfile.TemporaryDirectory() as folder:
        machine.boot(sample_boot_log(BootChain()))
        with a_verifier(Path(folder), vendor, start=True, **attestation) as verifier:
            config = VerifierConfig(
                address=verifier.listen,
                enrol_address=verifier.listen_enrol,
                ca_file=verifier.folder / "ca.pem",
                server_name="",
            )
            yield machine, verifier, config


async def state_of(agent: AgentProcess) -> str:
    """What the agent says of itself."""
    async with loader(agent) as client:
        return str((await client.call(f"{KEYS_INTERFACE}.Status")).parameters["state"])


async def hears(agent: AgentProcess, state: str) -> None:
    """Wait until the agent has heard that it is in ``state``."""
    for _ in range(500):
        if await state_of(agent) == state:
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"{state} was never heard: {agent.log}")


async def admit(admin: Stubs, node_id: str) -> None:
    """Take the node's present state as golden, and the node into the fleet."""
    document = await golden_from_evidence(admin, node_id, *range(10))
    await admin.goldens.ActivateGolden(iter([admin_pb2.ActivateGoldenRequest(document=document)]))
    await admin.nodes.AdmitNode(admin_pb2.AdmitNodeRequest(node_id=node_id))


def play(scenario: Callable[[Site], Awaitable[None]], *, on_revocation: str = "", **attestation: object) -> None:
    """Run ``scenario`` at a site whose node is trusted."""

    async def whole(machine: Machine, verifier: RunningVerifier, config: VerifierConfig) -> None:
        with agent_process(machine.tcti, config, on_revocation=on_revocation) as agent:
            async with verifier.person() as admin:
                await hears(agent, "pending")
                await admit(admin, agent.node_id)
                model = await a_sealed_model(admin)
                grant = admin_pb2.Grant(node_id=agent.node_id, max_leases=1)
                await admin.keys.GrantKey(admin_pb2.GrantKeyRequest(key_id=model.slot.key_id, grant=grant))
                await trusted(agent)
                await scenario(Site(machine=machine, verifier=verifier, admin=admin, agent=agent, model=model))

    with parts(**attestation) as (machine, verifier, config):
        asyncio.run(whole(machine, verifier, config))


def test_from_enrolment_to_the_key_and_back() -> None:
    async def scenario(site: Site) -> None:
        async with site.opened():
            assert site.actions()[-1] == "lease.issued"
        await eventually(lambda: site.actions()[-1] == "lease.ended")
        async with site.opened():
            pass
        assert site.cap == bytes(32)
        assert await asyncio.to_thread(site.agent.stop) == 0

    play(scenario)


def test_k03_a_pcr_that_moves_between_release_and_use_closes_the_key() -> None:
    async def scenario(site: Site) -> None:
        async with site.opened(), loader(site.agent) as late:
            await asyncio.to_thread(site.machine.extend, 4, os.urandom(32))
            reply = await site.open(late)
            assert "release.tpm-refused" in str(reply.parameters)
            assert "data_key" not in reply.parameters

    play(scenario, interval_seconds=20)


def test_a_node_that_changes_while_it_runs_loses_its_leases() -> None:
    async def scenario(site: Site) -> None:
        ran = site.agent.folder / "ran"
        async with site.opened() as client:
            await asyncio.to_thread(site.machine.extend, 4, os.urandom(32))
            assert await client.revoked()
            await eventually(lambda: site.cap == CAPPED)
            await eventually(ran.exists)
            assert await state_of(site.agent) == "untrusted"
        async with loader(site.agent) as client:
            assert (await site.open(client)).error == f"{KEYS_INTERFACE}.Refused"

    play(scenario, on_revocation="touch ran")


def test_a_revoked_key_reaches_the_loader() -> None:
    async def scenario(site: Site) -> None:
        async with site.opened() as client:
            await site.admin.keys.RevokeKey(admin_pb2.RevokeKeyRequest(key_id=site.model.slot.key_id, reason="stolen"))
            assert "stolen" in await client.revoked()
            await eventually(lambda: site.cap == CAPPED)

    play(scenario, interval_seconds=20)


def test_k09_a_verifier_that_is_gone_ends_leases_at_their_time() -> None:
    async def scenario(site: Site) -> None:
        ran = site.agent.folder / "ran"
        async with site.opened() as client:
            site.verifier.kill()
            assert await client.revoked() == "the node's trust ran out"
            await eventually(lambda: site.cap == CAPPED)
            await eventually(ran.exists)

    play(scenario, on_revocation="touch ran", trust_seconds=6, answer_within_seconds=2)


def test_an_agent_outlives_its_verifiers_restart() -> None:
    async def scenario(site: Site) -> None:
        async with site.opened() as client:
            site.verifier.kill()
            site.verifier.start()
            for _ in range(3):
                assert (await client.reply()).parameters.keys() == {"expires"}
            await trusted(site.agent)
        assert site.cap == bytes(32)

    play(scenario)


def test_k08_a_killed_agent_comes_back_and_opens_again() -> None:
    async def scenario(site: Site) -> None:
        node_id = site.agent.node_id
        async with site.opened():
            site.agent.kill()
        site.agent.start()
        await trusted(site.agent)
        for _ in range(100):
            async with loader(site.agent) as client:
                reply = await site.open(client)
            if not reply.error:
                break
            await asyncio.sleep(0.1)
        assert base64.b64decode(str(reply.parameters["data_key"])) == site.model.data_key, reply
        assert site.agent.node_id == node_id
        assert site.cap == bytes(32)

    play(scenario)
