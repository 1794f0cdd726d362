"""Consequences of leases that end by force: a new lease epoch begins and the configured programs run."""

from __future__ import annotations

import asyncio
import os
from typing import Final

import structlog

from nodeseal.agent.release.epoch import LeaseEpoch
from nodeseal.agent.release.leases import ForcedEnd
from nodeseal.inert import inert

CAUSE_VARIABLE: Final = "NODESEAL_CAUSE"
REASON_VARIABLE: Final = "NODESEAL_REASON"
_MAX_REASON: Final = 1000
"""Characters of a reason that programs get."""
_NOWHERE: Final = asyncio.subprocess.DEVNULL
"""A program that writes must not die of the agent's own output, which may be a pipe that nobody reads."""
_log = structlog.get_logger("nodeseal.agent.revocation")


class Revoker:
    """Carries out each event in tasks of its own, so that attestation does not wait for it.

    Args:
        epoch: the lease epoch.
        commands: programs with their arguments; no shell reads them. Two variables of their environment name cause and
            reason.
        timeout_seconds: how long each may run before it is killed.
    """

    def __init__(self, epoch: LeaseEpoch, commands: tuple[tuple[str, ...], ...], timeout_seconds: float) -> None:
        self._epoch: Final = epoch
        self._commands: Final = commands
        self._timeout: Final = timeout_seconds
        self._tasks: Final[set[asyncio.Task[None]]] = set()

    def begin(self, end: ForcedEnd) -> None:
        """Begin a new epoch if it is due with this end, and run the programs if leases ended."""
        if end.ends_epoch:
            self._epoch.begin()
        if end.lease_ids:
            environment = _environment(end)
            for command in self._commands:
                task = asyncio.create_task(self._run(command, environment))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def finished(self) -> None:
        """Wait until every event that began has been carried out."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self, command: tuple[str, ...], environment: dict[str, str]) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=_NOWHERE, stdout=_NOWHERE, stderr=_NOWHERE, env=environment
            )
        except OSError as error:
            _log.error("stop action not started", program=command[0], error=error.strerror)  # the line says it all
            return
        try:
            async with asyncio.timeout(self._timeout):
                status = await process.wait()
            _log.warning("stop action ended", program=command[0], status=status)
        except TimeoutError:
            process.kill()
            await process.wait()
            _log.error("stop action killed", program=command[0], timeout_seconds=self._timeout)  # as above


def _environment(end: ForcedEnd) -> dict[str, str]:
    """Return the agent's environment with cause and reason; what a peer wrote is inert in it."""
    return {**os.environ, CAUSE_VARIABLE: end.cause.value, REASON_VARIABLE: inert(end.reason)[:_MAX_REASON]}
