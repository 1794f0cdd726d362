"""Attestation against a running verifier: states, findings, replays, the end of trust, restarts."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import grpc
import pytest

from nodeseal.crypto.tls_key import new_tls_key
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.v1 import admin_pb2, attestation_pb2
from support.admin import entitled, trusted_node
from support.attackers import seen_by
from support.fake_node import FakeNode, a_node
from support.verifier import RunningVerifier, a_verifier, received, refused

TRUSTED = attestation_pb2.NODE_STATE_TRUSTED
UNTRUSTED = attestation_pb2.NODE_STATE_UNTRUSTED
QUARANTINED = attestation_pb2.NODE_STATE_QUARANTINED
STALE = attestation_pb2.NODE_STATE_STALE
EXTENDED = {HashAlg.SHA256: hashlib.sha256(b"something else").digest()}


@pytest.fixture(scope="module")
def node(verifier: RunningVerifier) -> FakeNode:
    return asyncio.run(trusted_node(verifier))


async def state_of(verifier: RunningVerifier, node: FakeNode) -> attestation_pb2.NodeState.ValueType:
    async with verifier.person() as admin:
        return (await seen_by(admin, node)).state


def test_a_steady_node_stays_trusted_without_new_records(verifier: RunningVerifier, node: FakeNode) -> None:
    async def case() -> None:
        async with node.attesting() as stream:
            await stream.round_until(TRUSTED)
            before = len(verifier.records())
            first = await stream.round()
            second = await stream.round()
            assert (first.state, second.state) == (TRUSTED, TRUSTED)
            assert second.trusted_until.ToDatetime() > first.trusted_until.ToDatetime()
            assert second.trusted_for_ms == 25_000  # trust_seconds less answer_within_seconds
            assert len(verifier.records()) == before

    asyncio.run(case())


def test_a_second_answer_to_one_challenge_ends_the_stream(verifier: RunningVerifier, node: FakeNode) -> None:
    async def case() -> None:
        async with node.attesting() as stream:
            evidence = node.evidence(await stream.challenge())
            await stream.send(evidence)
            await stream.verdict()
            await stream.send(evidence)
            refusal = await stream.end()
        assert (refusal.code, refusal.findings) == (grpc.StatusCode.UNAUTHENTICATED, ("quote.nonce",))
        assert await state_of(verifier, node) == TRUSTED

    asyncio.run(case())


def test_an_old_round_does_not_answer_a_new_challenge(node: FakeNode) -> None:
    async def case() -> None:
        async with node.attesting() as stream:
            old = node.evidence(await stream.challenge())
            await stream.send(old)
            assert (await stream.verdict()).state == TRUSTED
            await stream.challenge()
            await stream.send(old)
            verdict = await stream.verdict()
            assert verdict.state == UNTRUSTED
            assert [finding.id for finding in verdict.findings] == ["quote.nonce"]
            assert (await stream.round()).state == TRUSTED

    asyncio.run(case())


def test_a_new_stream_replaces_the_old_one(node: FakeNode) -> None:
    async def case() -> None:
        async with node.attesting() as old:
            await old.challenge()
            async with node.attesting() as new:
                await new.round_until(TRUSTED)
                assert (await old.end()).code is grpc.StatusCode.FAILED_PRECONDITION
                assert (await new.round()).state == TRUSTED

    asyncio.run(case())


def test_a_changed_pcr_takes_trust_and_leases_and_a_reboot_brings_trust_back(fresh: RunningVerifier) -> None:
    async def case() -> None:
        async with entitled(fresh) as scene:
            lease, node = await scene.lease(), scene.node
            async with node.attesting() as stream:
                assert (await stream.round()).state == TRUSTED
                node.tpm.extend(4, EXTENDED)
                verdict = await stream.round()
                assert (verdict.state, verdict.trusted_for_ms) == (UNTRUSTED, 0)
                assert {finding.id for finding in verdict.findings} == {"pcr.mismatch"}
                revocation = await stream.revocation()
                assert list(revocation.lease_ids) == [lease]
                assert revocation.cause == attestation_pb2.END_CAUSE_DISTRUST
            assert fresh.actions(f"lease/{lease}") == ["lease.issued", "lease.ended"]

    asyncio.run(case())


def test_an_admin_sees_goldens_and_quarantine_take_effect_at_once(tmp_path: Path) -> None:
    async def case(verifier: RunningVerifier) -> None:
        async with verifier.person() as admin:
            node = await trusted_node(verifier)
            async with node.attesting() as stream:
                await stream.round_until(TRUSTED)
                (listed,) = (await admin.goldens.ListGoldens(admin_pb2.ListGoldensRequest())).goldens
                golden = await received(admin.goldens.GetGolden(admin_pb2.GetGoldenRequest(digest=listed.digest)))
                await admin.goldens.RetireGolden(admin_pb2.RetireGoldenRequest(digest=golden.digest))
                verdict = await asyncio.wait_for(stream.round(), 5)  # an interval is an hour here
                assert [finding.id for finding in verdict.findings] == ["golden.none"]
                again = admin_pb2.ActivateGoldenRequest(document=golden.document)
                await admin.goldens.ActivateGolden(iter([again]))
                assert (await asyncio.wait_for(stream.round(), 5)).state == TRUSTED
                quarantine = admin_pb2.QuarantineNodeRequest(node_id=node.node_id, reason="odd noises")
                assert (await admin.nodes.QuarantineNode(quarantine)).state == QUARANTINED
                await admin.nodes.AdmitNode(admin_pb2.AdmitNodeRequest(node_id=node.node_id))
                assert (await asyncio.wait_for(stream.round(), 5)).state == TRUSTED

    with a_verifier(tmp_path, interval_seconds=3600, trust_seconds=3700) as verifier:
        asyncio.run(case(verifier))


def test_silence_makes_a_node_stale_at_its_time_and_ends_its_leases(tmp_path: Path) -> None:
    async def case(verifier: RunningVerifier) -> None:
        async with entitled(verifier) as scene:
            lease, node = await scene.lease(), scene.node
            async with node.attesting() as stream:
                await stream.challenge()
                assert (await stream.end()).findings == ("quote.nonce",)
            assert await state_of(verifier, node) == TRUSTED
            await asyncio.sleep(3.5)
            assert await state_of(verifier, node) == STALE
            assert verifier.actions(f"lease/{lease}") == ["lease.issued", "lease.ended"]
            async with node.attesting() as stream:
                assert (await stream.round()).state == TRUSTED
                assert (await stream.revocation()).lease_ids == [lease]

    with a_verifier(tmp_path, trust_seconds=4, answer_within_seconds=1) as verifier:
        asyncio.run(case(verifier))


def test_a_killed_verifier_comes_back_with_leases_and_remembers_the_clock(fresh: RunningVerifier) -> None:
    async def case() -> None:
        async with entitled(fresh) as scene:
            await scene.lease()
            node = scene.node
        fresh.kill()
        fresh.start()
        async with node.attesting() as stream:
            challenge = await stream.challenge()
            assert challenge.values_required
            await stream.send(node.evidence(challenge))
            assert (await stream.verdict()).state == TRUSTED
        async with fresh.person() as admin:
            assert list((await seen_by(admin, node)).leases) == list(node.leases)
        assert fresh.stop() == 0
        fresh.start()
        now = node.tpm._milliseconds()
        node.tpm._milliseconds = lambda: now - 1_000_000
        async with node.attesting() as stream:
            verdict = await stream.round()
            assert verdict.state == QUARANTINED
            assert [finding.id for finding in verdict.findings] == ["clock.rollback"]
            assert (await stream.revocation()).lease_ids == list(node.leases)

    asyncio.run(case())


def test_trust_that_ran_out_while_the_verifier_was_down_is_gone(tmp_path: Path) -> None:
    async def case(verifier: RunningVerifier) -> None:
        async with entitled(verifier) as scene:
            lease, node = await scene.lease(), scene.node
        verifier.kill()
        await asyncio.sleep(4)
        verifier.start()
        assert await state_of(verifier, node) == STALE
        await asyncio.sleep(1)
        assert verifier.actions(f"lease/{lease}") == ["lease.issued", "lease.ended"]

    with a_verifier(tmp_path, trust_seconds=4, answer_within_seconds=1) as verifier:
        asyncio.run(case(verifier))


def test_a_node_renews_its_certificate_and_the_old_one_ends_with_the_first_use(node: FakeNode) -> None:
    async def case() -> None:
        old_key, old_chain, key = node.key, node.chain, new_tls_key()
        async with node.attesting() as stream:
            await stream.round_until(TRUSTED)
            renewed = await node.renew(key)
        async with node.attesting() as stream:
            assert (await stream.round()).state == TRUSTED
        node.key, node.chain = key, renewed
        async with node.attesting() as stream:
            assert (await stream.round()).state == TRUSTED
        node.key, node.chain = old_key, old_chain
        async with node.attesting() as stream:
            assert (await stream.end()).findings == ("node.unknown",)
        node.key, node.chain = key, renewed

    asyncio.run(case())


def test_a_node_that_is_not_trusted_gets_no_new_certificate(verifier: RunningVerifier) -> None:
    async def case() -> None:
        pending = a_node(verifier)
        await pending.enrol()
        refusal = await refused(pending.renew(new_tls_key()))
        assert refusal.findings == ("node.not-trusted",)

    asyncio.run(case())
