"""Attacks on activation and on who owns an id, over gRPC against a running verifier: rows e06 to e08."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

import grpc
import pytest

from nodeseal.errors import MalformedInput
from nodeseal.tpm.ek_template import template
from nodeseal.tpm.public import EccPublic, RsaPublic, TpmPublic
from nodeseal.v1 import admin_pb2, attestation_pb2, enrollment_pb2, enrollment_pb2_grpc
from nodeseal.v1.key_release_pb2 import Proof, ReleaseChallenge
from nodeseal.verifier.ledger.ledger import Ledger
from support.admin import a_sealed_model, grant, trusted_node
from support.attackers import enrolling, nothing_enrolled, refused_release, seen_by, twin_of
from support.damage import flipped
from support.enrolments import Scene, granted_node, sync_channel
from support.fake_node import FakeNode, a_node
from support.in_process import in_process
from support.machine_tpm import MachineTpm, tpm_of
from support.machines import a_machine, need
from support.verifier import Refusal, RunningVerifier, a_verifier, refusal_of, refused

# e06, e07: the challenge

WRONG_SECRETS: Mapping[str, Callable[[bytes], bytes]] = {
    "another": lambda secret: bytes(len(secret)),
    "nothing": lambda secret: secret[:0],
    "cut": lambda secret: secret[:-1],
    "with a byte more": lambda secret: secret + b"\0",
    "with a flipped bit": flipped,
}


@pytest.mark.parametrize("why", WRONG_SECRETS)
def test_e06_a_wrong_secret_ends_the_attempt_and_the_right_one_comes_too_late(
    verifier: RunningVerifier, why: str
) -> None:
    async def case() -> None:
        node = a_node(verifier)
        async with nothing_enrolled(verifier):
            refusal = await asyncio.to_thread(_two_answers, node, WRONG_SECRETS[why])
            assert (refusal.code, refusal.findings) == (grpc.StatusCode.UNAUTHENTICATED, ("ak.activation",))
        await node.enrol()

    asyncio.run(case())


def _two_answers(node: FakeNode, change: Callable[[bytes], bytes]) -> Refusal:
    """Answer a challenge with a changed secret and at once with the right one; return the refusal."""
    secrets: SimpleQueue[bytes] = SimpleQueue()

    def requests() -> Iterator[enrollment_pb2.EnrollRequest]:
        yield enrollment_pb2.EnrollRequest(identity=node.identity())
        secret = secrets.get(timeout=10)
        for answer in (change(secret), secret):
            yield enrollment_pb2.EnrollRequest(activation=enrollment_pb2.Activation(secret=answer))

    with sync_channel(node.verifier) as channel:
        call = enrollment_pb2_grpc.EnrollmentStub(channel).Enroll(requests(), timeout=20)
        challenge = next(call).challenge
        secrets.put(node.tpm.activate(challenge.id_object, challenge.encrypted_secret))
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        return refusal_of(caught.value)


def test_e07_a_secret_counts_on_its_own_stream_only(verifier: RunningVerifier) -> None:
    async def case() -> None:
        node = a_node(verifier)
        async with enrolling(verifier) as first, enrolling(verifier) as second:
            challenges = [await stream.show(node.identity()) for stream in (first, second)]
            secrets = [node.tpm.activate(each.id_object, each.encrypted_secret) for each in challenges]
            assert secrets[0] != secrets[1]
            async with nothing_enrolled(verifier):
                assert (await refused(second.answer(secrets[0]))).findings == ("ak.activation",)
            assert (await first.answer(secrets[0])).node_id

    asyncio.run(case())


def test_e07_a_challenge_of_yesterday_proves_nothing_today(verifier: RunningVerifier) -> None:
    async def case() -> None:
        node = a_node(verifier)
        async with enrolling(verifier) as stream:
            challenge = await stream.show(node.identity())
            secret = node.tpm.activate(challenge.id_object, challenge.encrypted_secret)
            await stream.answer(secret)
        async with nothing_enrolled(verifier), enrolling(verifier) as stream:
            again = await stream.show(node.identity())
            assert again != challenge
            assert (await refused(stream.answer(secret))).findings == ("ak.activation",)

    asyncio.run(case())


def test_e07_a_stream_takes_one_identity(verifier: RunningVerifier) -> None:
    """A challenge made for one identity must not enrol another that is shown afterwards."""

    async def case() -> None:
        node, other = a_node(verifier), a_node(verifier)
        async with nothing_enrolled(verifier), enrolling(verifier) as stream:
            await stream.show(node.identity())
            assert (await refused(stream.show(other.identity()))).code is grpc.StatusCode.FAILED_PRECONDITION

    asyncio.run(case())


# e08: who owns an id


def test_e08_another_tpm_cannot_claim_an_id(verifier: RunningVerifier) -> None:
    async def case() -> None:
        owner, thief = a_node(verifier), a_node(verifier)
        await owner.enrol()
        claimed = owner.identity(
            ak_public=thief.tpm.ak.encode(), certificate_request=thief.identity().certificate_request
        )
        async with owner.attesting() as stream, verifier.person() as admin:
            await stream.round()
            async with nothing_enrolled(verifier), enrolling(verifier) as attempt:
                challenge = await attempt.show(claimed)
                with pytest.raises(MalformedInput):
                    thief.tpm.activate(challenge.id_object, challenge.encrypted_secret)
                assert (await refused(attempt.answer(bytes(32)))).findings == ("ak.activation",)
            assert (await seen_by(admin, owner)).ak_name == owner.tpm.ak.name().hex()
            assert (await stream.round()).state == attestation_pb2.NODE_STATE_PENDING

    asyncio.run(case())


def test_e08_two_enrolments_of_one_key_at_once_leave_one_attestation_key_and_two_records(
    verifier: RunningVerifier,
) -> None:
    async def case() -> None:
        first = a_node(verifier)
        second = FakeNode(verifier, twin_of(first.tpm, verifier.vendor))
        nodes = (first, second)
        async with enrolling(verifier) as one, enrolling(verifier) as two, verifier.person() as admin:
            streams = (one, two)
            shown = [await stream.show(node.identity()) for stream, node in zip(streams, nodes, strict=True)]
            secrets = [
                node.tpm.activate(each.id_object, each.encrypted_secret)
                for node, each in zip(nodes, shown, strict=True)
            ]
            enrolled = await asyncio.gather(*(stream.answer(s) for stream, s in zip(streams, secrets, strict=True)))
            for node, done in zip(nodes, enrolled, strict=True):
                node.node_id, node.chain = done.node_id, tuple(done.certificate_chain)
            assert first.node_id == second.node_id
            active = (await seen_by(admin, first)).ak_name
        subject = f"node/{first.node_id}"
        recorded = [each["details"] for each in verifier.records() if each["subject"] == subject]
        names = [node.tpm.ak.name().hex() for node in nodes]
        assert sorted(each["ak_name"] for each in recorded) == sorted(names)
        assert [each["previous_ak_name"] for each in recorded] == ["", recorded[0]["ak_name"]]
        assert active == recorded[1]["ak_name"]
        winner, loser = sorted(nodes, key=lambda node: node.tpm.ak.name().hex() != active)
        async with winner.attesting() as stream:
            assert (await stream.round()).state == attestation_pb2.NODE_STATE_PENDING
        async with loser.attesting() as stream:
            assert (await stream.end()).findings == ("node.unknown",)
        winner.tpm, loser.tpm = loser.tpm, winner.tpm  # the certificate that counts, and the key that does not
        async with winner.attesting() as stream:
            assert [finding.id for finding in (await stream.round()).findings] == ["quote.signature"]

    asyncio.run(case())


def test_e08_a_retired_id_is_refused_before_and_after_its_challenge(verifier: RunningVerifier) -> None:
    async def case() -> None:
        node = a_node(verifier)
        await node.enrol()
        async with verifier.person() as admin, enrolling(verifier) as stream:
            challenge = await stream.show(node.identity())
            await admin.nodes.RetireNode(admin_pb2.RetireNodeRequest(node_id=node.node_id, reason="sold"))
            async with nothing_enrolled(verifier), enrolling(verifier) as another:
                secret = node.tpm.activate(challenge.id_object, challenge.encrypted_secret)
                assert (await refused(stream.answer(secret))).findings == ("node.retired",)
                assert (await refused(another.show(node.identity()))).findings == ("node.retired",)

    asyncio.run(case())


def test_e08_nobody_takes_a_retired_node_back(verifier: RunningVerifier) -> None:
    async def case() -> None:
        node = a_node(verifier)
        await node.enrol()
        async with verifier.person() as admin:
            nodes, node_id = admin.nodes, node.node_id
            await nodes.RetireNode(admin_pb2.RetireNodeRequest(node_id=node_id, reason="sold"))
            async with nothing_enrolled(verifier):
                for attempt in (
                    nodes.AdmitNode(admin_pb2.AdmitNodeRequest(node_id=node_id)),
                    nodes.QuarantineNode(admin_pb2.QuarantineNodeRequest(node_id=node_id, reason="back?")),
                    nodes.RetireNode(admin_pb2.RetireNodeRequest(node_id=node_id, reason="again")),
                ):
                    assert (await refused(attempt)).code is grpc.StatusCode.FAILED_PRECONDITION
            assert (await seen_by(admin, node)).state == attestation_pb2.NODE_STATE_RETIRED

    asyncio.run(case())


@pytest.mark.parametrize(("real", "claimed"), [("L-1", "H-1"), ("L-2", "H-2"), ("H-1", "L-1"), ("H-2", "L-2")])
def test_e08_a_retired_key_does_not_come_back_under_another_template(
    verifier: RunningVerifier, real: str, claimed: str
) -> None:
    """A certificate covers a key, and so does a credential: attributes and policy are its holder's own word."""
    need("swtpm")

    async def case(tpm: MachineTpm) -> None:
        node = FakeNode(verifier, tpm)
        await node.enrol()
        async with verifier.person() as admin:
            await admin.nodes.RetireNode(admin_pb2.RetireNodeRequest(node_id=node.node_id, reason="sold"))
        async with nothing_enrolled(verifier):
            disguised = node.identity(ek_public=_disguised(tpm.ek, claimed).encode())
            assert (await refused(node.enrol(disguised))).findings == ("node.retired",)

    with a_machine(verifier.vendor, ek=real) as machine, tpm_of(machine) as tpm:
        asyncio.run(case(tpm))


