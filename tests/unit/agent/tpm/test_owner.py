"""The owner's rules for repeating and giving up, with a device that fails on command."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from nodeseal.agent.tpm import owner as owner_module
from nodeseal.agent.tpm.device import Device
from nodeseal.agent.tpm.failures import TpmBusy, TpmFailed, TpmLost
from nodeseal.agent.tpm.owner import TpmOwner
from nodeseal.errors import Unavailable


class Opened:
    """Stands for a device; counts how many were opened and closed."""

    opened = 0
    closed = 0

    def __init__(self, _connection: object, _unique: bytes) -> None:
        Opened.opened += 1

    def close(self) -> None:
        Opened.closed += 1


@pytest.fixture(autouse=True)
def _no_tpm(monkeypatch: pytest.MonkeyPatch) -> None:
    Opened.opened = Opened.closed = 0
    monkeypatch.setattr(owner_module, "Device", Opened)
    monkeypatch.setattr(owner_module, "Connection", lambda tcti, _password: tcti)
    monkeypatch.setattr(owner_module, "_FIRST_DELAY_SECONDS", 0.0)


def failing(times: int, error: TpmFailed) -> tuple[list[int], Callable[[Device], str]]:
    calls: list[int] = []

    def operation(_device: Device) -> str:
        calls.append(1)
        if len(calls) <= times:
            raise error
        return "done"

    return calls, operation


def run(operation: Callable[[Device], str], timeout: float = 5.0) -> str:
    async def scenario() -> str:
        owner = TpmOwner("device:/nowhere", b"", timeout)
        try:
            return await owner.call(operation)
        finally:
            owner.close()

    return asyncio.run(scenario())


def test_a_busy_tpm_is_asked_again_on_the_same_connection() -> None:
    calls, operation = failing(3, TpmBusy("busy", 0x922))
    assert run(operation) == "done"
    assert (len(calls), Opened.opened) == (4, 1)


def test_a_lost_connection_is_opened_again() -> None:
    _, operation = failing(2, TpmLost("lost", 0xA))
    assert run(operation) == "done"
    assert Opened.opened == 3


def test_what_keeps_failing_is_raised_after_a_bounded_number_of_attempts() -> None:
    calls, operation = failing(99, TpmBusy("busy", 0x922))
    with pytest.raises(TpmBusy):
        run(operation)
    assert len(calls) == 5


def test_a_refusal_is_not_repeated() -> None:
    calls, operation = failing(99, TpmFailed("lockout", 0x921))
    with pytest.raises(TpmFailed):
        run(operation)
    assert len(calls) == 1


def test_a_tpm_that_hangs_does_not_hang_its_caller() -> None:
    with pytest.raises(Unavailable, match="did not answer"):
        run(_hang, timeout=0.05)


def _hang(_device: Device) -> str:
    time.sleep(0.3)
    return "late"


def test_a_cancelled_caller_stays_cancelled_when_the_tpm_answers_in_the_same_moment() -> None:
    async def scenario() -> None:
        owner = TpmOwner("device:/nowhere", b"", 5.0)
        task = asyncio.create_task(owner.call(lambda _device: "done"))
        await asyncio.sleep(0)
        time.sleep(0.05)  # noqa: ASYNC251  # the answer waits for the loop while the caller is cancelled
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        owner.close()

    asyncio.run(scenario())
