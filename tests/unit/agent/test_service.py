"""How the agent as a whole takes what ends a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Never

import pytest

from nodeseal.agent.config import load_config
from nodeseal.agent.service import Agent
from nodeseal.checks.faults import Fault
from nodeseal.errors import NodesealError, NotFound, ProofFailed, Unavailable
from nodeseal.findings import Finding, FindingId
from support.failing_logs import let_logs_fail

CONFIG = """\
verifier: {address: "localhost:1", enrol_address: "localhost:2", ca_file: ca.pem}
tcti: "device:/nonexistent"
state_directory: state
socket: s
callers: []
"""


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    (tmp_path / "agent.yaml").write_text(CONFIG)
    made = Agent(load_config(tmp_path / "agent.yaml"))
    yield made
    asyncio.run(made.close())


def lose(agent: Agent, error: NodesealError, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the agent's connection end with an error, while its logs fail."""

    async def connection() -> Never:
        raise error

    monkeypatch.setattr(agent, "_connection", connection)
    let_logs_fail()
    with suppress(BrokenPipeError):
        asyncio.run(agent._belong())


def test_a_node_that_the_verifier_does_not_know_forgets_its_identity_before_a_word_is_said_of_it(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = tmp_path / "state" / "identity.json"
    identity.touch()
    lose(agent, NotFound("no such node"), monkeypatch)
    assert not identity.exists()


def test_a_node_that_the_verifier_calls_retired_shows_as_retired_with_the_reason(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = agent._status.since
    lose(agent, ProofFailed(Finding(id=FindingId.NODE_RETIRED, expected="a node", seen="x")), monkeypatch)
    assert (agent._status.state, agent._status.heard) == ("retired", None)
    assert "node.retired" in agent._status.problem
    assert agent._status.since > before


def test_a_lost_connection_shows_in_the_status_before_a_word_is_said_of_it(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(agent, Unavailable("gone"), monkeypatch)
    assert agent._status.state == "disconnected"


def test_whoever_answers_in_the_verifiers_place_ends_no_agent(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one that never enrolled: its unit would not be started again, and a whole fleet may boot at once."""
    unknown = Fault(what="another authority", remedy="take its ca.pem")
    monkeypatch.setattr("nodeseal.agent.diagnosis.find_faults", lambda _: (unknown,))
    asyncio.run(agent._disconnected(Unavailable("failed to connect")))
    assert (agent._status.problem, agent._status.remedy) == ("another authority", "take its ca.pem")


def test_the_verifier_is_looked_at_once_a_minute_at_most(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[object] = []

    def look(checks: object) -> tuple[Fault, ...]:
        looks.append(checks)
        return ()

    monkeypatch.setattr("nodeseal.agent.diagnosis.find_faults", look)
    for _ in range(5):
        asyncio.run(agent._disconnected(Unavailable("failed to connect")))
    assert len(looks) == 1
