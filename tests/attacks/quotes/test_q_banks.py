"""Attacks by what a node says of its TPM's PCR banks, over gRPC against a running verifier: row q12.

A node chooses no bank by which it is judged: goldens name theirs, SHA-1 never counts, and saying something else instead
of quoting brings no trust.
"""

from __future__ import annotations

import asyncio

import grpc
import pytest

from nodeseal.swtpm.synthetic import SyntheticTpm
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.v1.attestation_pb2 import NODE_STATE_TRUSTED, NODE_STATE_UNTRUSTED, Evidence, Verdict
from support.attackers import admitted_node, seen_by
from support.fake_node import FakeNode, FakeStream, asking
from support.floods import faults
from support.forged_rounds import Scene
from support.verifier import refused

SHA1, SHA256, SHA384 = HashAlg.SHA1, HashAlg.SHA256, HashAlg.SHA384
SM3 = 0x0012


async def says(stream: FakeStream, *banks: int) -> Verdict:
    """Answer a challenge with banks alone, and return what the verifier says."""
    await stream.challenge()
    await stream.send(Evidence(pcr_banks=banks))
    return await stream.verdict()


@pytest.mark.parametrize("banks", [(SHA1,), (SM3,), (SHA1, SM3)])
def test_q12_a_trusted_node_that_says_it_has_no_sha2_bank_is_untrusted(
    scene: Scene, node: FakeNode, banks: tuple[int, ...]
) -> None:
    async def case() -> None:
        async with node.attesting() as stream, scene.verifier.person() as admin:
            await stream.round_until(NODE_STATE_TRUSTED)
            verdict = await says(stream, *banks)
            assert verdict.state == NODE_STATE_UNTRUSTED
            assert [finding.id for finding in verdict.findings] == ["pcr.no-bank"]
            asked = await stream.challenge()
            assert [bank.hash for bank in asked.pcr_selection.banks] == [SHA256]
            assert (await seen_by(admin, node)).state == NODE_STATE_UNTRUSTED

    asyncio.run(case())


def test_q12_a_trusted_node_that_has_the_bank_and_does_not_quote_it_is_untrusted(node: FakeNode) -> None:
    async def case() -> None:
        async with node.attesting() as stream:
            await stream.round_until(NODE_STATE_TRUSTED)
            verdict = await says(stream, SHA1, SHA256)
            assert verdict.state == NODE_STATE_UNTRUSTED
            assert [finding.id for finding in verdict.findings] == ["quote.selection"]

    asyncio.run(case())


def test_q12_naming_other_banks_again_and_again_lengthens_no_trust(node: FakeNode) -> None:
    async def case() -> None:
        async with node.attesting() as stream:
            ends = (await stream.round_until(NODE_STATE_TRUSTED)).trusted_until
            for banks in ((SHA384,), (SHA256,), (SHA384,)):
                assert (await says(stream, *banks)).trusted_until == ends

    asyncio.run(case())


def test_q12_a_bank_that_the_attacker_filled_counts_for_no_golden_of_another(scene: Scene) -> None:
    """Firmware measures into SHA-256 alone (CVE-2021-42299); root fills SHA-384 with what looks good."""

    async def case() -> None:
        tpm = SyntheticTpm(scene.verifier.vendor, (SHA384,))
        for pcr in range(10):
            tpm.extend(pcr, {SHA384: SHA384.digest(f"boot {pcr}".encode())})
        node = await admitted_node(scene.verifier, tpm)
        node.begins_epochs = False
        async with node.attesting() as stream:
            await says(stream, SHA384)
            verdict = await stream.round()
            assert verdict.state == NODE_STATE_UNTRUSTED
            assert [finding.id for finding in verdict.findings] == ["pcr.bank"]
            denied = await refused(node.release(scene.model.digest, [scene.model.slot]))
            assert {"release.node-state", "pcr.bank"} <= set(denied.findings)

    asyncio.run(case())


def test_q12_more_banks_than_a_tpm_has_are_refused(scene: Scene, node: FakeNode) -> None:
    async def case() -> None:
        async with node.attesting() as stream:
            await stream.challenge()
            await stream.send(Evidence(pcr_banks=range(17)))
            assert "PCR banks: 17, at most 16" in (await stream.end()).details
        ask = asking(scene.model.digest, scene.model.slot)
        ask.pcr_banks.extend(range(17))

        async def release() -> None:
            async with node.releasing(ask):
                pass

        assert "PCR banks: 17, at most 16" in (await refused(release())).details

    asyncio.run(case())


def test_q12_a_release_without_a_quote_for_other_banks_is_refused(scene: Scene, node: FakeNode) -> None:
    async def case() -> None:
        async with node.attesting() as stream:
            await stream.round_until(NODE_STATE_TRUSTED)
        async with node.releasing(asking(scene.model.digest, scene.model.slot)) as release:
            proof = node.proof(release.challenge, evidence=Evidence(pcr_banks=[SHA384]))
            refusal = await refused(release.prove(proof))
        assert "other PCR banks" in refusal.details
        assert not faults(scene.verifier)

    asyncio.run(case())


def test_q12_a_release_for_banks_that_no_golden_judges_is_denied_and_moves_no_other_challenge(
    scene: Scene, node: FakeNode
) -> None:
    """Whoever stole the TLS key alone may ask so; what it says of banks counts for its own call."""

    async def case() -> None:
        async with node.attesting() as stream:
            await stream.round_until(NODE_STATE_TRUSTED)
            ask = asking(scene.model.digest, scene.model.slot)
            ask.pcr_banks.append(SHA384)

            async def release() -> None:
                async with node.releasing(ask):
                    pass

            refusal = await refused(release())
            assert refusal.code is grpc.StatusCode.PERMISSION_DENIED
            assert refusal.findings == ("pcr.bank",)
            denied = [each for each in scene.verifier.records() if each["action"] == "release.denied"]
            assert [each["details"]["codes"] for each in denied if node.node_id in str(each)] == [["pcr.bank"]]
            await stream.round()
            assert [bank.hash for bank in (await stream.challenge()).pcr_selection.banks] == [SHA256]

    asyncio.run(case())


def test_q12_banks_without_a_quote_count_on_their_own_stream_alone(node: FakeNode) -> None:
    async def case() -> None:
        async with node.attesting() as stream:
            await stream.round_until(NODE_STATE_TRUSTED)
            async with node.attesting() as thief:
                await says(thief, SHA384)
                assert [bank.hash for bank in (await thief.challenge()).pcr_selection.banks] == [SHA384]
                async with node.attesting() as another:
                    assert [bank.hash for bank in (await another.challenge()).pcr_selection.banks] == [SHA256]

    asyncio.run(case())
