"""When lease epochs begin, with a TPM that fails on command."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from nodeseal.agent.release import epoch as epoch_module
from nodeseal.agent.release.epoch import LeaseEpoch
from nodeseal.agent.tpm.owner import TpmOwner
from nodeseal.errors import Unavailable


class Tpm:
    """Counts epochs; it is not there for the first ``fails`` calls.

    Attributes:
        began: how many epochs began.
        holds: clear: calls do not come back.
    """

    def __init__(self, fails: int = 0) -> None:
        self.began = 0
        self.holds = asyncio.Event()
        self.holds.set()
        self._fails = fails

    async def call(self, operation: Callable[[Any], None]) -> None:
        await self.holds.wait()
        if self._fails:
            self._fails -= 1
            raise Unavailable("no TPM")
        operation(self)

    def begin_epoch(self) -> None:
        self.began += 1


@pytest.fixture(autouse=True)
def _no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epoch_module, "_FIRST_DELAY_SECONDS", 0.0)
    monkeypatch.setattr(epoch_module, "_LONGEST_DELAY_SECONDS", 0.0)


def play(scenario: Callable[[LeaseEpoch, Tpm], Awaitable[None]], fails: int = 0, patience: float = 5.0) -> None:
    async def whole() -> None:
        tpm = Tpm(fails)
        epoch = LeaseEpoch(cast("TpmOwner", tpm), patience)
        keeper = asyncio.create_task(epoch.keep())
        try:
            await scenario(epoch, tpm)
        finally:
            keeper.cancel()

    asyncio.run(whole())


def test_an_epoch_begins_when_it_is_asked_for_and_not_before() -> None:
    async def scenario(epoch: LeaseEpoch, tpm: Tpm) -> None:
        for _ in range(3):
            await asyncio.sleep(0)  # so that the keeper waits
        await epoch.ready()
        assert tpm.began == 0
        epoch.begin()
        assert epoch.due
        await epoch.ready()
        assert (tpm.began, epoch.due) == (1, False)

    play(scenario)


def test_a_tpm_that_fails_is_asked_until_it_obeys() -> None:
    async def scenario(epoch: LeaseEpoch, tpm: Tpm) -> None:
        epoch.begin()
        await epoch.ready()
        assert tpm.began == 1

    play(scenario, fails=20)


def test_an_epoch_that_is_asked_for_while_one_begins_begins_after_it() -> None:
    async def scenario(epoch: LeaseEpoch, tpm: Tpm) -> None:
        tpm.holds.clear()
        epoch.begin()
        await asyncio.sleep(0)
        epoch.begin()
        tpm.holds.set()
        await epoch.ready()
        assert tpm.began == 2

    play(scenario)


def test_no_release_goes_on_while_an_epoch_is_due() -> None:
    async def scenario(epoch: LeaseEpoch, tpm: Tpm) -> None:
        tpm.holds.clear()
        epoch.begin()
        with pytest.raises(Unavailable, match="has not begun a new lease epoch"):
            await epoch.ready()

    play(scenario, patience=0.05)


def test_an_agent_that_stops_begins_the_epoch_that_is_due() -> None:
    async def scenario() -> None:
        tpm = Tpm()
        epoch = LeaseEpoch(cast("TpmOwner", tpm), 5.0)
        epoch.begin()
        await epoch.finish()
        await epoch.finish()
        assert (tpm.began, epoch.due) == (1, False)

    asyncio.run(scenario())


def test_an_agent_that_stops_does_not_wait_for_a_tpm_that_is_gone() -> None:
    async def scenario() -> None:
        epoch = LeaseEpoch(cast("TpmOwner", Tpm(fails=1000)), 5.0)
        epoch.begin()
        await epoch.finish()
        assert epoch.due

    asyncio.run(scenario())
