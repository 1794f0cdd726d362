"""Whole evidence and tokens from a running verifier, for people and relying parties."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from grpc import aio

from nodeseal.appraisal.offline import appraise_folder
from nodeseal.cli.evidence import read_evidence
from nodeseal.errors import ProofFailed
from nodeseal.evidence.folder import EvidenceFolder, decode_evidence_folder
from nodeseal.golden.document import parse_golden
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.v1 import admin_pb2, attestation_pb2
from support.admin import activate
from support.answering import Answer, answering
from support.attackers import altered
from support.logged import LoggedNode, admitted_logged_node
from support.terminal import Terminal
from support.verifier import Refusal, RunningVerifier, Stubs, a_verifier, refused

TRUSTED = attestation_pb2.NODE_STATE_TRUSTED
FILES = {"/usr/bin/agent": [b"agent 1"]}


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningVerifier]:
    with a_verifier(tmp_path_factory.mktemp("evidence"), interval_seconds=10, trust_seconds=100) as running:
        yield running


@pytest.fixture
def node(verifier: RunningVerifier, tmp_path: Path) -> LoggedNode:
    return asyncio.run(admitted_logged_node(verifier, tmp_path))


async def files_of(admin: Stubs, node_id: str) -> dict[str, bytes]:
    """Ask for a node's evidence."""
    files: dict[str, bytes] = {}
    call = admin.nodes.GetEvidence(admin_pb2.GetEvidenceRequest(node_id=node_id), timeout=60)
    while isinstance(part := await call.read(), admin_pb2.EvidencePart):
        files[part.name] = files.get(part.name, b"") + part.data
    if await call.code() is not grpc.StatusCode.OK:
        raise aio.AioRpcError(await call.code(), aio.Metadata(), await call.trailing_metadata(), await call.details())
    return files


async def refused_evidence(admin: Stubs, node_id: str) -> Refusal:
    return await refused(files_of(admin, node_id))


def test_evidence_is_whole_although_the_verifier_knows_it_and_is_judged_alike_offline(
    verifier: RunningVerifier, node: LoggedNode
) -> None:
    async def case() -> EvidenceFolder:
        async with verifier.person() as admin:
            await admin.nodes.LabelNode(admin_pb2.LabelNodeRequest(node_id=node.node_id, labels={"rack": "a"}))
            node.run("/usr/bin/agent", b"agent 1")
            await activate(admin, node.golden(FILES, nodes={"rack": "a"}))
            async with answering(node):
                await asyncio.wait_for(files_of(admin, node.node_id), 20)
                folder = decode_evidence_folder(await asyncio.wait_for(files_of(admin, node.node_id), 20))
            found = await admin.nodes.GetNode(admin_pb2.GetNodeRequest(node_id=node.node_id))
            assert found.state == TRUSTED
            return folder

    folder = asyncio.run(case())
    assert folder.evidence.boot_log == node.boot_log
    assert folder.evidence.ima is not None
    assert folder.evidence.ima.entries == node.ima_log
    assert folder.channel == node.binding
    assert (folder.labels, folder.manufacturer, folder.ek_algorithm) == ({"rack": "a"}, "NSL", "ecc-p256")
    assert appraise_folder(folder, [parse_golden(node.golden(FILES, nodes={"rack": "a"}), "golden")]).trusted
    assert not appraise_folder(folder, [parse_golden(node.golden({"/usr/bin/agent": [b"agent 2"]}), "golden")]).trusted
    exported = [each for each in verifier.records() if each["action"] == "node.evidence-exported"]
    assert {each["actor"] for each in exported if each["subject"] == f"node/{node.node_id}"} == {"person/admin"}
    assert verifier.actions(f"node/{node.node_id}").count("node.evidence-exported") == 2


def test_a_node_that_is_not_connected_has_no_evidence_to_give(verifier: RunningVerifier, node: LoggedNode) -> None:
    async def case() -> None:
        async with verifier.person() as admin:
            refusal = await refused_evidence(admin, node.node_id)
            assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
            assert "is not connected" in refusal.details
            assert (await refused_evidence(admin, "n-" + "a" * 26)).code is grpc.StatusCode.NOT_FOUND

    asyncio.run(case())


