"""Receiver's half of HPKE (RFC 9180, base mode, one message), for private keys that only compute ECDH.

A TPM or a PKCS#11 token keeps its scalar and returns the Diffie-Hellman value. This module opens the message with it:
Decap of DHKEM (§4.1) from ``dh`` on, KeySchedule (§5.1), and Open with the first nonce (§5.2). The caller has checked
that ``enc`` is a point on the curve (§7.1.4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from nodeseal.crypto.kdf import expand_sha256, expand_sha384, extract_sha256, extract_sha384
from nodeseal.errors import MalformedInput

_AES_256_GCM = 2
_KEY_SIZE, _NONCE_SIZE = 32, 12


@dataclass(frozen=True, slots=True, kw_only=True)
class DhSuite:
    """A suite of DHKEM over a NIST curve, HKDF with the KEM's hash, and AES-256-GCM.

    Attributes:
        kem: KEM identifier (RFC 9180 §7.1).
        kdf: KDF identifier (§7.2).
        secret_size: Nsecret.
        dh_size: Ndh, size of the x coordinate in bytes.
        extract: HKDF-Extract.
        expand: HKDF-Expand.
    """

    kem: int
    kdf: int
    secret_size: int
    dh_size: int
    extract: Callable[[bytes, bytes], bytes]
    expand: Callable[[bytes, bytes, int], bytes]

    @property
    def kem_id(self) -> bytes:
        """suite_id of the KEM (§4.1)."""
        return b"KEM" + self.kem.to_bytes(2, "big")

    @property
    def hpke_id(self) -> bytes:
        """suite_id of HPKE (§5.1)."""
        return b"HPKE" + b"".join(number.to_bytes(2, "big") for number in (self.kem, self.kdf, _AES_256_GCM))

    def labeled_extract(self, suite_id: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
        """LabeledExtract of §4."""
        return self.extract(salt, b"HPKE-v1" + suite_id + label + ikm)

    def labeled_expand(self, suite_id: bytes, prk: bytes, label: bytes, info: bytes, size: int) -> bytes:
        """LabeledExpand of §4."""
        return self.expand(prk, size.to_bytes(2, "big") + b"HPKE-v1" + suite_id + label + info, size)


P256 = DhSuite(kem=0x10, kdf=1, secret_size=32, dh_size=32, extract=extract_sha256, expand=expand_sha256)
P384 = DhSuite(kem=0x11, kdf=2, secret_size=48, dh_size=48, extract=extract_sha384, expand=expand_sha384)


def shared_secret(suite: DhSuite, dh: bytes | bytearray, enc: bytes, recipient: bytes) -> bytes:
    """Return ExtractAndExpand of §4.1, with kem_context = enc || pkRm.

    Raises:
        MalformedInput: ``dh`` is longer than a coordinate. A device may leave out leading zeros.
    """
    if len(dh) > suite.dh_size:
        raise MalformedInput(f"ECDH: {len(dh)} bytes, at most {suite.dh_size}")
    prk = suite.labeled_extract(suite.kem_id, b"", b"eae_prk", bytes(dh).rjust(suite.dh_size, b"\0"))
    return suite.labeled_expand(suite.kem_id, prk, b"shared_secret", enc + recipient, suite.secret_size)


def key_schedule(suite: DhSuite, secret: bytes, info: bytes) -> tuple[bytes, bytes]:
    """Return key and base nonce of §5.1 in base mode."""
    empty, told = (
        suite.labeled_extract(suite.hpke_id, b"", label, ikm)
        for label, ikm in ((b"psk_id_hash", b""), (b"info_hash", info))
    )
    prk, context = suite.labeled_extract(suite.hpke_id, secret, b"secret", b""), b"\0" + empty + told
    return (
        suite.labeled_expand(suite.hpke_id, prk, b"key", context, _KEY_SIZE),
        suite.labeled_expand(suite.hpke_id, prk, b"base_nonce", context, _NONCE_SIZE),
    )


def open_message(suite: DhSuite, secret: bytes, info: bytes, sealed: bytes) -> bytes | None:
    """Return the plaintext of the first message, with an empty AAD. None: it does not open."""
    key, nonce = key_schedule(suite, secret, info)
    try:
        return AESGCM(key).decrypt(nonce, sealed, b"")
    except InvalidTag:
        return None
