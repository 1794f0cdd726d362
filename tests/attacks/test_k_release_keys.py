"""Release keys that would open more than the proved state of one TPM, and nodes that may not have what they ask for.

Each case starts from a node that is trusted and may open a model, changes one fact, and is refused: nothing is
released, no lease begins, the denial is recorded. The same node then opens the model honestly.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace

import grpc
import pytest
from grpc import aio

from nodeseal.crypto.synthetic import SyntheticKey
from nodeseal.errors import NodesealError, OutOfOrder
from nodeseal.evidence import Purpose
from nodeseal.swtpm.synthetic import SyntheticTpm
from nodeseal.tcg.algorithms import Alg, CurveId, HashAlg, ObjectAttributes
from nodeseal.tcg.attest import decode_attest, encode_attest
from nodeseal.tcg.pcr import PcrSelection, pcr_digest
from nodeseal.tcg.policy import policy_pcr
from nodeseal.tcg.public import Scheme
from nodeseal.v1 import admin_pb2, key_release_pb2
from support.releases import (
    Challenge,
    Forge,
    Proof,
    Scene,
    activate_golden_of,
    attest,
    certified,
    held_by_tpm,
    honest_key,
    joined,
    lease_rows,
)
from support.verifier import (
    FakeNode,
    RunningVerifier,
    a_node,
    a_sealed_model,
    a_verifier,
    grant,
    refusal_of,
    selection_of,
    set_config,
)

OTHER = hashlib.sha256(b"something else").digest()
EXTENDED = {HashAlg.SHA256: OTHER}
MANY = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A verifier with one golden, and a trusted node that lasts for the whole module."""

    verifier: RunningVerifier
    node: FakeNode


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with a_verifier(tmp_path_factory.mktemp("k"), start=False, interval_seconds=20, trust_seconds=120) as verifier:
        config = verifier.folder / "verifier.yaml"
        config.write_text(config.read_text().replace("per_minute: 60", "per_minute: 100000"))
        set_config(verifier, concurrent=16)
        verifier.start()

        async def prepare() -> FakeNode:
            async with verifier.person() as admin:
                node = await joined(verifier, admin)
                await activate_golden_of(admin, node)
                await attest(node)
                await a_sealed_model(admin, "shared", "shared")
                await grant(admin, node, "shared", MANY)
            return node

        yield Stage(verifier=verifier, node=asyncio.run(prepare()))


Case = Callable[[Scene], Awaitable[None]]


def play(stage: Stage, case: Case, *, fresh: bool = True, max_leases: int = 1) -> None:
    """Run ``case`` with a model of its own, and with a node of its own unless it does no harm to the shared one."""

    async def whole() -> None:
        async with stage.verifier.person() as admin:
            node = await joined(stage.verifier, admin) if fresh else stage.node
            name = f"m-{OTHER.hex()[:8]}-{len(stage.verifier.records())}"
            model = await a_sealed_model(admin, name, name)
            await grant(admin, node, name, max_leases)
            await case(Scene(verifier=stage.verifier, admin=admin, node=node, model=model))

    asyncio.run(whole())


# k01: the release key


def without(attribute: ObjectAttributes) -> Forge:
    return lambda node, challenge: _with_attributes(node, challenge, ~attribute, ObjectAttributes(0))


def having(attribute: ObjectAttributes) -> Forge:
    return lambda node, challenge: _with_attributes(node, challenge, ~ObjectAttributes(0), attribute)


def _with_attributes(node: FakeNode, challenge: Challenge, keep: ObjectAttributes, add: ObjectAttributes) -> Proof:
    key = honest_key(node, challenge)
    return certified(node, challenge, held_by_tpm(node, replace(key, attributes=(key.attributes & keep) | add)))


def under(policy: Callable[[FakeNode, PcrSelection], bytes]) -> Forge:
    """Give a genuine key of the TPM another policy."""

    def forge(node: FakeNode, challenge: Challenge) -> Proof:
        digest = policy(node, selection_of(challenge.policy_selection))
        return certified(node, challenge, held_by_tpm(node, replace(honest_key(node, challenge), auth_policy=digest)))

    return forge