def test_a_node_that_goes_away_meanwhile_ends_the_wait(verifier: RunningVerifier, node: LoggedNode) -> None:
    async def case() -> None:
        async with verifier.person() as admin:
            async with node.attesting() as stream:
                await stream.round()
                asking = asyncio.create_task(refused_evidence(admin, node.node_id))
                challenge = await asyncio.wait_for(stream.challenge(), 5)
                assert challenge.values_required
                assert (challenge.boot_log_known, challenge.ima_offset_known) == (b"", 0)
            refusal = await asyncio.wait_for(asking, 10)
            assert refusal.code is grpc.StatusCode.UNAVAILABLE

    asyncio.run(case())


def without_values(node: LoggedNode) -> Answer:
    def answer(challenge: attestation_pb2.Challenge) -> list[attestation_pb2.Evidence]:
        *logs, last = node.answer(challenge)
        return [*logs, altered(last, pcr_values=[])]

    return answer


def with_the_end_of_the_log(node: LoggedNode) -> Answer:
    def answer(challenge: attestation_pb2.Challenge) -> list[attestation_pb2.Evidence]:
        size = len(node.ima_log or b"")
        stretch = attestation_pb2.ImaStretch(offset=size, entries=b"", hash=HashAlg.SHA1)
        return [altered(node.evidence(challenge), ima=stretch)]

    return answer


def with_one_value(node: LoggedNode) -> Answer:
    return lambda challenge: [altered(node.evidence(challenge), pcr_values=[bytes(32)])]


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (without_values, "sent no PCR values"),
        (with_the_end_of_the_log, "sent other evidence than it was asked for"),
        (with_one_value, "1 PCR values for a selection of 17"),
    ],
)
def test_other_evidence_than_was_asked_for_is_not_handed_out(
    verifier: RunningVerifier, node: LoggedNode, made: Callable[[LoggedNode], Answer], why: str
) -> None:
    async def case() -> None:
        async with verifier.person() as admin, answering(node, made(node)):
            refusal = await asyncio.wait_for(refused_evidence(admin, node.node_id), 20)
            assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
            assert why in refusal.details

    asyncio.run(case())


def test_evidence_that_does_not_hold_is_handed_out_and_does_not_hold_offline_either(
    verifier: RunningVerifier, node: LoggedNode
) -> None:
    def forged(challenge: attestation_pb2.Challenge) -> list[attestation_pb2.Evidence]:
        *logs, last = node.answer(challenge)
        return [*logs, altered(last, claims=last.claims.replace(b"6.1.0", b"6.1.9"))]

    async def case() -> None:
        async with verifier.person() as admin, answering(node, forged):
            folder = decode_evidence_folder(await asyncio.wait_for(files_of(admin, node.node_id), 20))
            with pytest.raises(ProofFailed, match=r"quote\.binding"):
                appraise_folder(folder, [])
            found = await admin.nodes.GetNode(admin_pb2.GetNodeRequest(node_id=node.node_id))
            assert [each.id for each in found.findings] == ["quote.binding"]

    asyncio.run(case())


def test_only_few_ask_at_once(verifier: RunningVerifier, tmp_path: Path) -> None:
    async def case() -> None:
        async with verifier.person() as admin:
            silent = [await admitted_logged_node(verifier, tmp_path) for _ in range(3)]
            async with silent[0].attesting() as first, silent[1].attesting() as second, silent[2].attesting() as third:
                for stream in (first, second, third):
                    await stream.round()
                asking = [asyncio.create_task(refused_evidence(admin, each.node_id)) for each in silent[:2]]
                for stream in (first, second):
                    await stream.challenge()
                refusal = await refused_evidence(admin, silent[2].node_id)
                assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            await asyncio.gather(*asking)

    asyncio.run(case())


def typed(verifier: RunningVerifier, *argv: str, exit_code: int = 0) -> str:
    """Type a command as the first person; return what it prints."""
    done = Terminal(verifier.folder / "persons/admin", verifier.folder).type(*argv, exit_code=exit_code)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def client(verifier: RunningVerifier) -> None:
    path = verifier.folder / "persons/admin/client.yaml"
    path.write_text(path.read_text().replace("localhost:0", verifier.listen))


