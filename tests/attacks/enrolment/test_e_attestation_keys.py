"""Attacks on the attestation key at enrolment, over gRPC against a running verifier: rows e01 to e03."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from dataclasses import replace

import grpc
import pytest
from tpm2_pytss.TSS2_Exception import TSS2_Exception

from nodeseal.agent.tpm import templates
from nodeseal.agent.tpm.failures import TpmFailed
from nodeseal.swtpm.machine import Machine
from nodeseal.swtpm.synthetic import SyntheticTpm
from nodeseal.tpm.algorithms import ObjectAttributes
from support.attackers import enrolling, nothing_enrolled
from support.enrolments import findings_of, refused_identity
from support.fake_node import FakeNode, a_node
from support.machine_tpm import MachineTpm, tpm_of
from support.machines import a_machine, need
from support.verifier import RunningVerifier, refused

OF_THIS_TPM = ObjectAttributes.FIXED_TPM | ObjectAttributes.FIXED_PARENT
GOOD_AK = templates.attestation_key(bytes(64))


@pytest.fixture(scope="module")
def machine(verifier: RunningVerifier) -> Iterator[Machine]:
    need("swtpm")
    with a_machine(verifier.vendor) as made_machine:
        yield made_machine


# e00: the good cases that the others change


@pytest.mark.parametrize("ek", ["ecc", "rsa"])
def test_e00_a_machine_enrols(verifier: RunningVerifier, ek: str) -> None:
    need("swtpm")
    with a_machine(verifier.vendor, ek=ek) as other, tpm_of(other) as tpm:
        node = FakeNode(verifier, tpm)
        asyncio.run(node.enrol())
    assert verifier.actions(f"node/{node.node_id}") == ["node.enrolled"]


# e01, e02: the attestation key


def test_e01_an_attestation_key_without_restricted_is_refused(verifier: RunningVerifier, machine: Machine) -> None:
    unrestricted = replace(GOOD_AK, attributes=GOOD_AK.attributes ^ ObjectAttributes.RESTRICTED)
    with tpm_of(machine, unrestricted) as tpm:
        assert findings_of(refused_identity(FakeNode(verifier, tpm))) == ("ak.attributes",)
    with tpm_of(machine, GOOD_AK) as tpm:
        asyncio.run(FakeNode(verifier, tpm).enrol())


CHANGED_ATTRIBUTES = {
    "without fixedTPM": ObjectAttributes.FIXED_TPM,
    "without fixedParent": ObjectAttributes.FIXED_PARENT,
    "without sensitiveDataOrigin": ObjectAttributes.SENSITIVE_DATA_ORIGIN,
    "without sign": ObjectAttributes.SIGN_ENCRYPT,
    "with decrypt": ObjectAttributes.DECRYPT,
    "with stClear": ObjectAttributes.ST_CLEAR,
    "with encryptedDuplication": ObjectAttributes.ENCRYPTED_DUPLICATION,
    "with x509sign": ObjectAttributes.X509_SIGN,
}


@pytest.mark.parametrize("why", CHANGED_ATTRIBUTES)
def test_e02_an_attestation_key_with_another_attribute_is_refused(verifier: RunningVerifier, why: str) -> None:
    node = a_node(verifier)
    honest = node.tpm.ak
    node.tpm.ak = replace(honest, attributes=honest.attributes ^ CHANGED_ATTRIBUTES[why])
    assert findings_of(refused_identity(node)) == ("ak.attributes",)
    node.tpm.ak = honest
    asyncio.run(node.enrol())


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        pytest.param(OF_THIS_TPM, 2, id="that leaves the TPM"),
        pytest.param(ObjectAttributes.RESTRICTED | ObjectAttributes.DECRYPT, 2, id="that signs and decrypts anything"),
        pytest.param(OF_THIS_TPM | ObjectAttributes.RESTRICTED, 3, id="that leaves the TPM and signs anything"),
    ],
)
def test_e02_a_key_that_a_tpm_really_made_is_refused_with_one_finding_each(
    verifier: RunningVerifier, machine: Machine, changed: ObjectAttributes, found: int
) -> None:
    made_key = replace(GOOD_AK, attributes=GOOD_AK.attributes ^ changed)
    if ObjectAttributes.DECRYPT in changed:
        made_key = replace(made_key, scheme=None)  # a TPM makes such keys without a scheme only
    with tpm_of(machine, made_key) as tpm:
        refusal = refused_identity(FakeNode(verifier, tpm))
    assert findings_of(refusal).count("ak.attributes") == found


# e03: keys of two TPMs


def test_e03_keys_of_two_machines_do_not_enrol(verifier: RunningVerifier, machine: Machine) -> None:
    async def case() -> None:
        mixed = mine.identity(ak_public=theirs.tpm.ak.encode())
        async with nothing_enrolled(verifier), enrolling(verifier) as stream:
            challenge = await stream.show(mixed)
            for node in (mine, theirs):
                with pytest.raises(TpmFailed):
                    node.tpm.activate(challenge.id_object, challenge.encrypted_secret)
            refusal = await refused(stream.answer(bytes(32)))
            assert (refusal.code, refusal.findings) == (grpc.StatusCode.UNAUTHENTICATED, ("ak.activation",))
        await mine.enrol()
        await theirs.enrol()
        assert mine.node_id != theirs.node_id

    with a_machine(verifier.vendor) as other, tpm_of(machine) as my_tpm, tpm_of(other) as their_tpm:
        mine, theirs = FakeNode(verifier, my_tpm), FakeNode(verifier, their_tpm)
        asyncio.run(case())


def test_e03_a_key_in_software_is_not_activated_by_a_tpm_that_was_told_its_public_area(
    verifier: RunningVerifier, machine: Machine
) -> None:
    """It claims every attribute of an attestation key, and a policy that anybody can satisfy."""
    software = SyntheticTpm(verifier.vendor)
    software.ak = replace(software.ak, auth_policy=_POLICY_COMMAND_CODE)

    async def case(tpm: MachineTpm) -> None:
        async with nothing_enrolled(verifier), enrolling(verifier) as stream:
            challenge = await stream.show(FakeNode(verifier, tpm).identity(ak_public=software.ak.encode()))
            for by_policy in (False, True):
                with pytest.raises(TSS2_Exception, match="not available for selected entity"):
                    tpm.activate_external(software.ak, challenge, by_policy=by_policy)
            assert (await refused(stream.answer(bytes(32)))).findings == ("ak.activation",)

    with tpm_of(machine) as tpm:
        asyncio.run(case(tpm))


_ACTIVATE_CREDENTIAL = 0x147
_POLICY_COMMAND_CODE = hashlib.sha256(
    bytes(32) + (0x16C).to_bytes(4, "big") + _ACTIVATE_CREDENTIAL.to_bytes(4, "big")
).digest()
"""TPM2_PolicyCommandCode(TPM2_ActivateCredential) (Part 3 §23.11)."""
