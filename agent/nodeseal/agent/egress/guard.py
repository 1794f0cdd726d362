"""Keeps the egress limits of a running agent: opens and installs them, claims them, hears of changes, puts them right.

A change is claimed as it is before it is put right: whoever hears of it learns what was wrong. Where limits cannot be
opened, the agent runs without, claims none, and tries again; a golden that demands limits then refuses the node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

import structlog

from nodeseal.agent.egress.limits import EgressConfig, EgressLimits
from nodeseal.egress.claims import EgressClaims
from nodeseal.errors import NodesealError

_AGAIN_SECONDS: Final = 30.0
_TOGETHER_SECONDS: Final = 0.2
"""Changes that come so fast after each other are looked at together."""
_BETWEEN_SECONDS: Final = 1.0
"""On a machine whose tables change all the time, each look costs tens of milliseconds."""
_T = TypeVar("_T")
_log = structlog.get_logger("nodeseal.agent.egress")


class EgressGuard:
    """Egress limits beside an event loop.

    Args:
        config: the settings; None: this node has no limits.
    """

    def __init__(self, config: EgressConfig | None) -> None:
        self._config: Final = config
        self._limits: EgressLimits | None = None
        self._turn: Final = asyncio.Lock()
        self._reported: Final = asyncio.Event()
        self._changed: Final = asyncio.Event()
        self._told = False
        self._tried: Final = asyncio.Event()
        if config is None:
            self._tried.set()

    async def claims(self) -> EgressClaims | None:
        """Return what to claim; None: no limits."""
        await self._tried.wait()
        limits = self._limits
        if limits is None:
            return None
        try:
            claims = await self._in_turn(limits.claims)
        except NodesealError as error:
            _log.warning("egress limits cannot be read", error=str(error), remedy=error.remedy)
            return None
        if limits.is_wrong:
            self._told = True
            self._reported.set()
        return claims

    async def changed(self) -> None:
        """Wait until something changed that the verifier should hear of at once."""
        self._changed.clear()  # whoever waits has just begun a round
        await self._changed.wait()

    async def keep(self) -> None:
        """Open, install and watch the limits until cancelled; the table stays in the kernel after that."""
        if self._config is None:
            return
        while True:
            try:
                await self._open(self._config)
                self._tried.set()
                await self._watch()
            except NodesealError as error:
                _log.warning("no egress limits", error=str(error), remedy=error.remedy)
            finally:
                self._tried.set()
                await self._close()
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _open(self, config: EgressConfig) -> None:
        limits = await self._in_turn(lambda: EgressLimits(config))
        self._limits = limits
        for netlink in (limits.watch.tables, limits.watch.routing):
            asyncio.get_running_loop().add_reader(netlink.socket, self._reported.set)
        await self._in_turn(limits.install)
        self._changed.set()

    async def _watch(self) -> None:
        while (limits := self._limits) is not None:
            await self._reported.wait()
            await asyncio.sleep(_TOGETHER_SECONDS)
            self._reported.clear()
            if await self._in_turn(limits.notice):
                self._changed.set()
            if self._told:
                self._told = False
                if await self._in_turn(limits.install):
                    self._changed.set()
            await asyncio.sleep(_BETWEEN_SECONDS - _TOGETHER_SECONDS)

    async def _close(self) -> None:
        limits, self._limits = self._limits, None
        if limits is None:
            return
        for netlink in (limits.watch.tables, limits.watch.routing):
            asyncio.get_running_loop().remove_reader(netlink.socket)
        with suppress(asyncio.CancelledError):
            await self._in_turn(limits.close)

    async def _in_turn(self, work: Callable[[], _T]) -> _T:
        """Run ``work`` in a thread, one at a time; a cancelled caller waits for it, since it holds the connections."""
        async with self._turn:
            running = asyncio.ensure_future(asyncio.to_thread(work))
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                await asyncio.wait([running])
                raise
