"""``python -m support.egress_agent FILE``: a real agent with egress limits and a scripted verifier, in one namespace.

The verifier asks for a round only when a stream begins, so every further round is one that the agent wanted. Prints,
line by line, how the table differed in each round.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from nodeseal.agent.egress.limits import EgressConfig
from nodeseal.egress.claims import EgressClaims
from nodeseal.egress.document import Level
from nodeseal.evidence.claims import decode_claims
from support.agents import World, a_world, eventually, running
from support.machines import a_machine, a_vendor
from support.namespaces import run

_HOUR = 3600


def main(file: Path) -> None:
    """Run the agent, change its table, and print what it claims until it is right again."""
    run("ip", "link", "set", "lo", "up")
    with a_vendor() as vendor, a_machine(vendor) as machine:

        async def whole() -> None:
            async with a_world(machine) as here:
                here.verifier.interval = _HOUR
                await _scenario(here, file)

        asyncio.run(whole())


async def _scenario(here: World, file: Path) -> None:
    config = replace(here.config, egress=EgressConfig(file=file, level=Level.NORMAL))
    async with running(config):
        await eventually(lambda: _claimed(here) and not _claimed(here)[-1].differs)
        await asyncio.to_thread(run, "nft", "insert", "rule", "netdev", "nodeseal", "outside", "accept")
        await eventually(lambda: _claimed(here)[-1].changes and not _claimed(here)[-1].differs)
    for claims in _claimed(here):
        print("round: " + "; ".join((str(claims.changes), *claims.differs)))  # noqa: T201 - what the test reads


def _claimed(here: World) -> list[EgressClaims]:
    decoded = [decode_claims(evidence.claims).egress for evidence in here.verifier.seen if evidence.claims]
    return [claims for claims in decoded if claims is not None]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
