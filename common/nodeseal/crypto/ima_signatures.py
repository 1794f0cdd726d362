"""Signatures of files in IMA logs, and the keys that made them (Linux, security/integrity/digsig_asymmetric.c).

Accepted are RSA (PKCS #1 v1.5) from 2048 bits and ECDSA on the NIST, Brainpool and secp256k1 curves below, over
SHA-256, SHA-384 or SHA-512. The entry's digest must be by the hash that the signature names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from nodeseal.crypto.algorithms import HASHES, MIN_RSA_BITS
from nodeseal.crypto.keys import MAX_KEY_FILE, PublicKey
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.findings import Finding, FindingId
from nodeseal.ima.signature import KEY_ID_SIZE, ImaSignature, SignatureKind
from nodeseal.ima.template import ImaFields
from nodeseal.tpm.algorithms import STRONG_HASHES, STRONG_HASHES_BY_NAME

_SIGNER_CURVES: Final = frozenset(
    {"secp256r1", "secp384r1", "secp521r1", "secp256k1", "brainpoolP256r1", "brainpoolP384r1", "brainpoolP512r1"}
)
_PREHASHED: Final = {hash_alg: Prehashed(HASHES[hash_alg]) for hash_alg in STRONG_HASHES}
_OVER_THE_DIGEST: Final = 2
"""Version of a signature over the digest itself."""
_DIGEST_TYPES: Final = {SignatureKind.FILE: ("", "ima"), SignatureKind.VERITY: ("", "verity")}
"""Types of an entry's digest that a signature of this kind covers."""


class ImaKey:
    """A key prepared for many checks.

    Args:
        spki: SubjectPublicKeyInfo in DER.

    Attributes:
        spki: the same.
        key_id: last four bytes of the SHA-1 of the public key bits (RFC 5280 §4.2.1.2, method 1). Signatures name the
            key by it, unless its certificate has another identifier. It is a hint and proves nothing.

    Raises:
        MalformedInput: not a key, or one that is too weak or of a kind that does not sign files.
    """

    __slots__ = ("_check", "key_id", "spki")

    def __init__(self, spki: bytes) -> None:
        key = _accepted(_load(serialization.load_der_public_key, spki))
        self.spki = spki
        self.key_id = x509.SubjectKeyIdentifier.from_public_key(key).digest[-KEY_ID_SIZE:]
        self._check = _check_with(key)

    def verify(self, signature: ImaSignature, fields: ImaFields) -> None:
        """Verify that this key signed the digest in an entry. The key id does not matter.

        Raises:
            ProofFailed: ``ima.signature``, with the path.
        """
        try:
            signed, hash_alg = _signed(signature, fields)
            self._check(signature.signature, signed, hash_alg)
        except MalformedInput as error:
            raise _failed(fields, str(error)) from error
        except InvalidSignature as error:
            raise _failed(fields, f"one that does not hold, key id {signature.key_id.hex()}") from error


def read_ima_key(raw: bytes) -> ImaKey:
    """Read the key of a public key or a certificate, in PEM or DER.

    Raises:
        MalformedInput: none of these, or a key that is too weak or of a kind that does not sign files.
    """
    if len(raw) > MAX_KEY_FILE:
        raise MalformedInput(f"IMA key: {len(raw)} bytes, at most {MAX_KEY_FILE}")
    text = raw.lstrip()
    if text.startswith(b"-----BEGIN CERTIFICATE"):
        key = _load(_certified_key(x509.load_pem_x509_certificate), text)
    elif text.startswith(b"-----BEGIN"):
        key = _load(serialization.load_pem_public_key, text)
    else:
        key = _load_der(raw)
    return ImaKey(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))


def _load_der(raw: bytes) -> PublicKeyTypes:
    try:
        return _load(serialization.load_der_public_key, raw)
    except MalformedInput:
        return _load(_certified_key(x509.load_der_x509_certificate), raw)


def _certified_key(load: Callable[[bytes], x509.Certificate]) -> Callable[[bytes], PublicKeyTypes]:
    return lambda raw: load(raw).public_key()


def _load(load: Callable[[bytes], PublicKeyTypes], raw: bytes) -> PublicKeyTypes:
    try:
        return load(raw)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MalformedInput(f"IMA key: {error}", remedy="give a public key or a certificate, in PEM or DER") from error


def _accepted(key: PublicKeyTypes) -> PublicKey:
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= MIN_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _SIGNER_CURVES:
        return key
    raise MalformedInput(
        f"IMA key: neither RSA from {MIN_RSA_BITS} bits nor ECDSA on {', '.join(sorted(_SIGNER_CURVES))}"
    )


def _check_with(key: PublicKey) -> Callable[[bytes, bytes, Prehashed], None]:
    if isinstance(key, rsa.RSAPublicKey):
        return lambda signature, digest, hash_alg: key.verify(signature, digest, padding.PKCS1v15(), hash_alg)
    return lambda signature, digest, hash_alg: key.verify(signature, digest, ec.ECDSA(hash_alg))


def _signed(signature: ImaSignature, fields: ImaFields) -> tuple[bytes, Prehashed]:
    """Return the digest that the signature covers, and its algorithm."""
    name = signature.hash_alg.name
    hash_alg = STRONG_HASHES_BY_NAME.get(name)
    if hash_alg is None:
        raise MalformedInput(f"a signature over {name}, none of {', '.join(STRONG_HASHES_BY_NAME)}")
    if fields.digest_type not in _DIGEST_TYPES.get(signature.kind, ()):
        raise MalformedInput(f"a signature of type {signature.kind.name}, which is not over this digest")
    if fields.algorithm != name or len(fields.digest) != signature.hash_alg.size:
        raise MalformedInput(f"a signature over {name}, the entry has another digest")
    if signature.version == _OVER_THE_DIGEST:
        return fields.digest, _PREHASHED[hash_alg]
    return hash_alg.digest(signature.file_id(fields.digest)), _PREHASHED[hash_alg]


def _failed(fields: ImaFields, seen: str) -> ProofFailed:
    path = fields.path.decode("utf-8", "backslashreplace")
    return ProofFailed(Finding(id=FindingId.IMA_SIGNATURE, where=path, expected="a signature by this key", seen=seen))
