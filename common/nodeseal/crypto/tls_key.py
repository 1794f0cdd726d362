"""Private keys of TLS endpoints, and requests for their certificates (PKCS #10, RFC 2986)."""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nodeseal.crypto.algorithms import is_accepted_curve
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.findings import Finding, FindingId

MAX_REQUEST: Final = 16 * 1024
"""Largest certificate request in bytes."""


def new_tls_key() -> bytes:
    """Return a new P-256 private key in PEM (PKCS #8, not encrypted)."""
    return private_pem(ec.generate_private_key(ec.SECP256R1()))


def certificate_request(key_pem: bytes, name: str) -> bytes:
    """Return a PKCS #10 request in DER for a key from :func:`new_tls_key`.

    Raises:
        MalformedInput: ``key_pem`` is not an EC private key in PEM.
    """
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise MalformedInput("TLS key: not a private key in PEM without a password") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise MalformedInput("TLS key: not an EC key")
    request = x509.CertificateSigningRequestBuilder().subject_name(common_name(name))
    return request.sign(key, hash_for(key)).public_bytes(serialization.Encoding.DER)


def requested_key(request_der: bytes) -> ec.EllipticCurvePublicKey:
    """Return the key of a certificate request, after its signature proved possession.

    Raises:
        MalformedInput: not a PKCS #10 request.
        ProofFailed: ``tls.request``: not signed by its own key, or not an EC key on P-256, P-384 or P-521.
    """
    if len(request_der) > MAX_REQUEST:
        raise MalformedInput(f"certificate request: {len(request_der)} bytes, at most {MAX_REQUEST}")
    try:
        request = x509.load_der_x509_csr(request_der)
        key = request.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not is_accepted_curve(key.curve):
            raise _refused("an EC key on P-256, P-384 or P-521", type(key).__name__)
        proved = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise MalformedInput(f"certificate request: {error}") from error
    if not proved:
        raise _refused("a request signed by its own key", "a signature that does not hold")
    return key


def common_name(text: str) -> x509.Name:
    """Return a name that consists of a common name. No decision depends on it."""
    # X.520 allows 64 characters, host names may be longer
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def hash_for(key: ec.EllipticCurvePrivateKey) -> hashes.SHA256 | hashes.SHA384:
    """Return the hash that a key signs certificates with."""
    return hashes.SHA256() if key.curve.key_size == ec.SECP256R1.key_size else hashes.SHA384()


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key in PEM (PKCS #8, not encrypted)."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _refused(expected: str, seen: str) -> ProofFailed:
    return ProofFailed(Finding(id=FindingId.TLS_REQUEST, expected=expected, seen=seen))
