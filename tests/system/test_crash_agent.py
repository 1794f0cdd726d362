"""An agent that is killed at any moment, from its first start on, while loaders ask for keys.

After each kill: every key that a loader got has a record, and no record is missing. The agent starts again without
hands, is the same node, and opens again; no stop action runs.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from contextlib import suppress

import pytest

from nodeseal.wire.varlink import KEYS_INTERFACE
from support.agents import loader, trusted
from support.hosts import Host, a_host, a_newcomer, a_site, first_verdict, open_parameters, records_of

KILLS = int(os.environ.get("NODESEAL_CRASH_KILLS", "10"))
LONGEST_SECONDS = 1.0
"""How long after its start an agent is killed at the latest; it needs about half of it until it may open models."""


async def _ask_without_end(host: Host) -> None:
    """Ask for the model over and over; every key that comes has its record already."""
    while True:
        with suppress(EOFError, OSError):
            async with loader(host.agent) as client:
                reply = await client.call(f"{KEYS_INTERFACE}.Open", open_parameters(host.model), more=True)
                if not reply.error:
                    host.check_key(reply)
        await asyncio.sleep(0.01)


async def _until_killed(host: Host, seconds: float) -> None:
    task = asyncio.create_task(_ask_without_end(host))
    await asyncio.sleep(seconds)
    await asyncio.to_thread(host.agent.kill)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.timeout(60 + 5 * KILLS)
def test_an_agent_killed_at_any_moment_loses_nothing_and_heals() -> None:
    moments = random.Random(3)  # noqa: S311 - the same in every run

    async def heals(host: Host) -> None:
        await trusted(host.agent)
        async with host.opened():
            pass

    with a_site(interval_seconds=1, trust_seconds=30, answer_within_seconds=5) as site, a_host(site) as host:
        node_id, records = host.agent.node_id, None
        for _ in range(KILLS):
            asyncio.run(_until_killed(host, moments.random() * LONGEST_SECONDS))
            written = records_of(site.verifier)
            written.check(records)
            records = written
            host.agent.start()
        asyncio.run(heals(host))
        assert len(records_of(site.verifier).issued) >= KILLS // 3
        assert (host.agent.node_id, host.actions) == (node_id, [])
        records_of(site.verifier).check(records)


@pytest.mark.timeout(60 + 5 * KILLS)
def test_an_agent_killed_at_any_moment_of_its_first_start_enrols_as_one_node() -> None:
    moments = random.Random(4)  # noqa: S311 - the same in every run
    with a_site(interval_seconds=1) as site, a_newcomer(site) as (_, agent):
        for _ in range(KILLS):
            agent.start()
            time.sleep(0.2 + moments.random() * 0.5)
            agent.kill()
            records_of(site.verifier).check()
        agent.start()
        asyncio.run(first_verdict(agent))
        assert records_of(site.verifier).nodes == {agent.node_id}
