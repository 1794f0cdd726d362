"""Real machines end to end, as people run them: boot log, TPM, agent and verifier as processes, and the command.

Each machine's golden is captured from its evidence, activated, and trusts it; then the node boots as another machine,
and what the command shows of it names the event in which the two differ.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from nodeseal.swtpm.machine import Machine
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log import EventLog
from nodeseal.uefi.event_log_types import EventType
from nodeseal.v1 import admin_pb2, attestation_pb2
from nodeseal.verifier.states import PEOPLE
from support.agents import AgentProcess
from support.hosts import a_newcomer, a_site
from support.real_machines import is_whole, real_boot_logs
from support.terminal import Terminal
from support.verifier import RunningVerifier

TRUSTED = attestation_pb2.NODE_STATE_TRUSTED

MACHINES = 3
PATIENCE_SECONDS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A node, and a person at a terminal."""

    verifier: RunningVerifier
    machine: Machine
    agent: AgentProcess
    terminal: Terminal

    def boot(self, raw: bytes) -> None:
        """Boot the node as the machine whose log this is."""
        self.agent.kill()
        self.machine.boot(raw)
        (self.agent.folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
        self.agent.start()

    def wait(self, condition: Callable[[admin_pb2.Node], bool]) -> str:
        """Wait until the verifier has judged this boot, and says what is asked for; return the node's id."""
        return asyncio.run(self._wait(condition))

    async def _wait(self, condition: Callable[[admin_pb2.Node], bool]) -> str:
        end = time.monotonic() + PATIENCE_SECONDS
        async with self.verifier.person() as admin:
            while time.monotonic() < end:
                if node_id := self.agent.node_id:
                    found = await admin.nodes.GetNode(admin_pb2.GetNodeRequest(node_id=node_id))
                    if found.boot_id == self.boot_id() and condition(found):
                        return node_id
                await asyncio.sleep(0.1)
        raise AssertionError(self.agent.log)

    def boot_id(self) -> str:
        return (self.agent.folder / "boot_id").read_text().strip()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with a_site(trust_seconds=60) as site, a_newcomer(site) as (machine, agent):
        client = site.verifier.add_person("alice", *PEOPLE)
        terminal = Terminal(client, tmp_path_factory.mktemp("person"), columns=400)
        yield Stage(verifier=site.verifier, machine=machine, agent=agent, terminal=terminal)


def chosen() -> list[tuple[str, bytes, EventLog]]:
    """Return machines from all over the folder that boot different images."""
    whole = [(name, raw, log) for name, raw, log in real_boot_logs() if log is not None and is_whole(log)]
    return whole[:: len(whole) // MACHINES][:MACHINES]


def first_difference(ours: EventLog, theirs: EventLog) -> tuple[int, int]:
    """Return PCR and number of the first event of the lowest PCR in which a boot differs from another."""
    for pcr in range(16):
        for (number, digest), (_, expected) in zip(extended(ours, pcr), extended(theirs, pcr), strict=False):
            if digest != expected:
                return pcr, number
    raise AssertionError("they boot the same")


def extended(log: EventLog, pcr: int) -> list[tuple[int, bytes]]:
    return [
        (number, event.digests[HashAlg.SHA256])
        for number, event in log.numbered()
        if event.pcr == pcr and event.claimed_type != EventType.NO_ACTION
    ]


@pytest.mark.timeout(300)
def test_real_machines_are_trusted_under_their_own_goldens_and_refused_under_others_with_the_event(
    stage: Stage,
) -> None:
    digests: dict[str, str] = {}
    for name, raw, _ in chosen():
        stage.boot(raw)
        node = stage.wait(lambda found: bool(found.findings))
        stage.terminal.type("node", "evidence", node, "-o", name)
        stage.terminal.type("golden", "capture", name, "--name", name, "-o", f"{name}.yaml")
        digests[name] = stage.terminal.json("golden", "activate", f"{name}.yaml")["digest"]
        if len(digests) == 1:
            stage.terminal.type("node", "admit", node)
        due = digests[name]
        stage.wait(lambda found: found.state == TRUSTED and list(found.goldens) == [due])  # noqa: B023 - called at once
        stage.terminal.type("golden", "retire", due)
    (_, raw, ours), *others = chosen()
    stage.boot(raw)
    for name, _, theirs in others:
        stage.terminal.type("golden", "activate", f"{name}.yaml")
        judge = f"golden {name}"
        node = stage.wait(lambda found: any(judge in each.where for each in found.findings))  # noqa: B023 - called at once
        pcr, number = first_difference(ours, theirs)
        shown = stage.terminal.type("node", "show", node).stdout
        _, _, finding = shown.partition(f"sha256 PCR {pcr}, golden {name}")
        assert "untrusted" in shown
        assert f"event {number} (" in finding.partition("  do ")[0], shown
        stage.terminal.type("golden", "retire", digests[name])
