"""Release keys that would open more than the proved state of one TPM, and nodes that may not have what they ask for.

Each case starts from a node that is trusted and may open a model, changes one fact, and is refused: nothing is
released, no lease begins, the denial is recorded. The same node then opens the model honestly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from nodeseal.crypto.synthetic import SyntheticKey
from nodeseal.evidence.binding import Purpose
from nodeseal.swtpm.synthetic import SyntheticTpm
from nodeseal.tpm.algorithms import Alg, CurveId, HashAlg, ObjectAttributes
from nodeseal.tpm.attest import decode_attest, encode_attest
from nodeseal.tpm.pcr import PcrSelection, pcr_digest
from nodeseal.tpm.policy import policy_pcr
from nodeseal.tpm.public import Scheme
from nodeseal.v1 import admin_pb2, key_release_pb2
from support.fake_node import FakeNode, selection_of
from support.releases import (
    Challenge,
    Forge,
    Proof,
    Scene,
    Stage,
    activate_golden_of,
    attest,
    certified,
    held_by_tpm,
    honest_key,
    play,
    proof_of,
)

OTHER = hashlib.sha256(b"something else").digest()
EXTENDED = {HashAlg.SHA256: OTHER}


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
    return proof_of(node, challenge, key, attestation)


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
        return proof_of(node, challenge, key, attestation)

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
    edited = attested._replace(attested=replace(attested.certified, name=public.name()))
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
    "with a policy that leaves out the lease epoch": (under(over(0, 1, 2, 3, 4, 5, 6, 7)), "release.policy"),
    "with a policy that leaves out a golden's PCR": (under(over(0, 1, 2, 3, 5, 6, 7, 23)), "release.policy"),
    "with a policy over the lease epoch alone": (under(over(23)), "release.policy"),
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
            proof = under(over(23))(node, challenge)
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


def test_k02_a_node_without_a_lease_epoch_is_refused_and_its_agent_is_to_be_updated(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        scene.node.begins_epochs = False
        scene.node.tpm._pcrs[HashAlg.SHA256][23] = bytes(32)
        await attest(scene.node)  # such a node is trusted, and shows what it is
        refusal = await scene.refused_at_once()
        assert refusal.findings == ("release.no-epoch",)
        assert "agent 0.1.0" in refusal.details
        assert "update nodeseal-agent" in refusal.details
        scene.node.begins_epochs = True
        await attest(scene.node)
        await scene.opens()

    play(stage, case)


def test_k02_a_pcr_23_that_was_reset_during_the_exchange_refuses_the_release(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        def forge(node: FakeNode, challenge: Challenge) -> Proof:
            node.begins_epochs = False
            node.tpm._pcrs[HashAlg.SHA256][23] = bytes(32)
            return node.proof(challenge)

        assert (await scene.refused(forge)).findings == ("release.no-epoch",)

    play(stage, case)


def test_k02_a_release_key_of_the_epoch_before_is_refused(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        def forge(node: FakeNode, challenge: Challenge) -> Proof:
            key = honest_key(node, challenge)
            node.tpm.begin_epoch()
            return certified(node, challenge, key)

        assert (await scene.refused(forge)).findings == ("release.policy",)
        await attest(scene.node)
        await scene.opens()

    play(stage, case)


def test_k02_a_system_that_measured_its_identity_into_pcr_15_is_trusted_and_opens(stage: Stage) -> None:
    async def case(scene: Scene) -> None:
        for _ in range(2):
            scene.node.tpm.extend(15, EXTENDED)
        await attest(scene.node)
        await scene.opens()

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
