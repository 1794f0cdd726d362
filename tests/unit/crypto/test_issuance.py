from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from nodeseal.crypto import issuance
from nodeseal.crypto.issuance import signature_fault
from nodeseal.tpm.algorithms import CurveId
from nodeseal.x509.certificate import EcKey, RsaKey, decode_certificate
from support import certificates as made
from support.certificates import EK, ROOT, ec_key, key_with_exponent, rsa_key
from support.vendor_certificates import vendor_authorities


@pytest.mark.parametrize(
    "algorithm",
    [
        made.rsa_algorithm(11, hashes.SHA256()),
        made.rsa_algorithm(12, hashes.SHA384()),
        made.rsa_algorithm(13, hashes.SHA512()),
        made.pss_algorithm("2.16.840.1.101.3.4.2.1", hashes.SHA256(), 32),
        made.pss_algorithm("2.16.840.1.101.3.4.2.2", hashes.SHA384(), 20),
        made.pss_algorithm("2.16.840.1.101.3.4.2.3", hashes.SHA512(), 0),
    ],
    ids=["PKCS1 SHA-256", "PKCS1 SHA-384", "PKCS1 SHA-512", "PSS SHA-256", "PSS SHA-384", "PSS SHA-512"],
)
def test_rsa_signatures_verify(algorithm: made.Algorithm) -> None:
    key = rsa_key("authority")
    issuer = decode_certificate(made.root(replace(ROOT, key=made.key_info(key))))
    leaf = decode_certificate(replace(EK, algorithm=algorithm).sign(key))
    assert not signature_fault(leaf, issuer)
    broken = replace(leaf, signed=leaf.signed + b"\0")
    assert signature_fault(broken, issuer) == "a signature that is not by the issuer's key"


_SHA256_OID = "2.16.840.1.101.3.4.2.1"


def _pss(*more: bytes, mask: str = "1.2.840.113549.1.1.8", mask_hash: str = _SHA256_OID) -> bytes:
    return made.sequence(
        made.tlv(0xA0, made.sequence(made.oid(_SHA256_OID))),
        made.tlv(0xA1, made.sequence(made.oid(mask), made.sequence(made.oid(mask_hash)))),
        made.tlv(0xA2, made.integer(32)),
        *more,
    )


def test_pss_parameters_may_leave_out_null_and_write_the_trailer() -> None:
    key = rsa_key("authority")
    good = made.pss_algorithm(_SHA256_OID, hashes.SHA256(), 32)
    parameters = _pss(made.tlv(0xA3, made.integer(1)))
    algorithm = replace(good, identifier=made.sequence(made.oid("1.2.840.113549.1.1.10"), parameters))
    issuer = decode_certificate(made.root(replace(ROOT, key=made.key_info(key))))
    assert not signature_fault(decode_certificate(replace(EK, algorithm=algorithm).sign(key)), issuer)


@pytest.mark.parametrize(
    ("parameters", "seen"),
    [
        pytest.param(b"", "missing", id="none, which means SHA-1"),
        pytest.param(made.sequence(), "hash is missing", id="empty, which means SHA-1"),
        pytest.param(
            made.pss_algorithm("1.3.14.3.2.26", hashes.SHA256(), 32).identifier[13:], "1.3.14.3.2.26", id="SHA-1"
        ),
        pytest.param(made.pss_algorithm(_SHA256_OID, hashes.SHA256(), 65).identifier[13:], "65 bytes", id="long salt"),
        pytest.param(_pss(mask="1.2.3"), "not MGF1", id="another mask function"),
        pytest.param(
            _pss(mask_hash="2.16.840.1.101.3.4.2.3"), "not MGF1 with the same hash", id="another hash of the mask"
        ),
        pytest.param(_pss(made.tlv(0xA3, made.integer(2))), "trailer is not 1", id="another trailer"),
        pytest.param(made.grow(_pss(made.tlv(0xA3, made.integer(1)))), "too many", id="something behind the trailer"),
        pytest.param(made.grow(_pss(), 0), "too many", id="something behind the hash"),
    ],
)
def test_other_pss_parameters_are_refused(parameters: bytes, seen: str) -> None:
    key = rsa_key("authority")
    good = made.pss_algorithm(_SHA256_OID, hashes.SHA256(), 32)
    algorithm = replace(good, identifier=made.sequence(made.oid("1.2.840.113549.1.1.10"), parameters))
    issuer = decode_certificate(made.root(replace(ROOT, key=made.key_info(key))))
    assert seen in signature_fault(decode_certificate(replace(EK, algorithm=algorithm).sign(key)), issuer)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_ecdsa_signatures_verify(curve: ec.EllipticCurve) -> None:
    key = ec_key("authority", curve)
    issuer = decode_certificate(made.root(replace(ROOT, key=made.key_info(key))))
    assert not signature_fault(decode_certificate(replace(EK, algorithm=made.ECDSA_SHA384).sign(key)), issuer)


