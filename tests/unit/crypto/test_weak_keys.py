from __future__ import annotations

import pytest

from nodeseal.crypto.weak_keys import has_roca_fingerprint, weakness
from nodeseal.tpm.algorithms import CurveId
from nodeseal.x509.certificate import EcKey, RsaKey
from support.certificates import rsa_key
from support.roca import roca_modulus


def test_strong_keys_have_no_weakness() -> None:
    numbers = rsa_key("ek").public_key().public_numbers()
    assert not weakness(RsaKey(numbers.n, numbers.e))
    assert not weakness(EcKey(CurveId.P256, 1, 2))


@pytest.mark.parametrize(
    ("key", "seen"),
    [
        (RsaKey(rsa_key("small", 1024).public_key().public_numbers().n, 65537), "1024 bits"),
        (RsaKey(1 << 9000 | 1, 65537), "9001 bits"),
        (RsaKey(rsa_key("ek").public_key().public_numbers().n, 3), "exponent 3"),
        (RsaKey(rsa_key("ek").public_key().public_numbers().n, 65538), "exponent 65538"),
        (RsaKey(roca_modulus(2048), 65537), "ROCA"),
        (EcKey(CurveId.P192, 1, 2), "P192"),
        (EcKey(CurveId.P224, 1, 2), "P224"),
    ],
    ids=["RSA 1024", "RSA 9001", "exponent 3", "even exponent", "ROCA", "P-192", "P-224"],
)
def test_weak_keys_are_named(key: RsaKey | EcKey, seen: str) -> None:
    assert seen in weakness(key)


def test_the_fingerprint_spares_other_moduli() -> None:
    modulus = roca_modulus(2048)
    assert has_roca_fingerprint(modulus)
    assert not any(has_roca_fingerprint(modulus + 2 * i) for i in range(1, 1000))
