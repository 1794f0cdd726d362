"""x02 beside the agent's event loop: a change starts a round, is claimed as it is, and is put right after that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path

from nodeseal.agent.egress.guard import EgressGuard
from nodeseal.agent.egress.limits import EgressConfig
from nodeseal.egress.document import Level
from support.namespaces import World, inside, run

LIMITS = b"""\
enclave: ["10.77.0.0/24"]
uplinks: ["up0"]
normal: {rate: 400000, burst: 65536, volume: 600000}
tight: {rate: 100000, burst: 65536, volume: 100000}
"""
_SECONDS = 60


def test_x02_a_change_starts_a_round_and_is_put_right_after_it_was_claimed(cable: World) -> None:
    with inside(cable.node):
        cable.limits(LIMITS).close()
        asyncio.run(asyncio.wait_for(_change(cable.folder / "egress.yaml"), _SECONDS))
        assert "nodeseal" in run("nft", "list", "tables", "netdev"), "the table outlives the guard"


async def _change(file: Path) -> None:
    guard = EgressGuard(EgressConfig(file=file, level=Level.TIGHT))
    keeping = asyncio.create_task(guard.keep())
    try:
        good = await guard.claims()
        assert good is not None
        assert (good.level, good.differs) == (Level.TIGHT, ())
        changed: Awaitable[None] = asyncio.create_task(guard.changed())
        await asyncio.sleep(0)
        run("nft", "insert", "rule", "netdev", "nodeseal", "outside", "accept")
        await changed
        changed = asyncio.create_task(guard.changed())
        await asyncio.sleep(0)
        wrong = await guard.claims()
        assert wrong is not None
        assert wrong.differs == ("unexpected outside: accept",)
        await changed
        healed = await guard.claims()
        assert healed is not None
        assert healed.ruleset == good.ruleset
        assert healed.changes == 1
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping


def test_x02_an_agent_whose_limits_cannot_be_opened_claims_none_and_goes_on(tmp_path: Path) -> None:
    async def claim(config: EgressConfig | None) -> object:
        guard = EgressGuard(config)
        keeping = asyncio.create_task(guard.keep())
        try:
            return await guard.claims()
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping

    missing = EgressConfig(file=tmp_path / "none.yaml", level=Level.NORMAL)
    assert asyncio.run(asyncio.wait_for(claim(missing), _SECONDS)) is None
    assert asyncio.run(asyncio.wait_for(claim(None), _SECONDS)) is None
