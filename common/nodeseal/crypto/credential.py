"""TPM2_MakeCredential in software (TPM Library Part 1, "Credential Protection", and its annexes on RSA and ECC).

Only a TPM that holds both the endorsement key and the named key can unwrap the secret (TPM2_ActivateCredential, Part
3). A seed is encrypted to the endorsement key, by RSA-OAEP or by ECDH with a one-time key. Seed and name give a cipher
key and an HMAC key (KDFa and KDFe, Part 1).

This module does not decide whether keys are acceptable; the verifier's enrolment does.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from nodeseal.crypto.algorithms import ACCEPTED_CURVES, CURVES, HASHES
from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import STRONG_HASHES, HashAlg
from nodeseal.tpm.buffer import sized
from nodeseal.tpm.public import EccPublic, RsaPublic, TpmPublic

_IDENTITY: Final = b"IDENTITY\0"
_STORAGE: Final = b"STORAGE\0"
_INTEGRITY: Final = b"INTEGRITY\0"


@dataclass(frozen=True, slots=True)
class MadeCredential:
    """Input of TPM2_ActivateCredential.

    Attributes:
        id_object: TPM2B_ID_OBJECT with its size.
        encrypted_secret: TPM2B_ENCRYPTED_SECRET with its size.
    """

    id_object: bytes
    encrypted_secret: bytes


def make_credential(ek: TpmPublic, ak_name: bytes, secret: bytes) -> MadeCredential:
    """Wrap ``secret`` for the TPM that holds ``ek`` and the key named ``ak_name``.

    Args:
        ek: a restricted decryption key.
        ak_name: name of the attestation key (Part 1, "Names").
        secret: at most as long as a digest of the name algorithm of ``ek``.

    Raises:
        MalformedInput: ``ek`` has no cipher or an algorithm that is not accepted, or is not a point on its curve; or
            the secret is too long.
    """
    if ek.symmetric is None or ek.name_alg not in STRONG_HASHES:
        raise MalformedInput("endorsement key: it has no cipher, or its name algorithm is not accepted")
    if len(secret) > ek.name_alg.digest_size:
        raise MalformedInput(f"credential: {len(secret)} bytes, at most {ek.name_alg.digest_size}")
    if isinstance(ek, RsaPublic):
        seed = secrets.token_bytes(ek.name_alg.digest_size)
        encrypted_secret = _encrypt_seed(ek, seed)
    else:
        seed, encrypted_secret = agree_seed(ek, ec.generate_private_key(_curve(ek)))
    id_object = protect(seed, ek.name_alg, ek.symmetric.key_bits, ak_name, secret)
    return MadeCredential(sized(id_object), sized(encrypted_secret))


def protect(seed: bytes, name_alg: HashAlg, key_bits: int, name: bytes, secret: bytes) -> bytes:
    """Return the TPMS_ID_OBJECT of ``secret`` for an object name. A step of its own for test vectors.

    The initialisation vector is zero: the key is derived from a fresh seed and used once.
    """
    key = kdfa(name_alg, seed, _STORAGE, name, key_bits)
    cipher = Cipher(algorithms.AES(key), CFB(bytes(16))).encryptor()
    encrypted = cipher.update(sized(secret)) + cipher.finalize()
    hmac_key = kdfa(name_alg, seed, _INTEGRITY, b"", 8 * name_alg.digest_size)
    return sized(hmac.digest(hmac_key, encrypted + name, name_alg.hashlib_name)) + encrypted


def agree_seed(ek: EccPublic, ephemeral: ec.EllipticCurvePrivateKey) -> tuple[bytes, bytes]:
    """Return a seed shared with an EC key, and the TPMS_ECC_POINT for it. A step of its own for test vectors.

    Raises:
        MalformedInput: the key is not a point on its curve, or its curve is not accepted.
    """
    size = ek.curve.coordinate_size
    point = ec.EllipticCurvePublicNumbers(int.from_bytes(ek.x, "big"), int.from_bytes(ek.y, "big"), _curve(ek))
    try:
        shared = ephemeral.exchange(ec.ECDH(), point.public_key())
    except ValueError as error:
        raise MalformedInput("endorsement key: not a point on its curve") from error
    mine = ephemeral.public_key().public_numbers()
    x, y = mine.x.to_bytes(size, "big"), mine.y.to_bytes(size, "big")
    seed = kdfe(ek.name_alg, shared, _IDENTITY, x, point.x.to_bytes(size, "big"))
    return seed, sized(x) + sized(y)


def kdfa(alg: HashAlg, key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    """Derive ``bits`` (whole bytes) by HMAC in counter mode (KDFa, Part 1); ``label`` ends with a zero byte."""
    tail = label + context + bits.to_bytes(4, "big")
    blocks = range(1, -(-bits // (8 * alg.digest_size)) + 1)
    stream = b"".join(hmac.digest(key, i.to_bytes(4, "big") + tail, alg.hashlib_name) for i in blocks)
    return stream[: bits // 8]


def kdfe(alg: HashAlg, shared: bytes, label: bytes, party_u: bytes, party_v: bytes) -> bytes:
    """Derive a seed from an ECDH secret (KDFe, Part 1). One block is enough: seeds are as long as digests."""
    return hashlib.new(alg.hashlib_name, b"\0\0\0\1" + shared + label + party_u + party_v).digest()


def _encrypt_seed(ek: RsaPublic, seed: bytes) -> bytes:
    alg = HASHES[ek.name_alg]
    numbers = rsa.RSAPublicNumbers(ek.public_exponent, int.from_bytes(ek.modulus, "big"))
    try:
        return numbers.public_key().encrypt(seed, padding.OAEP(padding.MGF1(alg), alg, _IDENTITY))
    except ValueError as error:
        raise MalformedInput("endorsement key: not an RSA key that encrypts") from error


def _curve(ek: EccPublic) -> ec.EllipticCurve:
    if ek.curve not in ACCEPTED_CURVES:
        raise MalformedInput(f"endorsement key: curve {ek.curve.name} is not accepted")
    return CURVES[ek.curve]
