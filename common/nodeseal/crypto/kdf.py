"""The two steps of HKDF (RFC 5869 §2.2 and §2.3)."""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand


def extract_sha256(salt: bytes, ikm: bytes) -> bytes:
    """Return HKDF-Extract with SHA-256: 32 bytes. An empty ``salt`` means 32 zero bytes."""
    return HKDF.extract(hashes.SHA256(), salt or None, ikm)


def extract_sha384(salt: bytes, ikm: bytes) -> bytes:
    """Return HKDF-Extract with SHA-384: 48 bytes. An empty ``salt`` means 48 zero bytes."""
    return HKDF.extract(hashes.SHA384(), salt or None, ikm)


def expand_sha256(prk: bytes, info: bytes, size: int) -> bytes:
    """Return ``size`` bytes of HKDF-Expand with SHA-256."""
    return HKDFExpand(hashes.SHA256(), size, info).derive(prk)


def expand_sha384(prk: bytes, info: bytes, size: int) -> bytes:
    """Return ``size`` bytes of HKDF-Expand with SHA-384."""
    return bytes(expand_key_sha384(prk, info, size))


def expand_key_sha384(prk: bytes | bytearray, info: bytes, size: int) -> bytearray:
    """Return ``size`` bytes of HKDF-Expand with SHA-384. The caller can wipe them; there is no other copy."""
    key = bytearray(size)
    HKDFExpand(hashes.SHA384(), size, info).derive_into(prk, key)
    return key
