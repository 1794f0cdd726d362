from __future__ import annotations

import hashlib

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.tcg.algorithms import CurveId, HashAlg


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
