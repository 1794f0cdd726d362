"""A real agent and a real verifier, as processes, over a software TPM: the whole way from enrolment to the key.

Loaders talk to the agent's socket; people talk to the verifier over mutual TLS.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

from nodeseal.v1 import admin_pb2
from support.agents import Loader, eventually, heard, loader, trusted
from support.hosts import REFUSED, Host, a_host, a_newcomer, a_site, first_verdict


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
        epoch = host.epoch
        assert any(epoch)
        async with opened(host):
            assert host.verifier.records()[-1]["action"] == "lease.issued"
        await eventually(lambda: host.verifier.records()[-1]["action"] == "lease.ended")
        async with opened(host):
            pass
        assert host.epoch == epoch
        assert await asyncio.to_thread(host.agent.stop) == 0

    play(scenario)


def test_a_setting_of_the_first_release_is_ignored_with_one_warning_that_names_it() -> None:
    def warnings(log: str) -> list[str]:
        lines = [json.loads(line) for line in log.splitlines()]
        return [line["setting"] for line in lines if line["event"] == "setting ignored"]

    with a_site() as site:
        site.verifier.stop()
        config = site.verifier.folder / "verifier.yaml"
        config.write_text(config.read_text().replace("  pcrs:", "  cap_pcr: 15\n  pcrs:"))
        site.verifier.start()
        with a_newcomer(site) as (_, agent):
            agent.config.write_text(f"cap_pcr: 15\n{agent.config.read_text()}")
            agent.start()
            asyncio.run(first_verdict(agent))
            assert warnings(agent.log) == ["cap_pcr"]
        assert warnings((site.verifier.folder / "log").read_text()) == ["attestation.cap_pcr"]


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
        epoch = host.epoch
        async with opened(host) as client:
            await host.extend(4)
            assert await client.revoked()
            await eventually(lambda: host.epoch not in {epoch, bytes(32)})
            await eventually(lambda: host.actions)
            assert host.actions[0].startswith("distrust: ")
            await heard(host.agent, lambda status: status["state"] == "untrusted")
        async with loader(host.agent) as client:
            assert (await host.ask(client)).error == REFUSED

    play(scenario)


def test_a_revoked_key_reaches_the_loader() -> None:
    async def scenario(host: Host) -> None:
        epoch = host.epoch
        async with opened(host) as client:
            async with host.verifier.person() as admin:
                request = admin_pb2.RevokeKeyRequest(key_id=host.model.slot.key_id, reason="stolen")
                await admin.keys.RevokeKey(request)
            assert "stolen" in await client.revoked()
            await eventually(lambda: host.epoch not in {epoch, bytes(32)})
            await eventually(lambda: host.actions)
            assert host.actions[0].startswith("revocation: ")
            assert "stolen" in host.actions[0]
        assert (await host.status())["state"] == "trusted"

    play(scenario, interval_seconds=20)


def test_k09_a_verifier_that_is_gone_ends_leases_at_their_time_and_its_return_heals_without_a_reboot() -> None:
    async def scenario(host: Host) -> None:
        epoch = host.epoch
        async with opened(host) as client:
            host.verifier.kill()
            assert await client.revoked() == "the node's trust ran out"
            await eventually(lambda: host.epoch not in {epoch, bytes(32)})
            await eventually(lambda: host.actions)
            assert host.actions == ["silence: the node's trust ran out"]
        host.verifier.start()
        async with host.opened():
            pass

    play(scenario, trust_seconds=6, answer_within_seconds=2)


def test_an_agent_outlives_its_verifiers_restart() -> None:
    async def scenario(host: Host) -> None:
        epoch = host.epoch
        async with opened(host) as client:
            host.verifier.kill()
            host.verifier.start()
            for _ in range(3):
                assert (await client.reply()).parameters.keys() == {"expires"}
            await trusted(host.agent)
        assert host.epoch == epoch

    play(scenario)


def test_k08_a_killed_agent_comes_back_and_opens_again() -> None:
    async def scenario(host: Host) -> None:
        node_id, epoch = host.agent.node_id, host.epoch
        async with opened(host):
            host.agent.kill()
        host.agent.start()
        await trusted(host.agent)
        async with host.opened():
            pass
        assert host.agent.node_id == node_id
        assert host.epoch not in {epoch, bytes(32)}

    play(scenario)