def _disguised(ek: TpmPublic, name: str) -> TpmPublic:
    """Return the public area that the same key would have under another template."""
    public = template(name).public
    if isinstance(ek, RsaPublic) and isinstance(public, RsaPublic):
        return replace(public, modulus=ek.modulus)
    assert isinstance(ek, EccPublic)
    assert isinstance(public, EccPublic)
    return replace(public, x=ek.x, y=ek.y)


def test_e08_enrolling_again_takes_trust_and_leases_from_the_replaced_key(scene: Scene) -> None:
    verifier, model = scene.verifier, scene.model

    async def case() -> None:
        async with verifier.person() as admin:
            node = await granted_node(scene, admin)
            released = await node.release(model.digest, [model.slot])
            again = FakeNode(verifier, twin_of(node.tpm, verifier.vendor))
            async with node.attesting() as stream:
                assert (await stream.round()).state == attestation_pb2.NODE_STATE_TRUSTED
                await again.enrol()
                assert list((await stream.revocation()).lease_ids) == [released.lease_id]
                assert "enrolled again" in (await stream.end()).details
            known = await seen_by(admin, node)
            assert (known.state, list(known.leases)) == (attestation_pb2.NODE_STATE_STALE, [])
            assert verifier.actions(f"lease/{released.lease_id}") == ["lease.issued", "lease.ended"]
            refusal = await refused(again.release(model.digest, [model.slot]))
            assert refusal.findings == ("release.node-state",)
            async with again.attesting() as stream:
                challenge = await stream.challenge()
                assert challenge.values_required  # what the old key proved is not taken for the new one's word
                await stream.send(again.evidence(challenge))
                assert (await stream.verdict()).state == attestation_pb2.NODE_STATE_TRUSTED

    asyncio.run(case())


