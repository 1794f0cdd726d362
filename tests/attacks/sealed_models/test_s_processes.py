"""Attacks by way of the process that has a model open: children that outlive a revocation."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
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


CLOSED = """
import os, sys
from nodeseal.crypto.floe import Decryptor, Encryptor, Parameters
from nodeseal.crypto.secret import wipe

def masked(key):
    return [byte ^ 0x5A for byte in key]

key, parameters = bytearray(32), Parameters(96)
for index in range(32):
    key[index] = os.urandom(1)[0]  # in no object of 32 bytes but one
segment = memoryview(bytearray(96))
encryptor = Encryptor(key, b"", parameters)
encryptor.encrypt_into(0, memoryview(bytes(64)), segment, final=True)
decryptor = Decryptor(key, b"", encryptor.header, parameters)
decryptor.decrypt_into(0, segment, memoryview(bytearray(64)), final=True)
keys = masked(key) + masked(decryptor._state._message_key)
if sys.argv[1] == "closed":
    encryptor.close(), decryptor.close(), wipe(key)
print(*keys, flush=True)
sys.stdin.read()
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


@pytest.mark.parametrize("state", ["open", "closed"])
def test_s10_closing_a_file_leaves_no_copy_of_its_keys_in_memory(state: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CLOSED, state], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        keys = bytes(int(number) ^ 0x5A for number in process.stdout.readline().split())
        memory = b"".join(_writable_memory(process.pid))
        process.communicate(b"", timeout=60)
    found = [memory.count(key) for key in (keys[:32], keys[32:])]
    assert found == [0, 0] if state == "closed" else all(found)


def _writable_memory(pid: int) -> Iterator[bytes]:
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, access = line.split()[:2]
            low, high = (int(part, 16) for part in span.split("-"))
            if access.startswith("rw"):
                memory.seek(low)
                yield memory.read(high - low)
