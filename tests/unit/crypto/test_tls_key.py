from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from nodeseal.crypto.tls_key import certificate_request, new_tls_key, requested_key
from nodeseal.errors import MalformedInput, ProofFailed


def _request(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_strong_curves_are_accepted(curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve)
    assert requested_key(_request(key)) == key.public_key()


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(rsa.generate_private_key(65537, 2048), id="RSA"),
        pytest.param(ec.generate_private_key(ec.SECP224R1()), id="P-224"),
        pytest.param(ec.generate_private_key(ec.SECP256K1()), id="secp256k1"),
        pytest.param(ed25519.Ed25519PrivateKey.generate(), id="Ed25519"),
    ],
)
def test_other_keys_are_refused(key: CertificateIssuerPrivateKeyTypes) -> None:
    with pytest.raises(ProofFailed, match=r"tls\.request"):
        requested_key(_request(key))


def test_the_kind_of_key_is_checked_before_its_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    class Costly:
        def public_key(self) -> rsa.RSAPublicKey:
            return rsa.generate_private_key(65537, 2048).public_key()

        @property
        def is_signature_valid(self) -> bool:
            pytest.fail("a signature was checked")

    monkeypatch.setattr(x509, "load_der_x509_csr", lambda _: Costly())
    with pytest.raises(ProofFailed, match=r"tls\.request"):
        requested_key(b"")


def test_a_huge_request_is_not_parsed() -> None:
    with pytest.raises(MalformedInput, match="20001 bytes, at most 16384"):
        requested_key(b"\x30" + bytes(20_000))


@pytest.mark.parametrize("raw", [b"", b"\x30\x00"], ids=["empty", "bare"])
def test_what_is_not_a_request_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedInput, match="certificate request"):
        requested_key(raw)


_RSA_PEM = rsa.generate_private_key(65537, 2048).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)


@pytest.mark.parametrize("key_pem", [b"nonsense", b"", _RSA_PEM], ids=["text", "nothing", "RSA"])
def test_a_request_needs_an_ec_key(key_pem: bytes) -> None:
    with pytest.raises(MalformedInput, match="TLS key"):
        certificate_request(key_pem, "x")


def test_a_long_host_name_still_makes_a_request() -> None:
    requested_key(certificate_request(new_tls_key(), "h" * 200))
