"""Row e14: a node whose clock is days ahead of the verifier's, so that each certificate looks expired to it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self

import pytest

from nodeseal.agent.config import load_config
from nodeseal.agent.service import Agent
from nodeseal.swtpm.machine import Machine
from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from support.agents import AgentProcess, eventually, running, short_folder
from support.hosts import agents_view
from support.in_process import in_process
from support.machines import a_machine, a_vendor
from support.verifier import RunningVerifier, a_verifier

ATTEMPTS = 8


@pytest.fixture
def verifier(tmp_path: Path) -> Iterator[RunningVerifier]:
    with a_vendor() as vendor, a_verifier(tmp_path, vendor, start=False) as made:
        yield made


@pytest.fixture
def machine(verifier: RunningVerifier) -> Iterator[Machine]:
    with a_machine(verifier.vendor) as made:
        made.boot(sample_boot_log(SampleBoot()))
        yield made


def enrolments(verifier: RunningVerifier) -> int:
    return sum(record["action"] == "node.enrolled" for record in verifier.records())


def in_haste(agent: Agent) -> list[float]:
    """Let an agent try again at once; return a list that grows with its attempts."""
    attempts: list[float] = []

    def no_delay() -> float:
        attempts.append(0.01)
        return attempts[-1]

    agent._backoff.next = no_delay  # type: ignore[method-assign]  # it spreads load, and decides nothing
    return attempts


def play(verifier: RunningVerifier, machine: Machine, expected: str) -> int:
    """Run a node; see what it says of its clock, and return how often it enrolled meanwhile."""

    async def scenario() -> int:
        async with in_process(verifier), short_folder() as folder:
            process = AgentProcess(folder, machine.tcti, agents_view(verifier))
            async with running(load_config(process.config)) as agent:
                attempts = in_haste(agent)
                if expected:
                    await eventually(lambda: len(attempts) >= ATTEMPTS)
                    assert expected in agent._status.problem
                    assert "timedatectl" in agent._status.remedy
                else:
                    await eventually(lambda: agent._status.heard is not None)
                return enrolments(verifier)

    return asyncio.run(scenario())


class DaysAhead(datetime):
    """The clock of a machine that is days ahead."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) + timedelta(days=3)


def test_e14_with_the_right_clock_a_node_enrols_once_and_is_judged(verifier: RunningVerifier, machine: Machine) -> None:
    assert play(verifier, machine, "") == 1


def test_e14_a_clock_days_ahead_is_named_and_enrols_once_a_minute(
    verifier: RunningVerifier, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeseal.agent.service.datetime", DaysAhead)
    assert play(verifier, machine, "this machine's clock is 3 days ahead of the verifier's") == 1


def test_e14_when_its_time_has_come_the_node_enrols_again(
    verifier: RunningVerifier, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeseal.agent.service.datetime", DaysAhead)
    monkeypatch.setattr("nodeseal.agent.service._ENROL_SECONDS", 0.0)
    assert play(verifier, machine, "this machine's clock is 3 days ahead of the verifier's") > 1
