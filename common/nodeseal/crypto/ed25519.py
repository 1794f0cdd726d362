"""Ed25519 (RFC 8032) for the log: its checkpoints, and the cosignatures of witnesses."""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.findings import Finding, FindingId

PUBLIC_SIZE: Final = 32
SIGNATURE_SIZE: Final = 64


def new_log_key() -> bytes:
    """Return a new private key in PEM (PKCS #8, not encrypted)."""
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class Ed25519Signer:
    """A private key that signs; its bytes are in no repr.

    Args:
        pem: the key in PEM.
        what: what the key is, for errors.

    Attributes:
        public: the 32 bytes of the public key.

    Raises:
        MalformedInput: no Ed25519 private key in PEM without a password.
    """

    __slots__ = ("_key", "public")

    def __init__(self, pem: bytes, what: str) -> None:
        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise MalformedInput(f"{what}: not a private key in PEM without a password") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise MalformedInput(f"{what}: not an Ed25519 key")
        self._key = key
        self.public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def sign(self, message: bytes) -> bytes:
        """Return the signature over ``message``."""
        return self._key.sign(message)


def verify_ed25519(public: bytes, signature: bytes, message: bytes, who: str) -> None:
    """Verify a signature by the key of ``who``.

    Raises:
        ProofFailed: ``log.signature``: it does not hold, or the key is none.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        finding = Finding(id=FindingId.LOG_SIGNATURE, expected=f"a signature by {who}", seen="one that does not hold")
        raise ProofFailed(finding) from error
