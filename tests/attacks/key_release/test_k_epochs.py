"""What is left of a lease that ended by force: the TPM refuses its release key, and the agent's memory has none of it.

The attacker copied the saved context of the release key, and all that the verifier sent, while the lease was running.
As root of the node they talk to its TPM themselves.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace

import pytest
from tpm2_pytss.constants import ESYS_TR

from nodeseal.agent.release.leases import HeldLease
from nodeseal.agent.service import Agent
from nodeseal.agent.tpm.connection import Connection
from nodeseal.agent.tpm.device import Device
from nodeseal.agent.tpm.failures import TpmPolicyFailed
from nodeseal.crypto.hpke import finish_release, split_point
from nodeseal.swtpm.machine import Machine
from nodeseal.tpm.pcr_usage import EPOCH_PCR
from nodeseal.v1 import attestation_pb2
from support.agents import Loader, World, agent_process, eventually, loader, play, running, trusted
from support.leases import saved_context
from support.machines import a_machine, a_vendor
from support.memory import pieces_found, saved_keys
from support.scripted_verifier import DATA_KEY

_LEASES = 3


@pytest.fixture(name="machine")
def _machine() -> Iterator[Machine]:
    with a_vendor() as vendor, a_machine(vendor) as machine:
        yield machine


def copied(held: HeldLease) -> HeldLease:
    """Return a lease as a thief keeps it, with a copy of the saved context."""
    context = held.release_key.context
    assert context is not None
    stolen = replace(held.release_key, context=saved_context(bytes(context._memory[: context._size])))
    return replace(held, release_key=stolen)


async def opened_by_a_thief(machine: Machine, stolen: HeldLease) -> bytes:
    """Let the TPM open a stolen lease in a session of the thief's own."""

    def use() -> bytes:
        with closing(Device(Connection(machine.tcti), os.urandom(64))) as device:
            shared = device.agree(stolen.release_key, stolen.policy_selection, split_point(stolen.sealed.enc))
        return bytes(finish_release(stolen.release_point, stolen.context, stolen.sealed, shared))

    return await asyncio.to_thread(use)


@asynccontextmanager
async def robbed(here: World, agent: Agent) -> AsyncIterator[tuple[Loader, HeldLease]]:
    """A loader with a lease that a thief has copied, and could open at that time."""
    await trusted(here.config)
    async with loader(here.config) as client:
        assert not (await client.open()).error
        (held,) = agent._leases.held()
        stolen = copied(held)
        assert await opened_by_a_thief(here.machine, stolen) == DATA_KEY
        yield client, stolen


async def lose_trust(here: World) -> None:
    here.verifier.state = attestation_pb2.NODE_STATE_UNTRUSTED


async def fall_silent(here: World) -> None:
    here.verifier.interval = 3600


async def revoke(here: World) -> None:
    await eventually(lambda: here.verifier.claims().leases)
    ids = here.verifier.claims().leases
    revocation = attestation_pb2.Revocation(lease_ids=ids, cause=attestation_pb2.END_CAUSE_REVOCATION)
    here.verifier.instructions.put_nowait(attestation_pb2.Instruction(revocation=revocation))


FORCED: dict[str, Callable[[World], Awaitable[None]]] = {
    "distrust": lose_trust,
    "silence": fall_silent,
    "revocation": revoke,
}


@pytest.mark.parametrize("force", FORCED.values(), ids=FORCED)
def test_k13_the_tpm_refuses_a_copied_context_after_a_forced_end(
    machine: Machine, force: Callable[[World], Awaitable[None]]
) -> None:
    async def scenario(here: World) -> None:
        here.verifier.trusted_for_ms = 4000
        async with running(here.config) as agent, robbed(here, agent) as (client, stolen):
            epoch = here.epoch
            await force(here)
            assert (await client.end())["revoked"]
            await eventually(lambda: here.epoch not in {epoch, bytes(32)})
            with pytest.raises(TpmPolicyFailed):
                await opened_by_a_thief(machine, stolen)

    play(machine, scenario)


def test_k13_nor_can_the_thief_bring_the_epoch_back(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        async with running(here.config) as agent, robbed(here, agent) as (client, stolen):
            epoch = here.epoch
            await lose_trust(here)
            assert await client.revoked()
            await eventually(lambda: here.epoch not in {epoch, bytes(32)})
            with closing(Connection(machine.tcti)) as tpm:
                tpm.esys.pcr_reset(ESYS_TR.PCR23)
                assert not any(here.epoch)
                with pytest.raises(TpmPolicyFailed):
                    await opened_by_a_thief(machine, stolen)
            machine.extend(EPOCH_PCR, epoch)
            with pytest.raises(TpmPolicyFailed):
                await opened_by_a_thief(machine, stolen)

    play(machine, scenario)


def test_k13_a_context_of_a_lease_that_was_given_back_dies_with_the_nodes_trust(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        async with running(here.config) as agent:
            async with robbed(here, agent) as (_, stolen):
                epoch = here.epoch
            await eventually(lambda: here.verifier.returned)
            await lose_trust(here)
            await eventually(lambda: here.epoch not in {epoch, bytes(32)})
            with pytest.raises(TpmPolicyFailed):
                await opened_by_a_thief(machine, stolen)

    play(machine, scenario)


def test_k13_an_agent_that_was_killed_ends_the_epoch_when_it_starts(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        async with running(here.config) as agent, robbed(here, agent) as (_, stolen):
            pass
        async with running(here.config):
            await trusted(here.config)
            with pytest.raises(TpmPolicyFailed):
                await opened_by_a_thief(machine, stolen)

    play(machine, scenario)


def test_k03_an_epoch_that_ends_between_release_and_use_closes_the_key(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        async with running(here.config) as agent, robbed(here, agent), loader(here.config) as late:
            await agent._tpm.call(lambda device: device.begin_epoch())
            reply = await late.open()
            assert "release.tpm-refused" in str(reply.parameters)
            assert "data_key" not in reply.parameters

    play(machine, scenario)


def test_k13_the_memory_of_an_agent_holds_nothing_of_the_keys_of_leases_that_ended(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        with agent_process(machine.tcti, here.config.verifier) as agent:
            seen: set[bytes] = set()
            for _ in range(_LEASES):
                await trusted(agent)
                async with loader(agent) as client, loader(agent) as second:
                    assert not (await client.open()).error
                    assert not (await second.open()).error
                    blobs = await asyncio.to_thread(saved_keys, agent.pid)
                    assert blobs - seen
                    assert await asyncio.to_thread(pieces_found, agent.pid, blobs - seen)
                    seen |= blobs
                    await revoke(here)
                    assert await client.end()
            assert len(seen) >= _LEASES
            await trusted(agent)
            assert await asyncio.to_thread(pieces_found, agent.pid, seen) == 0

    play(machine, scenario)


def test_k13_a_release_that_fails_leaves_nothing_of_its_key_in_memory(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        with agent_process(machine.tcti, here.config.verifier) as agent:
            await trusted(agent)
            here.verifier.context = {"node_id": "n-" + "a" * 26}
            here.verifier.release_delay = 2.0
            async with loader(agent) as client:
                asked = asyncio.create_task(client.open())
                await eventually(lambda: here.verifier.releases)
                seen = await asyncio.to_thread(saved_keys, agent.pid)
                assert seen
                assert "another node" in str((await asked).parameters["reason"])
            assert await asyncio.to_thread(pieces_found, agent.pid, seen) == 0

    play(machine, scenario)
