"""Keys on real nodes: what the TPM refuses, what a kill in the middle leaves, and how leases end.

Agents and verifier are processes, TPMs are swtpm. The verifier challenges every second and trusts for ten.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace

import pytest
from grpc import aio
from tpm2_pytss.constants import ESYS_TR

from nodeseal.agent.tpm.connection import Connection
from nodeseal.v1 import admin_pb2
from nodeseal.wire.varlink import KEYS_INTERFACE, Call, encode_call
from support.admin import Sealed, a_sealed_model, grant
from support.agents import eventually, loader, trusted
from support.fake_node import FakeNode
from support.hosts import (
    REFUSED,
    Host,
    Site,
    a_host,
    a_site,
    a_wire,
    open_parameters,
    opens,
    records_of,
    running_leases,
)
from support.releases import Challenge, Proof, Scene, activate_golden_of, attest, joined, lease_rows


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with a_site(interval_seconds=1, trust_seconds=10, answer_within_seconds=2) as running:
        yield running


@pytest.fixture(scope="module")
def host(site: Site) -> Iterator[Host]:
    """A node for tests that leave it as it was."""
    with a_host(site) as running:
        yield running


# k03: the TPM itself refuses


def test_k03_a_pcr_extended_between_release_and_use_closes_the_key_before_anybody_is_told(site: Site) -> None:
    async def scenario(host: Host) -> None:
        async with host.opened(), loader(host.agent) as late:
            with site.silent():  # so that no round can end the lease first
                await host.extend(4)
                assert (await host.status())["leases"]
                reply = await host.ask(late)
            assert reply.error == REFUSED
            assert "release.tpm-refused" in str(reply.parameters)
            assert "data_key" not in reply.parameters

    with a_host(site) as host:
        asyncio.run(scenario(host))


# k08: whoever is killed during a release


async def _killed_after(seconds: float, host: Host, kill: Callable[[], object]) -> None:
    """Ask for the model, kill somebody after a while; whoever got the key had a record of it first."""
    async with loader(host.agent) as client:
        call = Call(method=f"{KEYS_INTERFACE}.Open", parameters=open_parameters(host.model), more=True)
        client.writer.write(encode_call(call))
        await asyncio.sleep(seconds)
        kill()
        with suppress(EOFError, OSError):
            reply = await client.reply()
            if not reply.error:
                host.check_key(reply)


def _moments(count: int, longest: float) -> list[float]:
    """Return moments that are the same in every run."""
    moments = random.Random(8)  # noqa: S311 - not for secrets
    return [moments.random() * longest for _ in range(count)]


@pytest.mark.parametrize("moment", _moments(3, 0.12))
def test_k08_an_agent_killed_during_a_release_leaves_no_key_without_a_record(host: Host, moment: float) -> None:
    async def scenario() -> None:
        await trusted(host.agent)
        await _killed_after(moment, host, host.agent.kill)

    asyncio.run(scenario())
    records_of(host.verifier).check()
    host.agent.start()
    asyncio.run(trusted(host.agent))
    opens(host)


def test_k08_a_loader_killed_during_a_release_gives_its_lease_back(host: Host) -> None:
    async def scenario() -> None:
        await trusted(host.agent)
        for moment in _moments(8, 0.08):
            async with loader(host.agent) as client:
                call = Call(method=f"{KEYS_INTERFACE}.Open", parameters=open_parameters(host.model), more=True)
                client.writer.write(encode_call(call))
                await asyncio.sleep(moment)
                client.writer.transport.abort()
        async with host.opened():  # waits for the releases that are still under way
            pass
        await eventually(lambda: not running_leases(host))
        assert (await host.status())["leases"] == []

    asyncio.run(scenario())
    opens(host)


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A trusted node without an agent, and a model that it may open."""

    node: FakeNode
    model: Sealed