def test_e08_a_proof_under_way_by_the_replaced_key_releases_nothing(scene: Scene) -> None:
    """The challenge went out before the node enrolled again; its answer, by the old key, comes afterwards."""

    async def case() -> None:
        async with scene.verifier.person() as admin:
            node = await granted_node(scene, admin)

            async def enrol_again(node: FakeNode, challenge: ReleaseChallenge) -> Proof:
                await FakeNode(scene.verifier, twin_of(node.tpm, scene.verifier.vendor)).enrol()
                return node.proof(challenge)

            refusal = await refused_release(node, scene.model, enrol_again)
            assert (await seen_by(admin, node)).state == attestation_pb2.NODE_STATE_STALE
        assert (refusal.code, refusal.findings) == (grpc.StatusCode.UNAUTHENTICATED, ("quote.nonce",))

    asyncio.run(case())


def test_e08_a_proof_that_waits_for_the_database_behind_an_enrolment_releases_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old key's answer is judged good while the enrolment of the new key is being written."""
    reached, go_on = asyncio.Event(), asyncio.Event()
    write = Ledger._write_some

    async def slow(ledger: Ledger) -> None:
        if not reached.is_set():
            reached.set()
            await go_on.wait()
        await write(ledger)

    async def case(verifier: RunningVerifier) -> None:
        async with in_process(verifier), verifier.person() as admin:
            node = await trusted_node(verifier)
            model = await a_sealed_model(admin)
            await grant(admin, node)
            node.leases = ("l-" + "a" * 26,)  # a lease that nobody knows: the round is no steady one

            async def race(node: FakeNode, challenge: ReleaseChallenge) -> Proof:
                monkeypatch.setattr(Ledger, "_write_some", slow)
                tasks.append(asyncio.create_task(FakeNode(verifier, twin_of(node.tpm, verifier.vendor)).enrol()))
                await asyncio.wait_for(reached.wait(), 10)
                asyncio.get_running_loop().call_later(0.3, go_on.set)
                return node.proof(challenge)

            tasks: list[asyncio.Task[None]] = []
            refusal = await refused_release(node, model, race)
            await tasks[0]
            assert "release.node-state" in refusal.findings
            assert (await seen_by(admin, node)).state == attestation_pb2.NODE_STATE_STALE

    with a_verifier(tmp_path, start=False, interval_seconds=0) as verifier:
        asyncio.run(case(verifier))