def over(*pcrs: int) -> Callable[[FakeNode, PcrSelection], bytes]:
    """Return PolicyPCR over the present values of other PCRs."""

    def policy(node: FakeNode, _: PcrSelection) -> bytes:
        selection = PcrSelection.of({HashAlg.SHA256: list(pcrs)})
        return policy_pcr(selection, pcr_digest(HashAlg.SHA256, node.tpm.read_pcrs(selection)))

    return policy


def of_other_values(node: FakeNode, selection: PcrSelection) -> bytes:
    values = [*node.tpm.read_pcrs(selection)]
    values[4] = OTHER
    return policy_pcr(selection, pcr_digest(HashAlg.SHA256, values))


def in_software(node: FakeNode, challenge: Challenge) -> Proof:
    """The attacker's own key, which looks as it should; the TPM certified another one."""
    key = SyntheticKey()
    return node.proof(challenge, release_public=replace(honest_key(node, challenge), x=key.x, y=key.y).encode())


def in_software_self_certified(node: FakeNode, challenge: Challenge) -> Proof:
    """The same, certified by a TPM that is all software."""
    attacker = SyntheticTpm(node.verifier.vendor)
    attacker._pcrs = node.tpm._pcrs
    key = attacker.create_release_key(selection_of(challenge.policy_selection))
    attestation = attacker.certify(key, node.qualifying(challenge.challenge, Purpose.RELEASE))
    return node.proof(
        challenge,
        release_public=key.encode(),
        certify_attest=attestation.attest,
        certify_signature=attestation.signature,
    )


def not_certified(node: FakeNode, challenge: Challenge) -> Proof:
    return node.proof(challenge, certify_attest=b"", certify_signature=b"")


def certified_by_a_quote(node: FakeNode, challenge: Challenge) -> Proof:
    quote = node.evidence(challenge.challenge, Purpose.RELEASE)
    return node.proof(challenge, certify_attest=quote.attest, certify_signature=quote.signature)


def certified_for(change: Callable[[Challenge], tuple[Challenge, Purpose]]) -> Forge:
    """Certify the very key, but with other qualifying data."""

    def forge(node: FakeNode, challenge: Challenge) -> Proof:
        key = honest_key(node, challenge)
        other, purpose = change(challenge)
        attestation = node.tpm.certify(key, node.qualifying(other.challenge, purpose))
        return node.proof(
            challenge,
            release_public=key.encode(),
            certify_attest=attestation.attest,
            certify_signature=attestation.signature,
        )

    return forge


def _another_challenge(challenge: Challenge) -> tuple[Challenge, Purpose]:
    other = key_release_pb2.ReleaseChallenge()
    other.CopyFrom(challenge)
    other.challenge.nonce = OTHER
    return other, Purpose.RELEASE


def name_edited(node: FakeNode, challenge: Challenge) -> Proof:
    """A certification of a good key, with the attacker's key's name written over it after signing."""
    proof = node.proof(challenge)
    attacker = SyntheticKey()
    public = replace(honest_key(node, challenge), x=attacker.x, y=attacker.y)
    attested = decode_attest(proof.certify_attest)
    edited = replace(attested, attested=replace(attested.certified, name=public.name()))
    return Proof(
        evidence=proof.evidence,
        release_public=public.encode(),
        certify_attest=encode_attest(edited),
        certify_signature=proof.certify_signature,
    )


def without_fixed_tpm_and_policy(node: FakeNode, challenge: Challenge) -> Proof:
    key = honest_key(node, challenge)
    attributes = key.attributes & ~ObjectAttributes.FIXED_TPM
    return certified(node, challenge, held_by_tpm(node, replace(key, attributes=attributes, auth_policy=b"")))


def of_kind(**changes: object) -> Forge:
    return lambda node, challenge: certified(
        node,
        challenge,
        held_by_tpm(node, replace(honest_key(node, challenge), **changes)),  # type: ignore[arg-type]
    )


def on_another_curve(node: FakeNode, challenge: Challenge) -> Proof:
    key = replace(honest_key(node, challenge), curve=CurveId.P384, x=bytes(47) + b"\1", y=bytes(47) + b"\2")
    node.tpm._release_keys[key.name()] = SyntheticKey()
    return certified(node, challenge, key)


