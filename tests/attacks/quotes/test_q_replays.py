"""Attacks by answers that were given before, or too late, over gRPC against a running verifier: row q01."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from nodeseal.v1.attestation_pb2 import NODE_STATE_TRUSTED, NODE_STATE_UNTRUSTED, Evidence
from nodeseal.v1.key_release_pb2 import Proof, ReleaseChallenge
from support.admin import entitled, trusted_node
from support.attackers import record_contents, refused_release, resigned, seen_by
from support.fake_node import FakeNode
from support.forged_rounds import Scene, found, granted_node
from support.in_process import MovableClocks, in_process
from support.verifier import RunningVerifier, a_verifier, refused


def test_q00_the_good_case_is_trusted_and_opens_the_model(scene: Scene, node: FakeNode) -> None:
    async def case() -> None:
        async with node.attesting() as stream:
            assert (await stream.round()).state == NODE_STATE_TRUSTED
            assert node.open(await node.release(scene.model.digest, [scene.model.slot])) == scene.model.data_key
            assert (await stream.round()).state == NODE_STATE_TRUSTED
            evidence = node.evidence(await stream.challenge())
            await stream.send(resigned(node, evidence, evidence.attest))  # the oracle itself changes nothing
            assert (await stream.verdict()).state == NODE_STATE_TRUSTED

    asyncio.run(case())


# q01: what was answered before


def test_q01_a_replay_of_the_last_accepted_round_is_refused(node: FakeNode) -> None:
    async def case() -> None:
        async with node.attesting() as stream:
            accepted = node.evidence(await stream.challenge())
            await stream.send(accepted)
            assert (await stream.verdict()).state == NODE_STATE_TRUSTED
            await stream.challenge()
            await stream.send(accepted)
            verdict = await stream.verdict()
            assert (verdict.state, [each.id for each in verdict.findings]) == (NODE_STATE_UNTRUSTED, ["quote.nonce"])

    asyncio.run(case())


def test_q01_a_replay_of_the_last_accepted_round_on_a_new_connection_is_refused(node: FakeNode) -> None:
    async def case() -> None:
        async with node.attesting() as stream:
            accepted = node.evidence(await stream.challenge())
            await stream.send(accepted)
            await stream.verdict()
        async with node.attesting() as stream:
            await stream.challenge()
            await stream.send(accepted)
            verdict = await stream.verdict()
            assert (verdict.state, [each.id for each in verdict.findings]) == (NODE_STATE_UNTRUSTED, ["quote.nonce"])

    asyncio.run(case())


def test_q01_a_replay_of_an_older_round_is_refused(scene: Scene, node: FakeNode) -> None:
    kept: list[Evidence] = []

    async def accept() -> None:
        async with node.attesting() as stream:
            kept.append(node.evidence(await stream.challenge()))
            await stream.send(kept[0])
            assert (await stream.verdict()).state == NODE_STATE_TRUSTED
            await stream.round()

    asyncio.run(accept())
    # The verifier remembers one answered challenge; older ones are as foreign to it as any other.
    assert found(scene, node, lambda *_: kept[0]) == ["quote.binding"]


def test_q01_the_accepted_round_of_another_node_is_refused(scene: Scene, node: FakeNode) -> None:
    kept: list[Evidence] = []

    async def accept() -> None:
        other = await granted_node(scene)
        async with other.attesting() as stream:
            kept.append(other.evidence(await stream.challenge()))
            await stream.send(kept[0])
            assert (await stream.verdict()).state == NODE_STATE_TRUSTED

    asyncio.run(accept())
    assert found(scene, node, lambda *_: kept[0]) == ["quote.signature"]  # checked before anything it says


@pytest.mark.parametrize("which", [0, 1], ids=["the same answer twice", "two different answers"])
def test_q01_a_challenge_takes_one_answer(scene: Scene, node: FakeNode, which: int) -> None:
    async def case() -> None:
        async with node.attesting() as stream, scene.verifier.person() as admin:
            challenge = await stream.challenge()
            answers = [node.evidence(challenge), node.evidence(challenge)]
            await stream.send(answers[0])
            await stream.send(answers[which])
            first, second = await stream.verdict(), await stream.verdict()
            assert first.state == NODE_STATE_TRUSTED
            assert (second.state, [each.id for each in second.findings]) == (NODE_STATE_UNTRUSTED, ["quote.nonce"])
            assert (await seen_by(admin, node)).state == NODE_STATE_UNTRUSTED

    asyncio.run(case())


def test_q01_an_answer_while_no_challenge_is_open_ends_the_stream(tmp_path: Path) -> None:
    async def case(verifier: RunningVerifier) -> None:
        node = await trusted_node(verifier)
        async with node.attesting() as stream:
            evidence = node.evidence(await stream.challenge())
            await stream.send(evidence)
            assert (await stream.verdict()).state == NODE_STATE_TRUSTED
            await stream.send(evidence)
            refusal = await stream.end()
        assert (refusal.code, refusal.findings) == (grpc.StatusCode.UNAUTHENTICATED, ("quote.nonce",))

    with a_verifier(tmp_path, interval_seconds=1) as verifier:
        asyncio.run(case(verifier))


def test_q01_an_answer_past_the_deadline_is_refused_for_rounds_and_releases(tmp_path: Path) -> None:
    clocks = MovableClocks()

    async def case(verifier: RunningVerifier) -> None:
        async with in_process(verifier, clocks), entitled(verifier) as here:
            before = await record_contents(here.admin)
            async with here.node.attesting() as stream:
                in_time = here.node.evidence(await stream.challenge())
                clocks.steady_ahead += 10.5
                await stream.send(in_time)
                refusal = await stream.end()
                assert (refusal.code, refusal.findings) == (grpc.StatusCode.UNAUTHENTICATED, ("quote.nonce",))
            assert await record_contents(here.admin) == before  # a late answer speaks neither for nor against a node

            def late(node: FakeNode, challenge: ReleaseChallenge) -> Proof:
                clocks.steady_ahead += 10.5
                return node.proof(challenge)

            assert (await refused_release(here.node, here.model, late)).findings == ("quote.nonce",)
            assert await here.lease()

    with a_verifier(tmp_path, start=False, interval_seconds=0, answer_within_seconds=10, trust_seconds=300) as verifier:
        asyncio.run(case(verifier))


def test_q01_a_proof_that_released_a_key_releases_no_second_one(scene: Scene, node: FakeNode) -> None:
    async def case() -> None:
        async with node.attesting() as stream:
            await stream.round()
        async with scene.verifier.person() as admin:
            async with node.releasing(scene.model.ask()) as release:
                proof = node.proof(release.challenge)
                assert (await release.prove(proof)).lease_id
            async with node.releasing(scene.model.ask()) as release:
                refusal = await refused(release.prove(proof))
            assert (refusal.code, refusal.findings) == (grpc.StatusCode.UNAUTHENTICATED, ("quote.nonce",))
            known = await seen_by(admin, node)
            assert (known.state, list(known.leases)) == (NODE_STATE_UNTRUSTED, [])

    asyncio.run(case())