@pytest.fixture(scope="module")
def client(site: Site) -> Client:
    async def prepare() -> Client:
        async with site.verifier.person() as admin:
            node = await joined(site.verifier)
            await activate_golden_of(admin, node, name="synthetic")
            await attest(node)
            model = await a_sealed_model(admin, "synthetic", "synthetic")
            await grant(admin, node, "synthetic")
            return Client(node=node, model=model)

    return asyncio.run(prepare())


def _opens_after_restart(site: Site, client: Client) -> None:
    """Start the verifier again; the node that lost its answer simply asks again, within the limit of one lease."""
    site.verifier.start()

    async def scenario() -> None:
        async with site.verifier.person() as admin:
            await attest(client.node)
            await Scene(verifier=site.verifier, admin=admin, node=client.node, model=client.model).opens()

    asyncio.run(scenario())
    records_of(site.verifier).check()
    assert client.node.node_id not in _running_by_node(site)


def _running_by_node(site: Site) -> set[str]:
    running = records_of(site.verifier).running
    rows = lease_rows(site.verifier)  # after the acts: a release may be recorded in between
    return {rows[lease] for lease in running}


def test_k08_a_verifier_killed_between_record_and_answer_has_recorded_what_nobody_got(
    site: Site, client: Client
) -> None:
    async def scenario() -> None:
        async with site.verifier.person() as admin, a_wire(site.verifier.listen) as wire:
            await attest(client.node)
            behind = copy(site.verifier)
            behind.listen, client.node.verifier = wire.address, behind
            scene = Scene(verifier=site.verifier, admin=admin, node=client.node, model=client.model)

            async def answer(challenge: Challenge) -> Proof:
                wire.swallows = True
                return client.node.proof(challenge)

            asked = asyncio.create_task(scene.ask(answer))
            await eventually(lambda: client.node.node_id in _running_by_node(site))
            site.verifier.kill()
            with pytest.raises(aio.AioRpcError):
                await asked

    try:
        asyncio.run(scenario())
        records_of(site.verifier).check()
        assert client.node.node_id in _running_by_node(site)
    finally:
        client.node.verifier = site.verifier
        _opens_after_restart(site, client)


def test_k08_a_verifier_killed_before_the_record_has_given_nothing(site: Site, client: Client) -> None:
    async def scenario() -> None:
        async with site.verifier.person() as admin:
            await attest(client.node)
            scene = Scene(verifier=site.verifier, admin=admin, node=client.node, model=client.model)
            blocker = sqlite3.connect(site.verifier.folder / "verifier.sqlite", isolation_level=None)

            async def answer(challenge: Challenge) -> Proof:
                blocker.execute("BEGIN IMMEDIATE")  # the record waits for this
                return client.node.proof(challenge)

            asked = asyncio.create_task(scene.ask(answer))
            await asyncio.sleep(0.5)
            assert not asked.done()
            site.verifier.kill()
            with pytest.raises(aio.AioRpcError):
                await asked
            blocker.close()

    before = records_of(site.verifier).issued
    try:
        asyncio.run(scenario())
        assert records_of(site.verifier).issued == before
    finally:
        _opens_after_restart(site, client)


# k09: ends by force


async def _revoke_the_key(host: Host) -> None:
    async with host.verifier.person() as admin:
        request = admin_pb2.RevokeKeyRequest(key_id=host.model.slot.key_id, reason="stolen")
        await admin.keys.RevokeKey(request)


async def _quarantine(host: Host) -> None:
    async with host.verifier.person() as admin:
        request = admin_pb2.QuarantineNodeRequest(node_id=host.agent.node_id, reason="odd")
        await admin.nodes.QuarantineNode(request)


async def _tamper(host: Host) -> None:
    await host.extend(4)


async def _forgotten(host: Host, epoch: bytes, cause: str) -> None:
    """Make sure that nothing is left of a lease that ended by force in this epoch."""
    await eventually(lambda: host.epoch not in {epoch, bytes(32)})
    await eventually(lambda: host.actions)
    assert [line.partition(":")[0] for line in host.actions] == [cause]
    assert (await host.status())["leases"] == []


