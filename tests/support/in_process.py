"""A verifier in this process, with clocks that a test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from nodeseal.verifier.clock import SYSTEM, Clock
from nodeseal.verifier.config import load_config
from nodeseal.verifier.wiring import running
from support.verifier import RunningVerifier

# A verifier in this process, with clocks that a test moves


@dataclass
class MovableClocks:
    """The system's clocks, and how far ahead of them the verifier's are.

    Attributes:
        wall_ahead: of the time of day.
        steady_ahead: of the steady clock, in seconds.
    """

    wall_ahead: timedelta = timedelta()
    steady_ahead: float = 0.0

    def _wall(self) -> datetime:
        return SYSTEM.wall() + self.wall_ahead

    def _steady(self) -> float:
        return SYSTEM.steady() + self.steady_ahead

    def clock(self) -> Clock:
        """Return the verifier's clock."""
        return Clock(wall=self._wall, steady=self._steady)


@asynccontextmanager
async def in_process(verifier: RunningVerifier, clocks: MovableClocks | None = None) -> AsyncIterator[None]:
    """Serve a verifier that was set up and not started, on real ports of this process."""
    clock = SYSTEM if clocks is None else clocks.clock()
    async with running(load_config(verifier.folder / "verifier.yaml"), clock) as addresses:
        verifier.listen, verifier.listen_enrol = addresses.listen, addresses.listen_enrol
        yield
