"""Signature of one certificate by the key of another: arithmetic only, no chains (RFC 5280 §6.1.3 (a) (1)).

Accepted: RSA (PKCS #1 v1.5 and PSS) from 2048 bits and ECDSA on P-256, P-384 and P-521, over SHA-256 or better. SHA-1
is refused, although some vendors' intermediates use it (Infineon until 2017): chosen-prefix collisions are affordable.
A TPM below such an intermediate can be put on the allow list. Keys are built from the numbers in
:mod:`nodeseal.x509.certificate`, so no second parser reads the certificate. Their sizes are checked before any
arithmetic: one check by an exponent of 3,000 bits costs as much as hundreds by 65537.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from nodeseal.crypto.algorithms import ACCEPTED_CURVES, CURVES, HASHES, MAX_RSA_BITS, MIN_RSA_BITS
from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.x509 import der
from nodeseal.x509.certificate import AlgorithmIdentifier, Certificate, EcKey, RsaKey
from nodeseal.x509.der import DerReader

_PKCS1_HASHES: Final[dict[str, HashAlg]] = {
    "1.2.840.113549.1.1.11": HashAlg.SHA256,
    "1.2.840.113549.1.1.12": HashAlg.SHA384,
    "1.2.840.113549.1.1.13": HashAlg.SHA512,
}
_ECDSA_HASHES: Final[dict[str, HashAlg]] = {
    "1.2.840.10045.4.3.2": HashAlg.SHA256,
    "1.2.840.10045.4.3.3": HashAlg.SHA384,
    "1.2.840.10045.4.3.4": HashAlg.SHA512,
}
_PSS: Final = "1.2.840.113549.1.1.10"
_MGF1: Final = "1.2.840.113549.1.1.8"
_PSS_HASHES: Final[dict[str, HashAlg]] = {
    "2.16.840.1.101.3.4.2.1": HashAlg.SHA256,
    "2.16.840.1.101.3.4.2.2": HashAlg.SHA384,
    "2.16.840.1.101.3.4.2.3": HashAlg.SHA512,
}
MAX_RSA_EXPONENT_BITS: Final = 64
"""Longest public exponent of an authority; authorities of TPM vendors use 65537."""
_MIN_RSA_EXPONENT: Final = 3
_REFUSED: Final = {
    "1.2.840.113549.1.1.4": "MD5 with RSA",
    "1.2.840.113549.1.1.5": "SHA-1 with RSA",
    "1.2.840.10045.4.1": "SHA-1 with ECDSA",
}


def signature_fault(certificate: Certificate, issuer: Certificate) -> str:
    """Verify the signature of ``certificate`` by the key of ``issuer``; return the problem, or an empty text."""
    try:
        _check_sizes(issuer.key)
        if isinstance(issuer.key, RsaKey):
            _verify_rsa(certificate, issuer.key)
        else:
            _verify_ecdsa(certificate, issuer.key)
    except InvalidSignature:
        return "a signature that is not by the issuer's key"
    except MalformedInput as error:
        return str(error)
    except (ValueError, UnsupportedAlgorithm):
        return "an issuer's key that is not valid"
    return ""


def _check_sizes(key: RsaKey | EcKey) -> None:
    if isinstance(key, EcKey):
        if key.curve not in ACCEPTED_CURVES:
            raise MalformedInput(f"an issuer's key on {key.curve.name}")
        return
    if not MIN_RSA_BITS <= key.modulus.bit_length() <= MAX_RSA_BITS:
        raise MalformedInput(f"an issuer's RSA key of {key.modulus.bit_length()} bits")
    if key.exponent.bit_length() > MAX_RSA_EXPONENT_BITS:
        raise MalformedInput(f"an issuer's RSA exponent of {key.exponent.bit_length()} bits")
    if key.exponent < _MIN_RSA_EXPONENT or key.exponent % 2 == 0:
        raise MalformedInput(f"an issuer's RSA exponent {key.exponent}")


def _verify_rsa(certificate: Certificate, key: RsaKey) -> None:
    scheme, hash_alg = _rsa_scheme(certificate.algorithm)
    public = rsa.RSAPublicNumbers(key.exponent, key.modulus).public_key()
    public.verify(certificate.signature, certificate.signed, scheme, hash_alg)


def _verify_ecdsa(certificate: Certificate, key: EcKey) -> None:
    hash_alg = _hash_of(_ECDSA_HASHES, certificate.algorithm)
    public = ec.EllipticCurvePublicNumbers(key.x, key.y, CURVES[key.curve]).public_key()
    public.verify(certificate.signature, certificate.signed, ec.ECDSA(hash_alg))


def _rsa_scheme(algorithm: AlgorithmIdentifier) -> tuple[padding.AsymmetricPadding, hashes.HashAlgorithm]:
    if algorithm.oid == _PSS:
        return _pss(DerReader(algorithm.parameters, "RSASSA-PSS parameters"))
    return padding.PKCS1v15(), _hash_of(_PKCS1_HASHES, algorithm)


def _pss(reader: DerReader) -> tuple[padding.PSS, hashes.HashAlgorithm]:
    """Read RSASSA-PSS-params (RFC 4055 §3.1). The defaults mean SHA-1, so hash and mask must be there."""
    inside = reader.inside(der.SEQUENCE, "content")
    reader.end()
    hash_alg = _hash(inside.inside(der.context(0), "hash"))
    wrapper = inside.inside(der.context(1), "mask")
    mask = wrapper.inside(der.SEQUENCE, "mask")
    if mask.oid("mask function") != _MGF1 or _hash(mask) is not hash_alg:
        raise inside.fault("mask", "is not MGF1 with the same hash")
    salt = inside.inside(der.context(2), "salt").integer("salt length")
    if inside.next_is(der.context(3)) and inside.inside(der.context(3), "trailer").integer("trailer") != 1:
        raise inside.fault("trailer", "is not 1")
    inside.end()
    if not 0 <= salt <= HashAlg.SHA512.digest_size:
        raise inside.fault("salt", f"has {salt} bytes")
    return padding.PSS(padding.MGF1(hash_alg), salt), hash_alg


def _hash(reader: DerReader) -> hashes.HashAlgorithm:
    oid = reader.inside(der.SEQUENCE, "hash").oid("hash algorithm")
    reader.end()
    if oid not in _PSS_HASHES:
        raise reader.fault("hash", f"{oid} is not accepted")
    return HASHES[_PSS_HASHES[oid]]


def _hash_of(accepted: dict[str, HashAlg], algorithm: AlgorithmIdentifier) -> hashes.HashAlgorithm:
    if algorithm.oid not in accepted:
        raise MalformedInput(f"the signature algorithm {_REFUSED.get(algorithm.oid, algorithm.oid)}")
    return HASHES[accepted[algorithm.oid]]
