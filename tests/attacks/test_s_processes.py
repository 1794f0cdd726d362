"""Attacks by way of the process that has a model open: children that outlive a revocation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from threading import Event

import pytest

from support.fake_agent import Caller, FakeAgent, agent_script
from support.sealed import Sample, sealed_model

FORK = """
import os, sys
from pathlib import Path
from nodeseal.errors import PolicyRefused
from nodeseal.loader import AgentKeys, open_model, open_tensors

def refused(read):
    try:
        read()
    except PolicyRefused as error:
        return "forked" in str(error)
    return False

with open_model(sys.argv[1], AgentKeys(Path(sys.argv[2]))) as model, open_tensors(model, "model.safetensors") as file:
    view, piece, key = model.as_file("model.safetensors"), file.get_slice("embed"), model._lease._data_key
    view.read(8)
    child = os.fork()
    if child == 0:
        reads = (
            lambda: model.read("config.json"),
            lambda: model.read("model.safetensors"),
            lambda: model.open("model.safetensors"),
            lambda: view.read(8),
            lambda: file.get_tensor("bias"),
            lambda: piece[0],
            file.get_tensors,
        )
        ended = all(map(refused, reads)) and not any(key)
        model.close()
        os._exit(0 if ended else 1)
    assert os.waitpid(child, 0)[1] == 0, "the child reads on"
    file.get_tensor("bias")  # its parent has the model as before
    %s
"""


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return sealed_model(tmp_path_factory.mktemp("processes"))


def start(sample: Sample, socket: Path, then: str) -> subprocess.Popen[bytes]:
    script = [sys.executable, "-c", FORK % then, str(sample.directory), str(socket)]
    return subprocess.Popen(script, stdin=subprocess.PIPE)


def test_s07_a_forked_child_has_neither_the_key_nor_the_lease_and_takes_neither_away(
    sample: Sample, tmp_path: Path
) -> None:
    with (
        FakeAgent(tmp_path / "keys.sock", agent_script(sample, Caller.wait_until_gone)) as agent,
        start(sample, agent.path, "") as parent,
    ):
        assert parent.wait(60) == 0


def test_s07_a_child_does_not_keep_the_lease_of_a_parent_that_is_killed(sample: Sample, tmp_path: Path) -> None:
    gone = Event()

    def after(caller: Caller) -> None:
        caller.wait_until_gone()
        gone.set()

    linger = "os.fork() or (sys.stdin.read(), os._exit(0)); os.kill(os.getpid(), 9)"
    with (
        FakeAgent(tmp_path / "keys.sock", agent_script(sample, after)) as agent,
        start(sample, agent.path, linger) as parent,
    ):
        assert parent.wait(60) == -9
        assert gone.wait(8), "the child, which is there until its input ends, holds the connection"