def attestation_key(node: FakeNode, challenge: Challenge) -> Proof:
    node.tpm._release_keys[node.tpm.ak.name()] = node.tpm._ak
    return certified(node, challenge, node.tpm.ak)


FORGED_KEYS: dict[str, tuple[Forge, str]] = {
    "in software, while the TPM certified another key": (in_software, "release.certify"),
    "in software, certified by the attacker's own attestation key": (in_software_self_certified, "release.certify"),
    "not certified at all": (not_certified, "release.certify"),
    "with a quote where the certification is due": (certified_by_a_quote, "release.certify"),
    "with its name written into the certification of another": (name_edited, "release.certify"),
    "certified for another challenge": (certified_for(_another_challenge), "release.certify"),
    "certified for another purpose": (certified_for(lambda same: (same, Purpose.ATTEST)), "release.certify"),
    "without fixedTPM": (without(ObjectAttributes.FIXED_TPM), "release.key"),
    "without fixedParent": (without(ObjectAttributes.FIXED_PARENT), "release.key"),
    "without sensitiveDataOrigin": (without(ObjectAttributes.SENSITIVE_DATA_ORIGIN), "release.key"),
    "without decrypt": (without(ObjectAttributes.DECRYPT), "release.key"),
    "without noDA": (without(ObjectAttributes.NO_DA), "release.key"),
    "with userWithAuth": (having(ObjectAttributes.USER_WITH_AUTH), "release.key"),
    "with adminWithPolicy": (having(ObjectAttributes.ADMIN_WITH_POLICY), "release.key"),
    "with sign": (having(ObjectAttributes.SIGN_ENCRYPT), "release.key"),
    "restricted": (having(ObjectAttributes.RESTRICTED), "release.key"),
    "with encryptedDuplication": (having(ObjectAttributes.ENCRYPTED_DUPLICATION), "release.key"),
    "that is the attestation key": (attestation_key, "release.key"),
    "on another curve": (on_another_curve, "release.key"),
    "with another name algorithm": (of_kind(name_alg=HashAlg.SHA384, auth_policy=bytes(48)), "release.key"),
    "with a signing scheme": (of_kind(scheme=Scheme(Alg.ECDSA, HashAlg.SHA256)), "release.key"),
    "without a policy": (under(lambda _node, _selection: b""), "release.policy"),
    "with a policy of the attacker's": (under(lambda _node, _selection: OTHER), "release.policy"),
    "with a policy that leaves out the cap PCR": (under(over(0, 1, 2, 3, 4, 5, 6, 7)), "release.policy"),
    "with a policy that leaves out a golden's PCR": (under(over(0, 1, 2, 3, 5, 6, 7, 15)), "release.policy"),
    "with a policy over the cap PCR alone": (under(over(15)), "release.policy"),
    "with a policy over values that were not quoted": (under(of_other_values), "release.policy"),
}


@pytest.mark.parametrize(("forge", "finding"), FORGED_KEYS.values(), ids=FORGED_KEYS)
def test_k01_a_release_key_is_refused(stage: Stage, forge: Forge, finding: str) -> None:
    async def case(scene: Scene) -> None:
        assert set((await scene.refused(forge)).findings) == {finding}
        await scene.opens()

    play(stage, case, fresh=False)