@pytest.mark.parametrize(
    "key",
    [EcKey(CurveId.P256, 1, 1), RsaKey((1 << 2048) + 1, 3)],
    ids=["not on the curve", "an impossible modulus"],
)
def test_an_issuer_with_an_invalid_key_signs_nothing(key: RsaKey | EcKey) -> None:
    algorithm = made.RSA_SHA256 if isinstance(key, RsaKey) else made.ECDSA_SHA256
    facts = replace(EK, algorithm=algorithm)
    leaf = facts.sign(rsa_key("authority") if isinstance(key, RsaKey) else ec_key("authority"))
    issuer = replace(decode_certificate(made.root()), key=key)
    assert signature_fault(decode_certificate(leaf), issuer)


@pytest.mark.parametrize(
    ("modulus_bits", "exponent", "seen"),
    [
        (2047, 65537, "RSA key of 2047 bits"),
        (8193, 65537, "RSA key of 8193 bits"),
        (3072, 1 << 64 | 1, "RSA exponent of 65 bits"),
        (3072, 1 << 3070 | 1, "RSA exponent of 3071 bits"),
        (3072, 65536, "RSA exponent 65536"),
        (3072, 1, "RSA exponent 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sizes_are_refused_before_any_arithmetic(
    monkeypatch: pytest.MonkeyPatch, modulus_bits: int, exponent: int, seen: str
) -> None:
    def never(*_: object) -> None:
        pytest.fail("a signature was checked")

    leaf = decode_certificate(replace(EK, algorithm=made.RSA_SHA256).sign(rsa_key("authority")))
    issuer = replace(decode_certificate(made.root()), key=RsaKey((1 << modulus_bits - 1) + 1, exponent))
    monkeypatch.setattr(issuance, "_verify_rsa", never)
    assert seen in signature_fault(leaf, issuer)


@pytest.mark.parametrize("exponent", [3, 65537, (1 << 64) - 59])
def test_exponents_of_real_keys_are_accepted(exponent: int) -> None:
    key = key_with_exponent(exponent)
    issuer = decode_certificate(made.root(replace(ROOT, key=made.key_info(key))))
    leaf = decode_certificate(replace(EK, algorithm=made.RSA_SHA256).sign(key))
    assert not signature_fault(leaf, issuer)


def test_amd_signs_with_pss() -> None:
    vendors = [decode_certificate(raw) for raw in vendor_authorities()]
    signed = [each for each in vendors if each.algorithm.oid == "1.2.840.113549.1.1.10"]
    assert len(signed) == 9
    for certificate in signed:
        issuers = [each for each in signed if each.subject == certificate.issuer]
        assert [signature_fault(certificate, issuer) for issuer in issuers].count("") == 1


def test_old_intermediates_with_sha1_are_refused() -> None:
    vendors = [decode_certificate(raw) for raw in vendor_authorities()]
    old = [each for each in vendors if each.algorithm.oid == "1.2.840.113549.1.1.5"]
    assert len(old) == 20
    for certificate in old:
        for issuer in (each for each in vendors if each.subject == certificate.issuer):
            assert "SHA-1" in signature_fault(certificate, issuer)
