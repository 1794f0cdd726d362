"""The lease epoch: the value of PCR 23, to which every release key is bound (DESIGN §7).

A new epoch makes the TPM refuse all release keys of the one before, copied contexts too. It begins when the agent
starts, and when leases have ended by force and none is left. No release is asked for until then, and the TPM is asked
until it obeys.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from nodeseal.agent.backoff import Backoff
from nodeseal.agent.tpm.owner import TpmOwner
from nodeseal.errors import NodesealError, Unavailable

_FIRST_DELAY_SECONDS: Final = 0.5
_LONGEST_DELAY_SECONDS: Final = 10.0
_log = structlog.get_logger("nodeseal.agent.epoch")


class LeaseEpoch:
    """Begins new epochs. Use it from one event loop.

    Args:
        tpm: the TPM.
        patience_seconds: how long a release waits for an epoch that is due.
    """

    def __init__(self, tpm: TpmOwner, patience_seconds: float) -> None:
        self._tpm: Final = tpm
        self._patience: Final = patience_seconds
        self._backoff: Final = Backoff(_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS)
        self._wanted = 0
        self._begun = 0
        self._changed: Final = asyncio.Condition()
        self._wake: Final = asyncio.Event()

    @property
    def due(self) -> bool:
        """Whether a new epoch has yet to begin."""
        return self._begun < self._wanted

    def begin(self) -> None:
        """Ask for a new epoch, which begins soon."""
        self._wanted += 1
        self._wake.set()

    async def ready(self) -> None:
        """Wait until no epoch is due.

        Raises:
            Unavailable: the TPM has not begun it in time.
        """
        try:
            async with asyncio.timeout(self._patience), self._changed:
                await self._changed.wait_for(lambda: not self.due)
        except TimeoutError as error:
            remedy = "see the agent's log; check that the TPM is present"
            raise Unavailable("the TPM has not begun a new lease epoch yet", remedy=remedy) from error

    async def keep(self) -> None:
        """Begin the epochs that are due; runs until cancelled."""
        while True:
            self._wake.clear()
            if self.due and not await self._attempt():
                await asyncio.sleep(self._backoff.next())
            elif not self.due:
                await self._wake.wait()

    async def finish(self) -> None:
        """Try once more to begin an epoch that is still due, because the agent stops."""
        if self.due:
            await self._attempt()

    async def _attempt(self) -> bool:
        wanted = self._wanted
        try:
            await self._tpm.call(lambda device: device.begin_epoch())
        except NodesealError as error:
            _log.error("new lease epoch not begun", error=str(error))  # the message says it all
            return False
        self._backoff.reset()
        async with self._changed:
            self._begun = wanted
            self._changed.notify_all()
        _log.info("new lease epoch")
        return True
