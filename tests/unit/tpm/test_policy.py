"""Digests against values that others published or computed."""

from __future__ import annotations

import hashlib

import pytest

from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr import PcrSelection, pcr_digest
from nodeseal.tpm.policy import policy_or, policy_pcr, policy_secret_endorsement

# TCG EK Credential Profile v2.5, Annex B.6
POLICY_A = {
    HashAlg.SHA256: "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa",
    HashAlg.SHA384: "8bbf2266537c171cb56e403c4dc1d4b64f432611dc386e6f532050c3278c930e143e8bb1133824ccb431053871c6db53",
    HashAlg.SHA512: "1e3b76502c8a1425aa0b7b3fc646a1b0fae063b03b5368f9c4cddecaff0891dd"
    "682bac1a85d4d832b781ea451915de5fc5bf0dc4a1917cd42fa041e3f998e0ee",
}


@pytest.mark.parametrize("policy_hash", POLICY_A)
def test_policy_secret_of_the_endorsement_hierarchy_is_the_profiles_policy_a(policy_hash: HashAlg) -> None:
    assert policy_secret_endorsement(policy_hash).hex() == POLICY_A[policy_hash]


def test_policy_pcr_follows_the_specifications_layout() -> None:
    selection = PcrSelection.of({HashAlg.SHA256: (0, 15)})
    digest = pcr_digest(HashAlg.SHA256, [bytes(32), bytes(32)])
    layout = bytes(32) + bytes.fromhex("0000017f 00000001 000b 03 018000") + digest
    assert policy_pcr(selection, digest) == hashlib.sha256(layout).digest()


def test_policy_or_depends_on_the_order_of_its_branches() -> None:
    assert policy_or((b"a" * 32, b"b" * 32)) != policy_or((b"b" * 32, b"a" * 32))
