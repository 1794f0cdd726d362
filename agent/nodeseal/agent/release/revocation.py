"""Consequences of leases that end by force: the cap PCR is extended and the configured programs run."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from nodeseal.agent.tpm.owner import TpmOwner
from nodeseal.errors import NodesealError

_log = structlog.get_logger("nodeseal.agent.revocation")


class Revoker:
    """Carries out each event in a task of its own, so that attestation does not wait for it.

    Args:
        tpm: the TPM.
        cap_pcr: the PCR to extend.
        commands: programs with their arguments; no shell reads them.
        timeout_seconds: how long each may run before it is killed.
    """

    def __init__(
        self, tpm: TpmOwner, cap_pcr: int, commands: tuple[tuple[str, ...], ...], timeout_seconds: float
    ) -> None:
        self._tpm: Final = tpm
        self._cap_pcr: Final = cap_pcr
        self._commands: Final = commands
        self._timeout: Final = timeout_seconds
        self._tasks: Final[set[asyncio.Task[None]]] = set()

    def begin(self, reason: str) -> None:
        """Begin to extend the cap PCR and to run the programs; ``reason`` is for the log."""
        _log.warning("revocation begins", reason=reason, cap_pcr=self._cap_pcr)
        for work in (self._cap(), *map(self._run, self._commands)):
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def finished(self) -> None:
        """Wait until every event that began has been carried out."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _cap(self) -> None:
        try:
            await self._tpm.call(lambda device: device.extend_cap(self._cap_pcr))
        except NodesealError as error:
            _log.error("cap PCR not extended", error=str(error))  # the message says it all
        else:
            _log.warning("cap PCR extended", pcr=self._cap_pcr)

    async def _run(self, command: tuple[str, ...]) -> None:
        try:
            process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
        except OSError as error:
            _log.error("stop action not started", program=command[0], error=error.strerror)  # as above
            return
        try:
            async with asyncio.timeout(self._timeout):
                status = await process.wait()
            _log.warning("stop action ended", program=command[0], status=status)
        except TimeoutError:
            process.kill()
            await process.wait()
            _log.error("stop action killed", program=command[0], timeout_seconds=self._timeout)  # as above
