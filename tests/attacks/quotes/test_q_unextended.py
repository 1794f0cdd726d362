"""Attacks by PCRs that firmware never extended, over gRPC against a running verifier: row q10."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from nodeseal.swtpm.synthetic import SyntheticTpm
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.v1 import admin_pb2
from nodeseal.v1.attestation_pb2 import NODE_STATE_TRUSTED, NODE_STATE_UNTRUSTED
from support.admin import activate
from support.attackers import admitted_node, seen_by
from support.fake_node import FakeNode, a_node, golden_of
from support.forged_rounds import Scene
from support.verifier import RunningVerifier, a_verifier

SHA256, SHA384 = HashAlg.SHA256, HashAlg.SHA384


# q10: PCRs that firmware never extended


def with_pcrs(verifier: RunningVerifier, values: Mapping[int, bytes]) -> SyntheticTpm:
    tpm = a_node(verifier).tpm
    for pcr, value in values.items():
        tpm._pcrs[SHA256][pcr] = value
    return tpm


UNEXTENDED = {
    "all zero": (dict.fromkeys(range(8), bytes(32)), range(8)),
    "all ones": (dict.fromkeys(range(8), b"\xff" * 32), range(8)),
    "started at locality 3": ({pcr: bytes(31) + b"\3" * (pcr == 0) + b"\0" * (pcr != 0) for pcr in range(8)}, range(8)),
    "PCR 0 alone": ({0: bytes(32)}, [0]),
    "PCR 7 alone": ({7: b"\xff" * 32}, [7]),
    "with an H-CRTM mark": ({0: bytes(31) + b"\4"}, [0]),
}


@pytest.mark.parametrize("why", UNEXTENDED)
def test_q10_boot_pcrs_that_nobody_extended_are_refused_even_if_a_golden_has_them(scene: Scene, why: str) -> None:
    values, places = UNEXTENDED[why]

    async def case() -> None:
        node = await admitted_node(scene.verifier, with_pcrs(scene.verifier, values))
        async with node.attesting() as stream, scene.verifier.person() as admin:
            await stream.round()
            document = golden_of(node, name="empty")
            digest = await activate(admin, document)
            verdict = await stream.round()
            found = [(finding.id, finding.where) for finding in verdict.findings]
            assert found == [("pcr.unextended-bank", f"sha256 PCR {pcr}") for pcr in places]
            assert verdict.state == NODE_STATE_UNTRUSTED
            assert (await seen_by(admin, node)).state == NODE_STATE_UNTRUSTED
            await admin.goldens.RetireGolden(admin_pb2.RetireGoldenRequest(digest=digest))

    asyncio.run(case())


def test_q10_a_bank_that_firmware_never_extended_is_refused(tmp_path: Path) -> None:
    """Firmware measured into SHA-256 only, and the attacker extends SHA-384, or nobody does."""

    async def case(verifier: RunningVerifier) -> None:
        tpm = SyntheticTpm(verifier.vendor, (SHA256, SHA384))
        node = FakeNode(verifier, tpm)
        for pcr in range(10):
            tpm.extend(pcr, {bank: bank.digest(f"boot {pcr}".encode()) for bank in (SHA256, SHA384)})
        await node.enrol()
        async with verifier.person() as admin, node.attesting() as stream:
            await stream.round()
            await activate(admin, golden_of(node))
            await admin.nodes.AdmitNode(admin_pb2.AdmitNodeRequest(node_id=node.node_id))
            assert (await stream.round_until(NODE_STATE_TRUSTED)).findings == []
            tpm._pcrs[SHA384] = [bytes(48)] * 24
            verdict = await stream.round()
        assert verdict.state == NODE_STATE_UNTRUSTED
        places = [finding.where for finding in verdict.findings if finding.id == "pcr.unextended-bank"]
        assert places == [f"sha384 PCR {pcr}" for pcr in range(8)]

    with a_verifier(tmp_path, start=False, interval_seconds=0) as verifier:
        path = verifier.folder / "verifier.yaml"
        text = path.read_text()
        line = next(line for line in text.splitlines() if line.strip().startswith("sha256: ["))
        path.write_text(text.replace(line, line + "\n" + line.replace("sha256", "sha384")))
        verifier.start()
        asyncio.run(case(verifier))
