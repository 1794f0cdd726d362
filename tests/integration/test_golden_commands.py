"""``nodeseal golden capture``, ``explain`` and ``check`` with connected nodes and a running verifier."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from nodeseal.golden.document import parse_golden
from nodeseal.swtpm.sample_log import SampleBoot
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.v1 import admin_pb2, attestation_pb2
from nodeseal.verifier.states import PEOPLE
from support.answering import answering
from support.logged import LoggedNode, admitted_logged_node
from support.terminal import Terminal
from support.verifier import RunningVerifier, a_verifier

SHA256 = HashAlg.SHA256
OTHER_BOOT = "3f0c7c9e-0000-4000-8000-000000000002"
OTHER_KERNEL = SampleBoot(kernel=b"another kernel")


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningVerifier]:
    with a_verifier(tmp_path_factory.mktemp("goldens"), interval_seconds=1, trust_seconds=100) as running:
        yield running


@pytest.fixture(scope="module")
def client(verifier: RunningVerifier) -> Path:
    return verifier.add_person("alice", *PEOPLE)


@pytest.fixture
def terminal(client: Path, tmp_path: Path) -> Iterator[Terminal]:
    """A person's terminal; every golden is retired afterwards."""
    typing = Terminal(client, tmp_path)
    yield typing
    for golden in typing.json("golden", "list"):
        typing.type("golden", "retire", golden["digest"])


async def nodes_of(verifier: RunningVerifier, folder: Path, count: int) -> list[LoggedNode]:
    return [await admitted_logged_node(verifier, folder) for _ in range(count)]


async def typed(terminal: Terminal, *argv: str, exit_code: int = 0) -> str:
    """Type a command while nodes answer; return what it prints."""
    return (await asyncio.to_thread(terminal.type, *argv, exit_code=exit_code)).stdout


async def asked(terminal: Terminal, *argv: str, exit_code: int = 0) -> Any:
    return await asyncio.to_thread(terminal.json, *argv, exit_code=exit_code)


async def reaches(verifier: RunningVerifier, node: LoggedNode, state: attestation_pb2.NodeState.ValueType) -> None:
    """Wait until the verifier thinks so of a node."""
    async with verifier.person() as admin:
        for _ in range(200):
            found = await admin.nodes.GetNode(admin_pb2.GetNodeRequest(node_id=node.node_id))
            if found.state == state:
                return
            await asyncio.sleep(0.05)
    pytest.fail(f"{attestation_pb2.NodeState.Name(found.state)}: {found.findings}")


def test_nodes_are_trusted_once_the_golden_captured_from_them_is_active(
    verifier: RunningVerifier, terminal: Terminal, tmp_path: Path
) -> None:
    async def case() -> None:
        one, two = await nodes_of(verifier, tmp_path, 2)
        two.reboot(OTHER_KERNEL)
        one.run("/usr/bin/agent", b"agent 1")
        two.run("/usr/bin/job", b"job 1")
        async with AsyncExitStack() as stack:
            for node in (one, two):
                await stack.enter_async_context(answering(node))
            capture = ("golden", "capture", one.node_id, two.node_id, "--name", "rack-a", "--runtime")
            said = await typed(terminal, *capture, "-o", "rack-a.yaml")
            assert "sha256 PCR 4: seen in one boot of each machine only, 2 values; pinned (event " in said
            await typed(terminal, "golden", "activate", "rack-a.yaml")
            for node in (one, two):
                await reaches(verifier, node, attestation_pb2.NODE_STATE_TRUSTED)
            one.run("/opt/miner", b"miner")
            await reaches(verifier, one, attestation_pb2.NODE_STATE_UNTRUSTED)

    asyncio.run(case())
    golden = parse_golden((tmp_path / "rack-a.yaml").read_bytes(), "rack-a.yaml")
    assert golden.runtime is not None
    assert golden.runtime.files.keys() == {"/usr/bin/agent", "/usr/bin/job"}
    assert len(golden.pcrs[SHA256][4]) == 2


def test_an_earlier_boot_kept_as_a_folder_tells_what_a_reboot_changes(
    verifier: RunningVerifier, terminal: Terminal, tmp_path: Path
) -> None:
    async def case() -> str:
        (node,) = await nodes_of(verifier, tmp_path, 1)
        async with answering(node):
            await typed(terminal, "node", "evidence", node.node_id, "-o", "before")
        node.reboot(OTHER_KERNEL)
        node.boot_id = OTHER_BOOT
        async with answering(node):
            capture = ("golden", "capture", node.node_id, "before", "--name", "rack-a", "--rules")
            document = await typed(terminal, *capture)
            (tmp_path / "rack-a.yaml").write_text(document)
            await typed(terminal, "golden", "activate", "rack-a.yaml")
            await reaches(verifier, node, attestation_pb2.NODE_STATE_TRUSTED)
        return document

    document = asyncio.run(case())
    assert "# - sha256 PCR 0-3, 6, 11, 13-14: the same in every boot of every machine; pinned\n" in document
    assert "# - sha256 PCR 4: differs between boots of one machine, 2 values; judged by rules" in document
    terminal.type("appraise", "--golden", "rack-a.yaml", "--evidence", "before")


def test_a_refused_node_is_explained_by_the_active_goldens_and_checked_against_the_next(
    verifier: RunningVerifier, terminal: Terminal, tmp_path: Path
) -> None:
    async def case() -> None:
        (node,) = await nodes_of(verifier, tmp_path, 1)
        async with answering(node):
            await typed(terminal, "golden", "capture", node.node_id, "--name", "rack-a", "-o", "old.yaml")
            await typed(terminal, "golden", "activate", "old.yaml")
            assert "matches" in await typed(terminal, "golden", "explain", node.node_id)
        node.reboot(OTHER_KERNEL)
        node.boot_id = OTHER_BOOT
        async with answering(node):
            said = await asked(terminal, "golden", "explain", node.node_id, exit_code=1)
            (golden,) = said["goldens"]
            held = {each["pcr"]: each for each in golden["pcrs"] if each["differs"]}
            assert held.keys() == {4, 9}  # the boot loader reads the kernel, then firmware checks it
            (step,) = held[4]["differences"]
            assert step["golden"]["digest"] == SHA256.digest(b"nodeseal sample kernel").hex()
            assert step["seen"]["digest"] == SHA256.digest(b"another kernel").hex()
            by_digest = await typed(terminal, "golden", "check", golden["digest"], node.node_id, exit_code=1)
            assert "differs" in by_digest
            await typed(terminal, "golden", "capture", node.node_id, "--name", "rack-b", "-o", "new.yaml")
            await typed(terminal, "golden", "check", "new.yaml", node.node_id)

    asyncio.run(case())


def test_without_an_active_golden_there_is_nothing_to_explain(terminal: Terminal, tmp_path: Path) -> None:
    said = terminal.type("golden", "explain", str(tmp_path), exit_code=1).stderr
    assert "no golden is active" in said
    assert "--golden FILE" in said


def test_a_node_that_is_not_connected_makes_no_golden(
    verifier: RunningVerifier, terminal: Terminal, tmp_path: Path
) -> None:
    (node,) = asyncio.run(nodes_of(verifier, tmp_path, 1))
    said = terminal.type("golden", "capture", node.node_id, "--name", "rack-a", "-o", "rack-a.yaml", exit_code=1)
    assert "is not connected" in said.stderr
    assert not (tmp_path / "rack-a.yaml").exists()
