from __future__ import annotations

import hashlib

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import CurveId, HashAlg, ObjectAttributes


@pytest.mark.parametrize("alg", HashAlg)
def test_a_hash_knows_its_size_and_name(alg: HashAlg) -> None:
    reference = hashlib.new(alg.hashlib_name, b"x")
    assert alg.digest(b"x") == reference.digest()
    assert alg.digest_size == reference.digest_size
    assert HashAlg.from_name(alg.hashlib_name) is alg


@pytest.mark.parametrize("name", ["md5", "SHA256", "sha-256", "", "sm3_256"])
def test_an_unknown_hash_name_is_refused(name: str) -> None:
    with pytest.raises(MalformedInput, match="unknown hash algorithm"):
        HashAlg.from_name(name)


def test_coordinates_of_p521_have_66_bytes() -> None:
    assert [curve.coordinate_size for curve in CurveId] == [24, 28, 32, 48, 66]


def test_object_attributes_have_the_bits_of_the_specification() -> None:
    # TPM 2.0 Library Part 2, TPMA_OBJECT
    assert {attribute.name: attribute.value.bit_length() - 1 for attribute in ObjectAttributes} == {
        "FIXED_TPM": 1,
        "ST_CLEAR": 2,
        "FIXED_PARENT": 4,
        "SENSITIVE_DATA_ORIGIN": 5,
        "USER_WITH_AUTH": 6,
        "ADMIN_WITH_POLICY": 7,
        "FIRMWARE_LIMITED": 8,
        "SVN_LIMITED": 9,
        "NO_DA": 10,
        "ENCRYPTED_DUPLICATION": 11,
        "RESTRICTED": 16,
        "DECRYPT": 17,
        "SIGN_ENCRYPT": 18,
        "X509_SIGN": 19,
    }
    assert all(attribute.value.bit_count() == 1 for attribute in ObjectAttributes)
