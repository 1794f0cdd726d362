"""A real agent and a real verifier, as processes, over a software TPM: the whole way from enrolment to the key.

Loaders talk to the agent's socket; people talk to the verifier over mutual TLS.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

from nodeseal.v1 import admin_pb2
from support.agents import Loader, eventually, loader, trusted
from support.hosts import CAPPED, REFUSED, UNCAPPED, Host, a_host, a_site


@asynccontextmanager
async def opened(host: Host) -> AsyncIterator[Loader]:
    """A loader that gets the model's key at the first attempt."""
    async with loader(host.agent) as client:
        reply = await host.ask(client)
        assert not reply.error, reply
        host.check_key(reply)
        yield client


def play(scenario: Callable[[Host], Coroutine[None, None, None]], **attestation: object) -> None:
    """Run ``scenario`` on a node that is trusted."""
    with a_site(**attestation) as site, a_host(site) as host:
        asyncio.run(scenario(host))


def test_from_enrolment_to_the_key_and_back() -> None:
    async def scenario(host: Host) -> None:
        async with opened(host):
            assert host.verifier.records()[-1]["action"] == "lease.issued"
        await eventually(lambda: host.verifier.records()[-1]["action"] == "lease.ended")
        async with opened(host):
            pass
        assert host.cap == UNCAPPED
        assert await asyncio.to_thread(host.agent.stop) == 0

    play(scenario)


def test_k03_a_pcr_that_moves_between_release_and_use_closes_the_key() -> None:
    async def scenario(host: Host) -> None:
        async with opened(host), loader(host.agent) as late:
            await host.extend(4)
            reply = await host.ask(late)
            assert "release.tpm-refused" in str(reply.parameters)
            assert "data_key" not in reply.parameters

    play(scenario, interval_seconds=20)


def test_a_node_that_changes_while_it_runs_loses_its_leases() -> None:
    async def scenario(host: Host) -> None:
        async with opened(host) as client:
            await host.extend(4)
            assert await client.revoked()
            await eventually(lambda: host.cap == CAPPED)
            await eventually(lambda: host.action_ran)
            assert (await host.status())["state"] == "untrusted"
        async with loader(host.agent) as client:
            assert (await host.ask(client)).error == REFUSED

    play(scenario)


def test_a_revoked_key_reaches_the_loader() -> None:
    async def scenario(host: Host) -> None:
        async with opened(host) as client:
            async with host.verifier.person() as admin:
                request = admin_pb2.RevokeKeyRequest(key_id=host.model.slot.key_id, reason="stolen")
                await admin.keys.RevokeKey(request)
            assert "stolen" in await client.revoked()
            await eventually(lambda: host.cap == CAPPED)

    play(scenario, interval_seconds=20)


def test_k09_a_verifier_that_is_gone_ends_leases_at_their_time() -> None:
    async def scenario(host: Host) -> None:
        async with opened(host) as client:
            host.verifier.kill()
            assert await client.revoked() == "the node's trust ran out"
            await eventually(lambda: host.cap == CAPPED)
            await eventually(lambda: host.action_ran)

    play(scenario, trust_seconds=6, answer_within_seconds=2)


def test_an_agent_outlives_its_verifiers_restart() -> None:
    async def scenario(host: Host) -> None:
        async with opened(host) as client:
            host.verifier.kill()
            host.verifier.start()
            for _ in range(3):
                assert (await client.reply()).parameters.keys() == {"expires"}
            await trusted(host.agent)
        assert host.cap == UNCAPPED

    play(scenario)


def test_k08_a_killed_agent_comes_back_and_opens_again() -> None:
    async def scenario(host: Host) -> None:
        node_id = host.agent.node_id
        async with opened(host):
            host.agent.kill()
        host.agent.start()
        await trusted(host.agent)
        async with host.opened():
            pass
        assert host.agent.node_id == node_id
        assert host.cap == UNCAPPED

    play(scenario)
