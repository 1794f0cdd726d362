"""Key release against a running verifier: what is given out, what is refused, what is recorded first."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from nodeseal.errors import OutOfOrder
from nodeseal.evidence.binding import Purpose
from nodeseal.evidence.release_context import decode_release_context
from nodeseal.ids import KeyId
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.v1 import admin_pb2, attestation_pb2, key_release_pb2, key_release_pb2_grpc
from nodeseal.verifier.fleet import overlay
from nodeseal.verifier.ledger import restrictions
from support.admin import Entitled, a_sealed_model, entitled, grant
from support.fake_node import a_node
from support.in_process import in_process
from support.verifier import Refusal, RunningVerifier, a_verifier, received, refused

EXTENDED = {HashAlg.SHA256: hashlib.sha256(b"something else").digest()}


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningVerifier]:
    with a_verifier(tmp_path_factory.mktemp("release"), interval_seconds=20) as running:
        yield running


def play(verifier: RunningVerifier, case: Any) -> None:
    """Run ``case`` with a fresh node, key and model."""

    async def scene() -> None:
        async with verifier.person() as admin:
            for golden in (await admin.goldens.ListGoldens(admin_pb2.ListGoldensRequest())).goldens:
                await admin.goldens.RetireGolden(admin_pb2.RetireGoldenRequest(digest=golden.digest))
        async with entitled(verifier, f"m-{secrets.token_hex(4)}") as made:
            await case(made)

    asyncio.run(scene())


def test_a_trusted_node_gets_a_key_that_only_its_tpm_opens_after_the_record_was_written(
    verifier: RunningVerifier,
) -> None:
    async def case(scene: Entitled) -> None:
        released = await scene.release()
        assert scene.node.open(released) == scene.model.data_key
        context = decode_release_context(released.context)
        assert (context.node_id, context.lease_id) == (scene.node.node_id, released.lease_id)
        leaves = [leaf async for leaf in scene.admin.audit.ListRecords(admin_pb2.ListRecordsRequest())]
        (leaf,) = (leaf for leaf in leaves if leaf.leaf_hash.hex() == context.audit_leaf)
        assert hashlib.sha256(b"\0" + leaf.content).digest() == leaf.leaf_hash
        envelope = json.loads(leaf.content)
        assert hashlib.sha256(leaf.body).hexdigest() == envelope["body"]
        assert (envelope["kind"], envelope["subjects"][f"lease/{released.lease_id}"]) == ("lease.issued", 1)
        scene.node.tpm.begin_epoch()
        with pytest.raises(OutOfOrder):
            scene.node.open(released)

    play(verifier, case)


def test_a_node_that_has_changed_since_its_last_round_is_refused_and_untrusted(verifier: RunningVerifier) -> None:
    async def case(scene: Entitled) -> None:
        scene.node.tpm.extend(4, EXTENDED)
        refusal = await scene.denied()
        assert "pcr.mismatch" in refusal.findings
        node = await scene.admin.nodes.GetNode(admin_pb2.GetNodeRequest(node_id=scene.node.node_id))
        assert node.state == attestation_pb2.NODE_STATE_UNTRUSTED
        assert (await scene.denied()).findings == ("release.node-state", "pcr.mismatch")

    play(verifier, case)


def test_nobody_gets_a_key_that_was_not_granted(verifier: RunningVerifier) -> None:
    async def case(scene: Entitled) -> None:
        request = admin_pb2.RevokeKeyRequest(key_id=scene.model.slot.key_id, node_id=scene.node.node_id, reason="moved")
        await scene.admin.keys.RevokeKey(request)
        assert (await scene.denied()).findings == ("release.not-granted",)

    play(verifier, case)


def test_a_revoked_key_ends_leases_at_once_and_opens_nothing_more(verifier: RunningVerifier) -> None:
    async def case(scene: Entitled) -> None:
        released = await scene.release()
        async with scene.node.attesting() as stream:
            await stream.round()
            revoke = admin_pb2.RevokeKeyRequest(key_id=scene.model.slot.key_id, reason="stolen")
            await scene.admin.keys.RevokeKey(revoke)
            revocation = await asyncio.wait_for(stream.revocation(), 5)
        assert revocation.lease_ids == [released.lease_id]
        assert "stolen" in revocation.reason
        assert revocation.cause == attestation_pb2.END_CAUSE_REVOCATION
        assert scene.verifier.actions(f"lease/{released.lease_id}") == ["lease.issued", "lease.ended"]
        assert (await scene.denied()).findings == ("release.not-granted",)

    play(verifier, case)


def test_the_limit_of_a_grant_counts_what_the_node_claims_to_hold(verifier: RunningVerifier) -> None:
    async def case(scene: Entitled) -> None:
        first = await scene.release()
        assert (await scene.denied()).findings == ("release.lease-limit",)
        scene.node.leases = ()  # the agent was killed before it had the answer
        second = await scene.release()
        assert scene.verifier.actions(f"lease/{first.lease_id}") == ["lease.issued", "lease.ended"]
        assert scene.verifier.actions(f"lease/{second.lease_id}") == ["lease.issued"]
        scene.node.leases = (first.lease_id, second.lease_id)
        async with scene.node.attesting() as stream:
            await stream.round()
            revocation = await stream.revocation()
        assert list(revocation.lease_ids) == [first.lease_id]
        assert revocation.cause == attestation_pb2.END_CAUSE_REVOCATION

    play(verifier, case)


def test_a_returned_lease_makes_room(verifier: RunningVerifier) -> None:
    async def case(scene: Entitled) -> None:
        first = await scene.release()
        await scene.node.give_back(first.lease_id, "l-" + "a" * 26)
        scene.node.leases = ()
        await scene.release()
        assert scene.verifier.actions(f"lease/{first.lease_id}") == ["lease.issued", "lease.ended"]

    play(verifier, case)


def test_a_model_that_nobody_registered_or_a_foreign_slot_is_refused_with_every_reason(
    verifier: RunningVerifier,
) -> None:
    async def case(scene: Entitled) -> None:
        unknown = "ab" * 32
        assert (await scene.denied(digest=unknown)).findings == ("release.model-unregistered",)
        foreign = replace(scene.model.slot, key_id=KeyId("somebody-elses"))
        assert (await scene.denied(slots=[foreign])).findings == ("release.slot",)
        both = await scene.denied(slots=[foreign], digest=unknown)
        assert both.findings == ("release.model-unregistered", "release.slot")
        other = await a_sealed_model(scene.admin, scene.model.slot.key_id, scene.model.slot.key_id, version=2)
        assert (await scene.denied(slots=[other.slot])).findings == ("release.slot",)

    play(verifier, case)


@pytest.mark.parametrize("state", ["pending", "quarantined"])
def test_a_node_that_is_not_trusted_is_refused_before_it_is_challenged(verifier: RunningVerifier, state: str) -> None:
    async def case(scene: Entitled) -> None:
        if state == "quarantined":
            request = admin_pb2.QuarantineNodeRequest(node_id=scene.node.node_id, reason="odd")
            await scene.admin.nodes.QuarantineNode(request)
            outcast = scene
        else:
            pending = a_node(scene.verifier)
            await pending.enrol()
            await grant(scene.admin, pending, key_id=scene.model.slot.key_id)
            outcast = replace(scene, node=pending)
        refusal = await outcast.denied()
        assert (refusal.code, refusal.findings) == (grpc.StatusCode.PERMISSION_DENIED, ("release.node-state",))
        assert state in refusal.details

    play(verifier, case)


def test_a_retired_golden_releases_nothing(verifier: RunningVerifier) -> None:
    async def case(scene: Entitled) -> None:
        (golden,) = (await scene.admin.goldens.ListGoldens(admin_pb2.ListGoldensRequest())).goldens
        await scene.admin.goldens.RetireGolden(admin_pb2.RetireGoldenRequest(digest=golden.digest))
        assert "golden.none" in (await scene.denied()).findings

    play(verifier, case)


def test_the_leases_of_a_retired_model_end_and_its_node_stays_trusted(verifier: RunningVerifier) -> None:
    async def case(scene: Entitled) -> None:
        request = admin_pb2.RetireModelRequest(digest=scene.model.digest, reason="flawed")
        async with scene.node.attesting() as stream:
            await stream.round()
            released = await scene.release()
            await scene.admin.models.RetireModel(request)
            ended = await asyncio.wait_for(stream.revocation(), 5)
        node = await scene.admin.nodes.GetNode(admin_pb2.GetNodeRequest(node_id=scene.node.node_id))
        assert node.state == attestation_pb2.NODE_STATE_TRUSTED
        assert (list(ended.lease_ids), list(node.leases)) == ([released.lease_id], [])
        assert ended.cause == attestation_pb2.END_CAUSE_REVOCATION
        assert scene.verifier.actions(f"lease/{released.lease_id}") == ["lease.issued", "lease.ended"]
        assert (await scene.denied()).findings == ("release.model-retired",)

    play(verifier, case)


async def proved(scene: Entitled, change: Any) -> Refusal:
    """Ask honestly, answer with a proof that ``change`` has touched, return the refusal."""
    async with scene.node.releasing(scene.model.ask()) as release:
        return await refused(release.prove(change(release.challenge, scene.node.proof(release.challenge))))


def test_a_proof_with_one_fact_changed_releases_nothing(verifier: RunningVerifier) -> None:
    async def case(scene: Entitled) -> None:
        node = scene.node

        def attest_instead(challenge: Any, proof: Any) -> Any:
            proof.evidence.CopyFrom(node.evidence(challenge.challenge, Purpose.ATTEST))
            return proof

        def another_key(challenge: Any, proof: Any) -> Any:
            proof.release_public = node.proof(challenge).release_public
            return proof

        def attestation_key(_: Any, proof: Any) -> Any:
            proof.release_public = node.tpm.ak.encode()
            return proof

        def other_claims(_: Any, proof: Any) -> Any:
            proof.evidence.claims = proof.evidence.claims.replace(b"6.1.0", b"6.1.1")
            return proof

        table = {
            another_key: ("release.certify",),
            attestation_key: ("release.key",),
            other_claims: ("quote.binding",),
            attest_instead: ("quote.binding",),
        }
        for change, findings in table.items():
            before = scene.leases_begun()
            assert set(findings) <= set((await proved(scene, change)).findings), change
            assert scene.leases_begun() == before
            async with node.attesting() as stream:
                await stream.round_until(attestation_pb2.NODE_STATE_TRUSTED)

    play(verifier, case)


def test_an_agent_of_the_first_release_is_told_to_update(verifier: RunningVerifier) -> None:
    async def case(scene: Entitled) -> None:
        async with scene.node.channel() as channel:
            call = key_release_pb2_grpc.KeyReleaseStub(channel).Release(timeout=10)
            old = b"\x0a\x40" + scene.model.digest.encode() + b"\x12\x03\x0a\x01k"  # fields 1 and 2: digest, slot
            ask = key_release_pb2.Ask.FromString(old)
            await call.write(key_release_pb2.ReleaseRequest(ask=ask))
            refusal = await refused(received(call))
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
        assert "update nodeseal-agent" in refusal.details

    play(verifier, case)


def test_one_node_cannot_ask_without_end(tmp_path: Path) -> None:
    async def case(scene: Entitled) -> None:
        foreign = replace(scene.model.slot, key_id=KeyId("somebody-elses"))
        codes = [(await scene.denied(slots=[foreign])).code for _ in range(6)]
        assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes

    with a_verifier(tmp_path, start=False) as verifier:
        text = (verifier.folder / "verifier.yaml").read_text()
        (verifier.folder / "verifier.yaml").write_text(text.replace("per_minute: 60", "per_minute: 5"))
        verifier.start()
        play(verifier, case)


def test_without_its_database_a_verifier_releases_nothing_and_recovers_by_itself(tmp_path: Path) -> None:
    async def case(scene: Entitled) -> None:
        blocker = sqlite3.connect(scene.verifier.folder / "verifier.sqlite", isolation_level=None)
        blocker.execute("BEGIN EXCLUSIVE")
        refusal = await scene.denied()
        assert refusal.code is grpc.StatusCode.UNAVAILABLE
        async with scene.node.attesting() as stream:
            assert (await stream.round()).state == attestation_pb2.NODE_STATE_TRUSTED  # steady rounds need no disk
            scene.node.tpm.extend(4, EXTENDED)
            assert (await stream.round()).state == attestation_pb2.NODE_STATE_UNTRUSTED  # nor does distrust
        blocker.execute("ROLLBACK")
        blocker.close()
        subject = f"node/{scene.node.node_id}"
        for _ in range(100):
            states = [
                record["details"].get("state") for record in scene.verifier.records() if record["subject"] == subject
            ]
            if states[-1] == "untrusted":
                break
            await asyncio.sleep(0.1)
        assert states[-1] == "untrusted"
        assert (await scene.denied()).findings == ("release.node-state", "pcr.mismatch")

    with a_verifier(tmp_path, trust_seconds=60, answer_within_seconds=20) as verifier:
        play(verifier, case)


def test_leases_of_a_model_that_an_older_release_retired_end_when_the_verifier_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verifier of 0.1 retired models without ending their leases."""

    async def case(older: RunningVerifier) -> None:
        async with in_process(older), entitled(older) as scene:
            lease = (await scene.release()).lease_id
            with monkeypatch.context() as patch:
                patch.setattr(restrictions, "ending_of", lambda _: None)
                patch.setattr(overlay, "ending_of", lambda _: None)
                retire = admin_pb2.RetireModelRequest(digest=scene.model.digest, reason="flawed")
                await scene.admin.models.RetireModel(retire)
        assert "lease.ended" not in [each["action"] for each in older.records()]
        async with in_process(older):
            ended = [each["details"] for each in older.records() if each["action"] == "lease.ended"]
            assert [(each["lease_id"], each["cause"]) for each in ended] == [(lease, "revocation")]

    with a_verifier(tmp_path, start=False, interval_seconds=20) as older:
        asyncio.run(case(older))
