"""The only owner of the TPM: one worker thread that blocks, so that nothing else does.

A command that the TPM asks to repeat is repeated; a connection that broke, or a TPM that was reset, is opened and
set up again. Both are bounded: what still fails is raised.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import structlog

from nodeseal.agent.tpm.connection import Connection
from nodeseal.agent.tpm.device import Device
from nodeseal.agent.tpm.failures import TpmBusy, TpmLost
from nodeseal.errors import Unavailable

_T = TypeVar("_T")
_ATTEMPTS: Final = 5
_FIRST_DELAY_SECONDS: Final = 0.05
_log = structlog.get_logger("nodeseal.agent.tpm")


class TpmOwner:
    """Runs operations on the TPM, one after the other.

    Args:
        tcti: the TPM, as tpm2-tools write it: ``device:/dev/tpmrm0``, ``swtpm:path=/run/tpm.sock``.
        ak_unique: random bytes that make the attestation key; see :class:`~nodeseal.agent.tpm.device.Device`.
        timeout_seconds: how long a caller waits for its turn and its answer.
        endorsement_password: of the endorsement hierarchy; empty: it has none.
    """

    def __init__(self, tcti: str, ak_unique: bytes, timeout_seconds: float, endorsement_password: bytes = b"") -> None:
        self._tcti: Final = tcti
        self._ak_unique: Final = ak_unique
        self._timeout: Final = timeout_seconds
        self._endorsement_password: Final = endorsement_password
        self._worker: Final = ThreadPoolExecutor(1, "tpm")
        self._device: Device | None = None

    async def call(self, operation: Callable[[Device], _T]) -> _T:
        """Run ``operation`` in the worker thread. It may run more than once if the TPM fails in between.

        Raises:
            Unavailable: the TPM cannot be reached, or did not answer in time.
            TpmFailed: the TPM refused.
        """
        running = asyncio.get_running_loop().run_in_executor(self._worker, self._run, operation)
        try:
            async with asyncio.timeout(self._timeout):  # before Python 3.12 wait_for may swallow a cancellation
                return await running
        except TimeoutError as error:
            raise Unavailable(f"the TPM did not answer within {self._timeout} s") from error

    def close(self) -> None:
        """Let the running operation end, forget the others and close the connection."""
        self._worker.submit(self._drop)
        self._worker.shutdown(wait=False, cancel_futures=False)

    def _run(self, operation: Callable[[Device], _T]) -> _T:
        for attempt in range(_ATTEMPTS):
            try:
                return operation(self._opened())
            except (TpmBusy, TpmLost) as error:
                if isinstance(error, TpmLost):
                    self._drop()
                if attempt == _ATTEMPTS - 1:
                    raise
                _log.warning("TPM command repeated", error=str(error), attempt=attempt + 1)
            time.sleep(_FIRST_DELAY_SECONDS * 2**attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _opened(self) -> Device:
        if self._device is None:
            self._device = Device(Connection(self._tcti, self._endorsement_password), self._ak_unique)
        return self._device

    def _drop(self) -> None:
        device, self._device = self._device, None
        if device is not None:
            device.close()