async def _closed(host: Host) -> None:
    """Make sure that nobody gets the key any more."""
    async with loader(host.agent) as client:
        reply = await host.ask(client)
    assert reply.error
    assert "data_key" not in reply.parameters


async def _admit(host: Host) -> None:
    """Lift the quarantine, and wait until the node is trusted again."""
    async with host.verifier.person() as admin:
        await admin.nodes.AdmitNode(admin_pb2.AdmitNodeRequest(node_id=host.agent.node_id))
    await trusted(host.agent)


EVENTS: dict[str, tuple[Callable[[Host], Awaitable[None]], str, str]] = {
    "the key is revoked": (_revoke_the_key, "revocation", "stolen"),
    "a person quarantines the node": (_quarantine, "distrust", "quarantined"),
    "the node is found tampered with": (_tamper, "distrust", "pcr.mismatch"),
}


@pytest.mark.parametrize(("event", "cause", "reason"), EVENTS.values(), ids=EVENTS)
def test_k09_a_lease_ends_by_force_when(
    site: Site, event: Callable[[Host], Awaitable[None]], cause: str, reason: str
) -> None:
    async def scenario(host: Host) -> None:
        async with host.opened() as client, host.opened() as second:
            epoch = host.epoch
            await event(host)
            end = await client.end()
            assert reason in str(end["revoked"])
            assert end["cause"] == cause
            assert await second.revoked()
            await _forgotten(host, epoch, cause)
        await _closed(host)
        await eventually(lambda: not running_leases(host))

    with a_host(site) as host:
        asyncio.run(scenario(host))


def test_k09_after_a_quarantine_a_person_admits_the_node_and_it_opens_without_a_reboot(site: Site) -> None:
    async def scenario(host: Host) -> None:
        async with host.opened() as client:
            await _quarantine(host)
            assert await client.revoked()
        await _admit(host)

    with a_host(site) as host:
        asyncio.run(scenario(host))
        opens(host)


def test_k09_a_revoked_key_costs_the_node_no_trust_and_another_key_opens_without_a_reboot(site: Site) -> None:
    async def scenario(host: Host) -> Sealed:
        async with host.opened() as client:
            await _revoke_the_key(host)
            assert await client.revoked()
        assert (await host.status())["state"] == "trusted"
        async with host.verifier.person() as admin:
            name = f"model-{secrets.token_hex(4)}"
            model = await a_sealed_model(admin, name, name)
            await grant(admin, host.agent, name)
            return model

    with a_host(site) as host:
        opens(replace(host, model=asyncio.run(scenario(host))))


def test_k09_a_verifier_that_is_unreachable_past_t_ends_the_lease_and_its_return_heals(site: Site) -> None:
    async def scenario(host: Host) -> None:
        async with host.opened() as client:
            epoch = host.epoch
            with site.silent():
                end = await client.end()
                assert (end["revoked"], end["cause"]) == ("the node's trust ran out", "silence")
                await _forgotten(host, epoch, "silence")
        await trusted(host.agent)

    with a_host(site) as host:
        asyncio.run(scenario(host))
        opens(host)


def test_a_node_whose_pcr_23_was_reset_heals_by_itself(site: Site) -> None:
    async def scenario(host: Host) -> None:
        tpm = Connection(host.machine.tcti)
        tpm.esys.pcr_reset(ESYS_TR.PCR23)
        tpm.close()
        async with loader(host.agent) as client:
            assert "release.no-epoch" in str((await host.ask(client)).parameters)

    with a_host(site) as host:
        asyncio.run(scenario(host))
        opens(host)


def test_a_machine_whose_system_measures_its_identity_twice_at_boot_is_trusted_and_opens(site: Site) -> None:
    with a_host(site, 15, 15) as host:
        opens(host)