@pytest.mark.usefixtures("client")
def test_the_command_writes_a_folder_once(verifier: RunningVerifier, node: LoggedNode, tmp_path: Path) -> None:
    out = tmp_path / "kept" / "evidence"

    async def case() -> None:
        async with answering(node):
            shown = await asyncio.to_thread(typed, verifier, "node", "evidence", node.node_id, "-o", str(out))
            assert str(out) in shown
            again = await asyncio.to_thread(
                typed, verifier, "node", "evidence", node.node_id, "-o", str(out), exit_code=1
            )
            assert "exists already" in again
            other = str(tmp_path / "other")
            told = await asyncio.to_thread(typed, verifier, "node", "evidence", node.node_id, "-o", other, "--json")
            assert json.loads(told)["files"]["boot-log.bin"] == len(node.boot_log)

    asyncio.run(case())
    assert read_evidence(out).evidence.boot_log == node.boot_log
    assert out.stat().st_mode & 0o077 == 0
    assert sorted(each.name for each in out.parent.iterdir()) == ["evidence"]
    missing = tmp_path / "missing"
    assert "is not connected" in typed(verifier, "node", "evidence", node.node_id, "-o", str(missing), exit_code=1)
    assert not missing.exists()


@pytest.mark.usefixtures("client")
def test_the_command_shows_labels_and_what_the_logs_proved(verifier: RunningVerifier, node: LoggedNode) -> None:
    async def case() -> None:
        async with node.attesting() as stream:
            await stream.round()
            labelled = await asyncio.to_thread(typed, verifier, "node", "label", node.node_id, "rack=a", "role=gpu")
            assert "rack=a role=gpu" in labelled

    asyncio.run(case())
    shown = typed(verifier, "node", "show", node.node_id)
    assert "secure boot" in shown
    assert "boot image" in shown
    assert "root=LABEL=root" in shown
    assert "IMA log" in shown
    assert "rack=a" not in typed(verifier, "node", "label", node.node_id, "rack=")
    assert "not LABEL=VALUE" in typed(verifier, "node", "label", node.node_id, "rack", exit_code=2)
    assert "is not 1 to 63" in typed(verifier, "node", "label", node.node_id, "Rack=a", exit_code=1)


@pytest.mark.usefixtures("client")
def test_a_token_says_what_is_thought_of_a_node_and_verifies_under_the_shown_key(
    verifier: RunningVerifier, node: LoggedNode
) -> None:
    def token(*argv: str) -> dict[str, Any]:
        shown = json.loads(typed(verifier, "node", "token", node.node_id, "--json", *argv))
        key = jwt.PyJWK(shown["public_jwk"])
        claims: dict[str, Any] = jwt.decode(shown["token"], key, algorithms=["ES256"])
        return claims

    async def case() -> None:
        async with verifier.person() as admin, node.attesting() as stream:
            await activate(admin, node.golden(FILES))
            await stream.round_until(TRUSTED)
            trusted = await asyncio.to_thread(token, "--nonce", "00112233445566778899aabbccddeeff")
            appraisal = trusted["submods"][node.node_id]
            assert (appraisal["ear.status"], trusted["eat_nonce"]) == ("affirming", "ABEiM0RVZneImaq7zN3u_w")
            assert appraisal["ear.trustworthiness-vector"]["executables"] == 2
            node.run("/tmp/miner", b"miner")  # noqa: S108 - no file
            await stream.round()
            untrusted = (await asyncio.to_thread(token))["submods"][node.node_id]
            assert untrusted["ear.status"] == "contraindicated"
            assert untrusted["ear.trustworthiness-vector"]["executables"] == 96
            (finding,) = untrusted["nodeseal"]["findings"]
            assert finding["id"] == "ima.unknown-file"

    asyncio.run(case())
    key = json.loads(typed(verifier, "node", "token", node.node_id, "--jwk"))
    config = str(verifier.folder / "verifier.yaml")
    local = [sys.executable, "-m", "nodeseal.verifier", "ear-key", "--config", config]
    assert json.loads(subprocess.run(local, capture_output=True, check=True).stdout) == key
    assert "8 to 64" in typed(verifier, "node", "token", node.node_id, "--nonce", "00", exit_code=1)
    assert "not hex digits" in typed(verifier, "node", "token", node.node_id, "--nonce", "xyz", exit_code=2)