def test_k01_two_wrong_facts_are_both_named(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        def forge(node: FakeNode, challenge: Challenge) -> Proof:
            proof = under(over(15))(node, challenge)
            proof.certify_signature = b""
            return proof

        assert (await scene.refused(forge)).findings == ("release.certify", "release.policy")

    play(stage, case, fresh=False)


# k02: the state at the time of the release


@pytest.mark.parametrize("pcr", [0, 4, 7])
def test_k02_a_pcr_extended_since_the_last_round_refuses_the_release_and_is_named(stage: Stage, pcr: int) -> None:
    async def case(scene: Scene) -> None:
        await scene.opens()
        scene.node.tpm.extend(pcr, EXTENDED)
        refusal = await scene.refused()
        assert refusal.findings == ("release.node-state", "pcr.mismatch")
        assert f"sha256 PCR {pcr}, golden rack-a" in refusal.details
        again = await scene.refused()
        assert (again.findings, f"PCR {pcr}," in again.details) == (("release.node-state", "pcr.mismatch"), True)

    play(stage, case)


def test_k02_a_cap_pcr_extended_since_refuses_the_release(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        scene.node.tpm.extend(15, EXTENDED)
        assert (await scene.refused()).findings == ("release.node-state", "pcr.capped")

    play(stage, case)


def test_k02_one_refusal_names_every_pcr_and_every_fault_of_the_key(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        for pcr in (2, 5):
            scene.node.tpm.extend(pcr, EXTENDED)
        refusal = await scene.refused(without(ObjectAttributes.FIXED_TPM))
        assert refusal.findings == ("release.node-state", "pcr.mismatch", "pcr.mismatch", "release.key")
        assert ("PCR 2," in refusal.details, "PCR 5," in refusal.details) == (True, True)

    play(stage, case)


def test_k02_values_of_before_the_extend_are_not_the_quoted_ones(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        def forge(node: FakeNode, challenge: Challenge) -> Proof:
            before = node.tpm.read_pcrs(selection_of(challenge.challenge.pcr_selection))
            node.tpm.extend(4, EXTENDED)
            proof = node.proof(challenge)
            del proof.evidence.pcr_values[:]
            proof.evidence.pcr_values.extend(before)
            return proof

        assert (await scene.refused(forge)).findings == ("pcr.digest",)

    play(stage, case)


def test_k02_values_left_out_are_not_taken_from_before(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        def forge(node: FakeNode, challenge: Challenge) -> Proof:
            node.tpm.extend(4, EXTENDED)
            proof = node.proof(challenge)
            del proof.evidence.pcr_values[:]
            return proof

        assert (await scene.refused(forge)).findings == ("pcr.digest",)

    play(stage, case)


def test_k02_a_node_that_rebooted_and_shows_no_values_gets_nothing(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        def forge(node: FakeNode, challenge: Challenge) -> Proof:
            node.tpm.reset()
            node.boot_id = "3f0c7c9e-0000-4000-8000-000000000002"
            proof = under(lambda _node, _selection: OTHER)(node, challenge)
            del proof.evidence.pcr_values[:]
            return proof

        refusal = await scene.refused(forge)
        assert refusal.findings == ("release.node-state", "pcr.digest")
        assert "rebooting" in refusal.details

    play(stage, case)


def test_k02_the_quote_of_an_attestation_round_releases_nothing(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        def forge(node: FakeNode, challenge: Challenge) -> Proof:
            return node.proof(challenge, evidence=node.evidence(challenge.challenge, Purpose.ATTEST))

        assert (await scene.refused(forge)).findings == ("quote.binding",)

    play(stage, case)


def test_k02_a_policy_must_cover_the_goldens_that_match_now(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        async def widened() -> str:
            digest = await activate_golden_of(scene.admin, scene.node, *range(10), name="wider")
            retired.append(digest)
            return digest

        retired: list[str] = []
        try:
            assert (await scene.refused(meanwhile=widened)).findings == ("release.policy",)
            await attest(scene.node)
            await scene.opens()
        finally:
            for digest in retired:
                await scene.admin.goldens.RetireGolden(admin_pb2.RetireGoldenRequest(digest=digest))

    play(stage, case)


# k04: replies and proofs that are not one's own


def test_k04_a_reply_opens_on_no_other_node_and_not_after_a_reset(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        released = await scene.node.release(scene.model.digest, [scene.model.slot])
        thief = await joined(scene.verifier, scene.admin)
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


def test_k04_a_proof_replayed_by_its_own_node_releases_nothing(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        seen: list[Proof] = []

        async def answer(challenge: Challenge) -> Proof:
            seen.append(scene.node.proof(challenge))
            return seen[0]

        await scene.ask(answer)
        assert (await scene.refused(lambda _node, _challenge: seen[0])).findings == ("quote.nonce",)

    play(stage, case)


def test_k04_a_proof_replayed_by_another_node_releases_nothing(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        thief = await joined(scene.verifier, scene.admin)
        await grant(scene.admin, thief, scene.model.slot.key_id)
        seen: list[Proof] = []

        async def answer(challenge: Challenge) -> Proof:
            seen.append(scene.node.proof(challenge))
            return seen[0]

        await scene.ask(answer)
        theft = replace(scene, node=thief)
        assert (await theft.refused(lambda _node, _challenge: seen[0])).findings == ("quote.signature",)

    play(stage, case)


def test_k04_a_challenge_relayed_to_a_trusted_node_releases_nothing(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        thief = await joined(scene.verifier, scene.admin)
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


REASONS: dict[str, tuple[Case, tuple[str, ...], str]] = {
    "its grant was taken away": (_take_the_grant, ("release.not-granted",), "no grant for n-"),
    "the key was revoked": (_revoke, ("release.not-granted",), "the key was revoked"),
    "it was quarantined": (_quarantine, ("release.node-state",), "quarantined"),
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
        neighbour = replace(scene, node=await joined(scene.verifier, scene.admin))
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
        with pytest.raises(aio.AioRpcError) as caught:
            await scene.node.release(scene.model.digest, [scene.model.slot])
        assert (refusal_of(caught.value).findings, lease_rows(scene.verifier)) == (("node.retired",), leases)

    play(stage, case)


@pytest.mark.parametrize("when", ["before it asks", "between challenge and proof"])
def test_k05_a_golden_that_was_retired_opens_nothing(stage: Stage, when: str) -> None:
    async def case(scene: Scene) -> None:
        (golden,) = (await scene.admin.goldens.ListGoldens(admin_pb2.ListGoldensRequest())).goldens

        async def retire() -> None:
            await scene.admin.goldens.RetireGolden(admin_pb2.RetireGoldenRequest(digest=golden.digest))

        if when == "before it asks":
            await retire()
        try:
            refusal = await scene.refused(meanwhile=None if when == "before it asks" else retire)
            assert refusal.findings == ("release.node-state", "golden.none")
        finally:
            document = (await scene.admin.goldens.GetGolden(admin_pb2.GetGoldenRequest(digest=golden.digest))).document
            await scene.admin.goldens.ActivateGolden(admin_pb2.ActivateGoldenRequest(document=document))
        await attest(scene.node)
        await scene.opens()

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


# k06: slots that belong elsewhere


def _copy(slot: key_release_pb2.Slot) -> key_release_pb2.Slot:
    copied = key_release_pb2.Slot()
    copied.CopyFrom(slot)
    return copied


def test_k06_the_slot_of_another_model_does_not_open(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        key_id = scene.model.slot.key_id
        newer = await a_sealed_model(scene.admin, key_id, key_id, version=2)
        swapped = replace(scene, model=replace(scene.model, slot=newer.slot))
        assert (await swapped.refused()).findings == ("release.slot",)
        await replace(scene, model=newer).opens()

    play(stage, case, fresh=False, max_leases=MANY)


def _renamed(scene: Scene) -> key_release_pb2.Slot:
    slot = _copy(scene.model.slot)
    slot.key_id = "shared"
    return slot


def _of_another_version(scene: Scene) -> key_release_pb2.Slot:
    slot = _copy(scene.model.slot)
    slot.key_version = 2
    return slot


def _flipped(scene: Scene) -> key_release_pb2.Slot:
    slot = _copy(scene.model.slot)
    slot.wrapped = bytes([slot.wrapped[0] ^ 1]) + slot.wrapped[1:]
    return slot


@pytest.mark.parametrize("forge", [_renamed, _of_another_version, _flipped])
def test_k06_a_slot_with_one_fact_changed_does_not_open(
    stage: Stage, forge: Callable[[Scene], key_release_pb2.Slot]
) -> None:
    async def case(scene: Scene) -> None:
        swapped = replace(scene, model=replace(scene.model, slot=forge(scene)))
        assert (await swapped.refused()).findings == ("release.slot",)
        await scene.opens()

    play(stage, case, fresh=False, max_leases=MANY)
