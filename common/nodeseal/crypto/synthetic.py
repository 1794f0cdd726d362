"""A TPM's private keys in memory, for load generators and tests that need thousands of TPMs.

The keys are not protected. Commands: TPM2_Sign by ECDSA, TPM2_ECDH_ZGen and TPM2_ActivateCredential (TPM Library Part
1, "Credential Protection"; Part 3).
"""

from __future__ import annotations

import hmac
from typing import Final

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from nodeseal.crypto.credential import kdfa, kdfe
from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.buffer import MAX_DIGEST, Reader, sized
from nodeseal.tpm.signature import EccSignature, encode_signature

_SIZE: Final = 32
_ECDSA: Final = ec.ECDSA(hashes.SHA256())


class SyntheticKey:
    """A fresh P-256 key.

    Attributes:
        x: coordinate of the public point, 32 bytes big-endian.
        y: coordinate of the public point, 32 bytes big-endian.
    """

    __slots__ = ("_private", "x", "y")

    def __init__(self) -> None:
        self._private = ec.generate_private_key(ec.SECP256R1())
        numbers = self._private.public_key().public_numbers()
        self.x = numbers.x.to_bytes(_SIZE, "big")
        self.y = numbers.y.to_bytes(_SIZE, "big")

    def __repr__(self) -> str:
        return "SyntheticKey(...)"

    def sign(self, message: bytes) -> bytes:
        """Return the TPMT_SIGNATURE of ``message`` by ECDSA with SHA-256."""
        r, s = decode_dss_signature(self._private.sign(message, _ECDSA))
        return encode_signature(EccSignature(HashAlg.SHA256, r, s))

    def agree(self, x: bytes, y: bytes) -> bytes:
        """Return the x coordinate, 32 bytes, of the point shared with another key (TPM2_ECDH_ZGen).

        Raises:
            MalformedInput: not a point on the curve.
        """
        numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1())
        try:
            return self._private.exchange(ec.ECDH(), numbers.public_key())
        except ValueError as error:
            raise MalformedInput("not a point on P-256") from error

    def activate(self, ak_name: bytes, id_object: bytes, encrypted_secret: bytes) -> bytes:
        """Return the secret of a credential (TPM2_MakeCredential) for ``ak_name`` and this AES-128 SHA-256 key.

        Args:
            ak_name: name of the attestation key.
            id_object: TPM2B_ID_OBJECT with its size.
            encrypted_secret: TPM2B_ENCRYPTED_SECRET with its size.

        Raises:
            MalformedInput: not a credential, or one for another key or name.
        """
        reader = Reader(encrypted_secret, "TPM2B_ENCRYPTED_SECRET")
        reader.u16("size")
        x, y = reader.sized("x", _SIZE), reader.sized("y", _SIZE)
        reader.end()
        seed = kdfe(HashAlg.SHA256, self.agree(x, y), b"IDENTITY\0", x, self.x)
        reader = Reader(id_object, "TPM2B_ID_OBJECT")
        reader.u16("size")
        integrity = reader.sized("integrityHMAC", MAX_DIGEST)
        encrypted = id_object[4 + len(integrity) :]
        hmac_key = kdfa(HashAlg.SHA256, seed, b"INTEGRITY\0", b"", 8 * HashAlg.SHA256.digest_size)
        if not hmac.compare_digest(hmac.digest(hmac_key, encrypted + ak_name, "sha256"), integrity):
            raise MalformedInput("TPM2B_ID_OBJECT: made for another key or name")
        cipher = Cipher(algorithms.AES(kdfa(HashAlg.SHA256, seed, b"STORAGE\0", ak_name, 128)), CFB(bytes(16)))
        secret = Reader(cipher.decryptor().update(encrypted), "credential").sized("credential", MAX_DIGEST)
        if len(sized(secret)) != len(encrypted):
            raise MalformedInput("TPM2B_ID_OBJECT: trailing bytes")
        return secret
