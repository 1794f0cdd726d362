"""Public keys between the TPM's form and those of ``cryptography``, PEM and DER (SubjectPublicKeyInfo, RFC 5280)."""

from __future__ import annotations

from collections.abc import Callable

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from nodeseal.crypto.algorithms import CURVE_IDS, CURVES
from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import Alg, HashAlg, ObjectAttributes
from nodeseal.tpm.buffer import u16
from nodeseal.tpm.public import (
    DEFAULT_EXPONENT,
    RSA_KEY_BITS,
    EccPublic,
    RsaPublic,
    TpmPublic,
    decode_public,
    decode_public_2b,
)

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

MAX_KEY_FILE = 64 * 1024
_EXPONENT_BITS = 32
_PEM, _DER_SEQUENCE = b"-----BEGIN ", b"\x30"
_TPMT_STARTS = (u16(Alg.RSA), u16(Alg.ECC))


def public_key_of(public: TpmPublic) -> PublicKey:
    """Return the key of a public area as an object of ``cryptography``.

    Raises:
        MalformedInput: the point is not on its curve, or the modulus or exponent is impossible.
    """
    try:
        if isinstance(public, EccPublic):
            x, y = int.from_bytes(public.x, "big"), int.from_bytes(public.y, "big")
            return ec.EllipticCurvePublicNumbers(x, y, CURVES[public.curve]).public_key()
        modulus = int.from_bytes(public.modulus, "big")
        if modulus.bit_length() != public.key_bits:
            raise MalformedInput(f"RSA key: modulus of {modulus.bit_length()} bits declared as {public.key_bits}")
        return rsa.RSAPublicNumbers(public.public_exponent, modulus).public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MalformedInput(f"public key: {error}") from error


def public_of_key(key: PublicKeyTypes) -> TpmPublic:
    """Return a public area for a key that has none: no attributes, no policy, no scheme.

    Raises:
        MalformedInput: neither RSA of an accepted size nor on a NIST curve.
    """
    if isinstance(key, rsa.RSAPublicKey):
        return _rsa_public(key)
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in CURVE_IDS:
        return _ecc_public(key)
    raise MalformedInput("public key: neither RSA nor on a NIST curve")


_TPM_1_2 = (b"\0\0\0\1\0", b"\1\1\0\0")
"""Beginnings of TPM_PUBKEY (TPM_ALG_RSA) and TPM_KEY (TPM_STRUCT_VER 1.1) of TPM 1.2."""


def decode_public_key(raw: bytes) -> TpmPublic:
    """Decode a public key: PEM, DER SubjectPublicKeyInfo, TPM2B_PUBLIC or TPMT_PUBLIC.

    Raises:
        MalformedInput: none of these, or it does not decode.
    """
    if len(raw) > MAX_KEY_FILE:
        raise MalformedInput(f"public key: {len(raw)} bytes, at most {MAX_KEY_FILE}")
    if raw.lstrip().startswith(_PEM):
        return _load(serialization.load_pem_public_key, raw.lstrip())
    if raw.startswith(_DER_SEQUENCE):
        return _load(serialization.load_der_public_key, raw)
    if raw.startswith(_TPM_1_2):
        raise MalformedInput("public key: is a key of a TPM 1.2", remedy="nodeseal needs a TPM 2.0 and its keys")
    if raw.startswith(_TPMT_STARTS):
        return decode_public(raw)
    return decode_public_2b(raw)


def _load(load: Callable[[bytes], PublicKeyTypes], raw: bytes) -> TpmPublic:
    try:
        key = load(raw)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MalformedInput(
            f"public key: {error}",
            remedy="give a SubjectPublicKeyInfo (from a certificate: openssl x509 -pubkey -noout), TPM2B_PUBLIC or "
            "TPMT_PUBLIC",
        ) from error
    return public_of_key(key)


def _rsa_public(key: rsa.RSAPublicKey) -> RsaPublic:
    if key.key_size not in RSA_KEY_BITS:
        raise MalformedInput(f"public key: RSA of {key.key_size} bits, none of {RSA_KEY_BITS}")
    numbers = key.public_numbers()
    exponent = 0 if numbers.e == DEFAULT_EXPONENT else numbers.e
    if exponent >> _EXPONENT_BITS:
        raise MalformedInput(f"public key: RSA exponent of more than {_EXPONENT_BITS} bits")
    return RsaPublic(
        name_alg=HashAlg.SHA256,
        attributes=ObjectAttributes(0),
        auth_policy=b"",
        symmetric=None,
        scheme=None,
        key_bits=key.key_size,
        exponent=exponent,
        modulus=numbers.n.to_bytes(key.key_size // 8, "big"),
    )


def _ecc_public(key: ec.EllipticCurvePublicKey) -> EccPublic:
    curve, numbers = CURVE_IDS[key.curve.name], key.public_numbers()
    return EccPublic(
        name_alg=HashAlg.SHA256,
        attributes=ObjectAttributes(0),
        auth_policy=b"",
        symmetric=None,
        scheme=None,
        curve=curve,
        x=numbers.x.to_bytes(curve.coordinate_size, "big"),
        y=numbers.y.to_bytes(curve.coordinate_size, "big"),
    )
