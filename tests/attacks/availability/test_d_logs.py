"""Logs that nobody reads, that have no room, or whose reader has gone: decisions take effect all the same.

Each case breaks the log of a process before its start or while it serves, and then takes trust away. Silence is no sign
of life, so each process must also go on serving, and end in time with its own exit status.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import Event

import pytest

from nodeseal.v1 import admin_pb2
from nodeseal.v1.attestation_pb2 import NODE_STATE_QUARANTINED, NODE_STATE_TRUSTED
from nodeseal.wire.varlink import Reply
from support.admin import Enrolled
from support.agents import eventually, heard, loader, trusted
from support.fake_agent import Caller, FakeAgent, agent_script
from support.hosts import REFUSED, Host, Site, a_host, a_site
from support.outputs import OUTPUTS, Output
from support.releases import Scene, Stage, a_stage, play
from support.sealed import sealed_model
from support.verifier import Stubs

Make = Callable[[], AbstractContextManager[Output]]
CASES = [
    pytest.param(make, early, id=f"{name}, {'from the start' if early else 'while it serves'}")
    for name, make in OUTPUTS.items()
    for early in (True, False)
    if early or name != "the disk is full"
]
PATIENCE = 60.0


@contextmanager
def broken(make: Make, *, early: bool) -> Iterator[Output]:
    """Make an output; one that fails early fails now."""
    with make() as output:
        if early:
            output.fail()
        yield output


async def quarantine(admin: Stubs, node: Enrolled) -> None:
    """Take a node's trust, and see that it is gone for people."""
    request = admin_pb2.QuarantineNodeRequest(node_id=node.node_id, reason="a camera saw somebody")
    assert (await admin.nodes.QuarantineNode(request, timeout=PATIENCE)).state == NODE_STATE_QUARANTINED


# The verifier's log


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with a_stage(tmp_path_factory.mktemp("verifier")) as made:
        yield made


@pytest.mark.parametrize(("make", "early"), CASES)
def test_d11_a_quarantine_holds_at_once_whatever_has_become_of_the_verifiers_log(
    stage: Stage, make: Make, *, early: bool
) -> None:
    async def case(scene: Scene) -> None:
        released = await scene.node.release(scene.model.digest, [scene.model.slot])
        output.fail()
        async with asyncio.timeout(PATIENCE), scene.node.attesting() as stream, stage.node.attesting() as others:
            await stream.challenge()
            await quarantine(scene.admin, scene.node)
            assert list((await stream.revocation()).lease_ids) == [released.lease_id]
            assert stage.verifier.actions(f"lease/{released.lease_id}") == ["lease.issued", "lease.ended"]
            assert (await scene.refused()).findings == ("release.node-state",)
            assert (await others.round()).state == NODE_STATE_TRUSTED

    assert stage.verifier.stop() == 0
    with broken(make, early=early) as output:
        stage.verifier.start_silent(output.descriptor)
        play(stage, case)
        assert stage.verifier.stop() == 0
    stage.verifier.start()


# The agent's log


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with a_site(interval_seconds=1) as made:
        yield made


@pytest.mark.parametrize(("make", "early"), CASES)
def test_d11_a_quarantine_ends_leases_on_the_node_whatever_has_become_of_the_agents_log(
    site: Site, make: Make, *, early: bool
) -> None:
    async def case(host: Host, output: Output) -> None:
        async with asyncio.timeout(PATIENCE), site.verifier.person() as admin:
            await trusted(host.agent)
            async with host.opened() as client:
                output.fail()
                await quarantine(admin, host.agent)
                assert "quarantined" in await client.revoked()
            await eventually(lambda: bool(host.actions))
            await heard(host.agent, lambda status: status["state"] == "quarantined")
            async with loader(host.agent) as client:
                assert (await host.ask(client)).error == REFUSED

    with a_host(site) as host, broken(make, early=early) as output:
        assert host.agent.stop() == 0
        host.agent.start_silent(output.descriptor)
        asyncio.run(case(host, output))
        assert host.agent.stop() == 0


# The loader has no log; it is told what to call, which may write

LOADER = """
import os, sys, time
from pathlib import Path
from nodeseal.errors import PolicyRefused
from nodeseal.loader import AgentKeys, open_model

model = open_model(sys.argv[1], AgentKeys(Path(sys.argv[2])), on_revoked=lambda why: print(why, flush=True))
key = model._lease._data_key
Path(sys.argv[3]).touch()
while any(key):
    time.sleep(0.01)
try:
    model.read("config.json")
except PolicyRefused:
    os._exit(0)
os._exit(1)
"""


@pytest.mark.parametrize("make", OUTPUTS.values(), ids=OUTPUTS)
def test_d11_a_revocation_reaches_a_loader_whose_program_cannot_write(tmp_path: Path, make: Make) -> None:
    sample, opened, gone = sealed_model(tmp_path), tmp_path / "opened", Event()

    def after(caller: Caller) -> None:
        asyncio.run(eventually(opened.exists))
        caller.reply(Reply(parameters={"revoked": "node is untrusted"}))
        caller.wait_until_gone()
        gone.set()

    with FakeAgent(tmp_path / "keys.sock", agent_script(sample, after)) as agent, broken(make, early=True) as output:
        program = [sys.executable, "-c", LOADER, str(sample.directory), str(agent.path), str(opened)]
        with subprocess.Popen(program, stdout=output.descriptor, stderr=output.descriptor) as process:
            try:
                assert process.wait(PATIENCE) == 0
            finally:
                process.kill()
        assert gone.wait(PATIENCE)
