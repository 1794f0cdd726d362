"""Replies and proofs that are not one's own, nodes that may not have what they ask for, and slots of other models.

Each case changes one fact of a release that succeeds: nothing is released, no lease begins, the denial is recorded.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace

import grpc
import pytest
from grpc import aio

from nodeseal.errors import NodesealError, OutOfOrder
from nodeseal.ids import KeyId
from nodeseal.sealed.slots import Slot, parse_slots
from nodeseal.v1 import admin_pb2, key_release_pb2, key_release_pb2_grpc
from support.admin import a_sealed_model, activate, grant
from support.agents import eventually
from support.damage import flipped
from support.fake_node import a_node
from support.releases import MANY, Case, Challenge, Proof, Scene, Stage, attest, joined, lease_rows, play
from support.verifier import received, refusal_of, refused

OTHER = hashlib.sha256(b"something else").digest()


# k04: replies and proofs that are not one's own


def test_k04_a_reply_opens_on_no_other_node_and_not_after_a_reset(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        released = await scene.node.release(scene.model.digest, [scene.model.slot])
        thief = await joined(scene.verifier)
        thief.release_key = scene.node.release_key
        with pytest.raises(OutOfOrder):
            thief.open(released)  # its TPM does not hold the key
        selection = scene.node.release_key[1]
        thief.release_key = (thief.tpm.create_release_key(selection), selection)
        with pytest.raises(NodesealError):
            thief.open(released)  # its own key is another one
        assert scene.node.open(released) == scene.model.data_key
        scene.node.tpm.reset()
        with pytest.raises(OutOfOrder):
            scene.node.open(released)

    play(stage, case)


def test_k04_a_reply_opens_only_with_its_own_context(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        released = await scene.node.release(scene.model.digest, [scene.model.slot])
        renamed = key_release_pb2.Released()
        renamed.CopyFrom(released)
        renamed.context = released.context.replace(scene.node.node_id.encode(), b"n-" + b"a" * 26)
        assert renamed.context != released.context
        with pytest.raises(NodesealError):
            scene.node.open(renamed)

    play(stage, case)


async def recorded_proof(scene: Scene) -> Proof:
    """Let the node open the model, and return the proof that it sent."""
    async with scene.node.releasing(scene.model.ask()) as release:
        proof = scene.node.proof(release.challenge)
        await release.prove(proof)
    return proof


def test_k04_a_proof_replayed_by_its_own_node_releases_nothing(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        proof = await recorded_proof(scene)
        assert (await scene.refused(lambda _node, _challenge: proof)).findings == ("quote.nonce",)

    play(stage, case)


def test_k04_a_proof_replayed_by_another_node_releases_nothing(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        thief = await joined(scene.verifier)
        await grant(scene.admin, thief, scene.model.slot.key_id)
        proof, theft = await recorded_proof(scene), replace(scene, node=thief)
        assert (await theft.refused(lambda _node, _challenge: proof)).findings == ("quote.signature",)

    play(stage, case)


def test_k04_a_challenge_relayed_to_a_trusted_node_releases_nothing(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        thief = await joined(scene.verifier)
        await grant(scene.admin, thief, scene.model.slot.key_id)
        theft = replace(scene, node=thief)
        honest = scene.node
        refusal = await theft.refused(lambda _thief, challenge: honest.proof(challenge))
        assert refusal.findings == ("quote.signature",)

    play(stage, case)


# k05: who may have what


async def _revoke(scene: Scene, node_id: str = "") -> None:
    request = admin_pb2.RevokeKeyRequest(key_id=scene.model.slot.key_id, node_id=node_id, reason="stolen")
    await scene.admin.keys.RevokeKey(request)


async def _take_the_grant(scene: Scene) -> None:
    await _revoke(scene, scene.node.node_id)


async def _quarantine(scene: Scene) -> None:
    request = admin_pb2.QuarantineNodeRequest(node_id=scene.node.node_id, reason="odd")
    await scene.admin.nodes.QuarantineNode(request)


async def _use_up_the_grant(scene: Scene) -> None:
    await scene.node.release(scene.model.digest, [scene.model.slot])


async def _retire_the_model(scene: Scene) -> None:
    request = admin_pb2.RetireModelRequest(digest=scene.model.digest, reason="flawed")
    await scene.admin.models.RetireModel(request)


REASONS: dict[str, tuple[Case, tuple[str, ...], str]] = {
    "its grant was taken away": (_take_the_grant, ("release.not-granted",), "no grant for n-"),
    "the key was revoked": (_revoke, ("release.not-granted",), "the key was revoked"),
    "it was quarantined": (_quarantine, ("release.node-state",), "quarantined"),
    "the model was retired": (_retire_the_model, ("release.model-retired",), "retired since 20"),
    "its leases are used up": (_use_up_the_grant, ("release.lease-limit",), "at most 1 leases"),
}


@pytest.mark.parametrize("when", ["before it asks", "between challenge and proof"])
@pytest.mark.parametrize(("change", "findings", "reason"), REASONS.values(), ids=REASONS)
def test_k05_a_node_gets_no_key_when(
    stage: Stage, change: Case, findings: tuple[str, ...], reason: str, when: str
) -> None:
    async def case(scene: Scene) -> None:
        if when == "before it asks":
            await change(scene)
        refusal = await scene.refused(meanwhile=None if when == "before it asks" else lambda: change(scene))
        assert (refusal.code, refusal.findings) == (grpc.StatusCode.PERMISSION_DENIED, findings)
        assert reason in refusal.details

    play(stage, case)


def test_k05_a_grant_serves_no_other_node(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        neighbour = replace(scene, node=await joined(scene.verifier))
        refusal = await neighbour.refused()
        assert refusal.findings == ("release.not-granted",)
        assert f"no grant for {neighbour.node.node_id}" in refusal.details
        await scene.opens()

    play(stage, case)


def test_k05_a_node_that_nobody_admitted_gets_no_key_even_with_a_grant(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        pending = a_node(scene.verifier)
        await pending.enrol()
        async with pending.attesting() as stream:
            await stream.round()  # its state would be good
        await grant(scene.admin, pending, scene.model.slot.key_id)
        refusal = await replace(scene, node=pending).refused()
        assert (refusal.findings, "pending" in refusal.details) == (("release.node-state",), True)

    play(stage, case)


def test_k05_a_retired_node_is_not_even_heard(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        request = admin_pb2.RetireNodeRequest(node_id=scene.node.node_id, reason="scrapped")
        await scene.admin.nodes.RetireNode(request)
        leases = lease_rows(scene.verifier)
        async with scene.node.channel() as channel:
            refusal = await refused(received(key_release_pb2_grpc.KeyReleaseStub(channel).Release(timeout=20)))
        assert (refusal.findings, lease_rows(scene.verifier)) == (("node.retired",), leases)

    play(stage, case)


@pytest.mark.parametrize(
    ("when", "found"),
    [
        ("before it asks", ("golden.none",)),
        ("between challenge and proof", ("release.node-state", "golden.none")),
    ],
)
def test_k05_a_golden_that_was_retired_opens_nothing(stage: Stage, when: str, found: tuple[str, ...]) -> None:
    async def case(scene: Scene) -> None:
        (golden,) = (await scene.admin.goldens.ListGoldens(admin_pb2.ListGoldensRequest())).goldens

        async def retire() -> None:
            await scene.admin.goldens.RetireGolden(admin_pb2.RetireGoldenRequest(digest=golden.digest))

        if when == "before it asks":
            await retire()
        try:
            refusal = await scene.refused(meanwhile=None if when == "before it asks" else retire)
            assert refusal.findings[-len(found) :] == found  # a round may have come between
        finally:
            await activate(scene.admin, await _document(scene, golden.digest))
        await attest(scene.node)
        await scene.opens()

    play(stage, case)


async def _document(scene: Scene, digest: str) -> bytes:
    parts = scene.admin.goldens.GetGolden(admin_pb2.GetGoldenRequest(digest=digest))
    return b"".join([part.document async for part in parts])


async def _quarantine_it(scene: Scene, _: str) -> None:
    await _quarantine(scene)


async def _retire(scene: Scene, golden: str) -> None:
    await scene.admin.goldens.RetireGolden(admin_pb2.RetireGoldenRequest(digest=golden))


@pytest.mark.parametrize(
    ("decision", "found"),
    [(_quarantine_it, ("release.node-state",)), (_retire, ("release.node-state", "golden.none"))],
)
def test_k05_a_decision_made_while_a_proved_release_waits_for_the_disk_still_counts(
    stage: Stage, decision: Callable[[Scene, str], Awaitable[None]], found: tuple[str, ...]
) -> None:
    async def case(scene: Scene) -> None:
        (golden,) = (await scene.admin.goldens.ListGoldens(admin_pb2.ListGoldensRequest())).goldens
        document = await _document(scene, golden.digest)
        disk = sqlite3.connect(scene.verifier.folder / "verifier.sqlite", isolation_level=None)
        tasks: list[asyncio.Future[object]] = []

        async def unblock() -> None:
            await asyncio.sleep(0.4)  # by now the proof has been found good
            disk.execute("ROLLBACK")

        async def block() -> None:
            disk.execute("BEGIN IMMEDIATE")
            for work in (a_sealed_model(scene.admin, scene.model.slot.key_id, "other"), decision(scene, golden.digest)):
                tasks.append(asyncio.ensure_future(work))
                await asyncio.sleep(0.2)  # by now it waits for the verifier's one thread that writes
            tasks.append(asyncio.ensure_future(unblock()))

        try:
            refusal = await scene.refused(meanwhile=block)
            assert refusal.findings == found
        finally:
            await asyncio.gather(*tasks)
            disk.close()
            if decision is _retire:
                await activate(scene.admin, document)

    play(stage, case)


def test_k08_a_node_that_hangs_up_while_its_lease_is_recorded_leaves_no_lease_behind(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        disk = sqlite3.connect(scene.verifier.folder / "verifier.sqlite", isolation_level=None)

        async def answer(challenge: Challenge) -> Proof:
            disk.execute("BEGIN IMMEDIATE")
            return scene.node.proof(challenge)

        asked = asyncio.create_task(scene.ask(answer))
        await asyncio.sleep(0.4)  # by now the record waits for the disk
        asked.cancel()
        await asyncio.wait({asked})
        await asyncio.sleep(0.2)
        disk.execute("ROLLBACK")
        await eventually(lambda: scene.node.node_id in lease_rows(scene.verifier).values())
        await scene.opens()
        running = "SELECT count(*) FROM leases WHERE ended IS NULL AND node_id = ?"
        assert disk.execute(running, (scene.node.node_id,)).fetchone() == (0,)
        disk.close()

    play(stage, case)


def test_k05_a_model_that_nobody_registered_is_refused_by_its_digest(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        unknown = replace(scene, model=replace(scene.model, digest=OTHER.hex()))
        refusal = await unknown.refused()
        assert (refusal.findings, OTHER.hex() in refusal.details) == (("release.model-unregistered",), True)

    play(stage, case, fresh=False)


def test_k05_every_reason_is_named_at_once(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        await _quarantine(scene)
        await _revoke(scene)
        unknown = replace(scene, model=replace(scene.model, digest=OTHER.hex()))
        assert (await unknown.refused()).findings == (
            "release.node-state",
            "release.model-unregistered",
            "release.not-granted",
        )

    play(stage, case)


def test_k05_releases_at_once_do_not_pass_the_limit_together(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        challenged = asyncio.Barrier(5)

        async def answer(challenge: Challenge) -> Proof:
            await challenged.wait()
            return scene.node.proof(challenge)

        outcomes = await asyncio.gather(*(scene.ask(answer) for _ in range(5)), return_exceptions=True)
        refusals = [refusal_of(each).findings for each in outcomes if isinstance(each, aio.AioRpcError)]
        assert refusals == [("release.lease-limit",)] * 3
        assert list(lease_rows(scene.verifier).values()).count(scene.node.node_id) == 2

    play(stage, case, max_leases=2)


# s09: a whole older version in the place of the newer one, and nobody names the one that is meant


def test_s09_an_older_version_that_was_retired_opens_no_more_and_gets_no_new_slots(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        key_id = scene.model.slot.key_id
        newer = replace(scene, model=await a_sealed_model(scene.admin, key_id, key_id, version=2))
        key = await scene.admin.keys.CreateKey(admin_pb2.CreateKeyRequest(key_id=f"{key_id}-new"))

        async def rewrap(each: Scene) -> admin_pb2.RewrapSlotsResponse:
            request = admin_pb2.RewrapSlotsRequest(slots=each.model.ask().slots, keys=[key.public])
            return await scene.admin.keys.RewrapSlots(request)

        await scene.opens()  # registering the newer version did not take it back
        await rewrap(scene)
        await _retire_the_model(scene)
        assert (await scene.refused()).findings == ("release.model-retired",)
        refusal = await refused(rewrap(scene))
        assert (refusal.findings, scene.model.digest in refusal.details) == (("release.model-retired",), True)
        await newer.opens()
        assert len(parse_slots((await rewrap(newer)).slots).slots) == 1

    play(stage, case, fresh=False, max_leases=MANY)


# k06: slots that belong elsewhere


def test_k06_the_slot_of_another_model_does_not_open(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        key_id = scene.model.slot.key_id
        newer = await a_sealed_model(scene.admin, key_id, key_id, version=2)
        swapped = replace(scene, model=replace(scene.model, slot=newer.slot))
        assert (await swapped.refused()).findings == ("release.slot",)
        await replace(scene, model=newer).opens()

    play(stage, case, fresh=False, max_leases=MANY)


def _renamed(slot: Slot) -> Slot:
    return replace(slot, key_id=KeyId("shared"))


def _of_another_version(slot: Slot) -> Slot:
    return replace(slot, key_version=2)


def _flipped(slot: Slot) -> Slot:
    return replace(slot, sealed=replace(slot.sealed, wrapped=flipped(slot.sealed.wrapped, 0)))


@pytest.mark.parametrize("forge", [_renamed, _of_another_version, _flipped])
def test_k06_a_slot_with_one_fact_changed_does_not_open(stage: Stage, forge: Callable[[Slot], Slot]) -> None:
    async def case(scene: Scene) -> None:
        swapped = replace(scene, model=replace(scene.model, slot=forge(scene.model.slot)))
        assert (await swapped.refused()).findings == ("release.slot",)
        await scene.opens()

    play(stage, case, fresh=False, max_leases=MANY)
