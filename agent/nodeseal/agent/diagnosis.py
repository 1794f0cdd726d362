"""Why the verifier cannot be reached, in words that a person can act on; and whose clock is wrong.

gRPC reports an unknown authority, a wrong name and an expired certificate alike. So after a failure without a reason
the agent connects once by itself, at most once a minute, and looks where it fails. Whatever that shows, the agent goes
on trying: what a peer says may be said by anybody who answers in the verifier's place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

from nodeseal.agent.checks import reach_checks
from nodeseal.agent.config import AgentConfig
from nodeseal.agent.identity import Identity
from nodeseal.checks.certificates import CLOCK, CLOCK_TOLERANCE, spell
from nodeseal.checks.faults import Fault, find_faults
from nodeseal.crypto.authority import BACK_DATED
from nodeseal.errors import NodesealError, Unavailable

_EVERY_SECONDS: Final = 60.0


class Diagnosis:
    """Explains failures to connect.

    Args:
        config: whose verifier.
        clock: steady seconds.
    """

    def __init__(self, config: AgentConfig, clock: Callable[[], float]) -> None:
        self._config: Final = config
        self._clock: Final = clock
        self._due = clock()

    async def explain(self, error: NodesealError) -> Fault | None:
        """Return what keeps the node from its verifier; None if the error says it, or somebody looked lately."""
        if type(error) is not Unavailable or self._clock() < self._due:
            return None
        self._due = self._clock() + _EVERY_SECONDS
        faults = await asyncio.to_thread(find_faults, reach_checks(self._config))
        return faults[0] if faults else None


def clock_fault(identity: Identity, now: datetime) -> Unavailable | None:
    """Compare this machine's clock with a certificate that the verifier made a moment ago.

    Returns:
        An error that names both clocks, or None: they agree as far as it matters.
    """
    there = identity.peer.not_before + BACK_DATED
    if identity.peer.not_before - CLOCK_TOLERANCE <= now < identity.peer.not_after:
        return None
    side = "ahead of" if now > there else "behind"
    what = f"this machine's clock is {abs(now - there).days} days {side} the verifier's"
    said = f"here it is {spell(now)}, there {spell(there)}"
    return Unavailable(f"{what}: {said}", remedy=f"{CLOCK}; the node enrols again within a minute")
