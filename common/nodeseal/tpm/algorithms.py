"""Algorithm, curve and attribute identifiers: TPM_ALG_ID, TPM_ECC_CURVE, TPMA_OBJECT (TPM Library Part 2).

Only numbers that nodeseal accepts are here. Decoding refuses all others.
"""

from __future__ import annotations

import hashlib
from enum import Enum, IntEnum, IntFlag
from typing import TypeVar

from nodeseal.errors import MalformedInput
from nodeseal.tpm.buffer import Reader

_Known = TypeVar("_Known", bound=Enum)


class HashAlg(IntEnum):
    """Hash algorithms of PCR banks, names, policies and signatures (TPMI_ALG_HASH)."""

    SHA1 = 0x0004
    SHA256 = 0x000B
    SHA384 = 0x000C
    SHA512 = 0x000D

    @property
    def digest_size(self) -> int:
        """Size of a digest in bytes."""
        return _DIGEST_SIZES[self]

    @property
    def hashlib_name(self) -> str:
        """Name of the algorithm in hashlib and in files: ``sha256``."""
        return self.name.lower()

    def digest(self, content: bytes) -> bytes:
        """Hash ``content``."""
        return HASH_CONSTRUCTORS[self](content, usedforsecurity=True).digest()

    @classmethod
    def from_name(cls, name: str) -> HashAlg:
        """Return the algorithm called ``name``: ``sha1``, ``sha256``, ``sha384`` or ``sha512``.

        Raises:
            MalformedInput: no such algorithm.
        """
        if name not in HASHES_BY_NAME:
            known = ", ".join(HASHES_BY_NAME)
            raise MalformedInput(f"unknown hash algorithm {name[:32]!a}", remedy=f"use one of {known}")
        return HASHES_BY_NAME[name]


_DIGEST_SIZES = {HashAlg.SHA1: 20, HashAlg.SHA256: 32, HashAlg.SHA384: 48, HashAlg.SHA512: 64}
HASH_CONSTRUCTORS = {
    HashAlg.SHA1: hashlib.sha1,
    HashAlg.SHA256: hashlib.sha256,
    HashAlg.SHA384: hashlib.sha384,
    HashAlg.SHA512: hashlib.sha512,
}
"""hashlib's constructors, for loops where a method call for each hash would cost too much."""
HASHES_BY_NUMBER: dict[int, HashAlg] = {alg.value: alg for alg in HashAlg}
HASHES_BY_NAME = {alg.hashlib_name: alg for alg in HashAlg}
HASHES_BY_DIGEST_SIZE = {alg.digest_size: alg for alg in HashAlg}
SHA256_SIZE = 32
_UNSUPPORTED = {0x0012: "sm3_256", 0x0027: "sha3_256", 0x0028: "sha3_384", 0x0029: "sha3_512"}
"""Banks that TPMs have and that nodeseal cannot judge (TCG Algorithm Registry)."""

STRONG_HASHES = (HashAlg.SHA256, HashAlg.SHA384, HashAlg.SHA512)
"""Hashes without known collisions, weakest first. Only these count in signatures, names and goldens."""
STRONG_HASHES_BY_NAME = {alg.hashlib_name: alg for alg in STRONG_HASHES}
STRONG_HASHES_BY_DIGEST_SIZE = {alg.digest_size: alg for alg in STRONG_HASHES}


def bank_name(number: int) -> str:
    """Return the name of a bank by its TPM_ALG_ID, for people; unknown ones are numbers."""
    known = HASHES_BY_NUMBER.get(number)
    return known.hashlib_name if known else _UNSUPPORTED.get(number, f"0x{number:04x}")


class Alg(IntEnum):
    """Algorithms that are not hashes (TPM_ALG_ID)."""

    RSA = 0x0001
    AES = 0x0006
    NULL = 0x0010
    RSASSA = 0x0014
    RSAPSS = 0x0016
    OAEP = 0x0017
    ECDSA = 0x0018
    ECDH = 0x0019
    ECC = 0x0023
    CFB = 0x0043


class CurveId(IntEnum):
    """NIST curves (TPM_ECC_CURVE). Policy accepts fewer than decode."""

    P192 = 0x0001
    P224 = 0x0002
    P256 = 0x0003
    P384 = 0x0004
    P521 = 0x0005

    @property
    def coordinate_size(self) -> int:
        """Size in bytes of a coordinate, and of ``r`` and ``s`` of a signature."""
        return (int(self.name[1:]) + 7) // 8


class ObjectAttributes(IntFlag):
    """Attributes of a key (TPMA_OBJECT, Part 2)."""

    FIXED_TPM = 1 << 1
    ST_CLEAR = 1 << 2
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    USER_WITH_AUTH = 1 << 6
    ADMIN_WITH_POLICY = 1 << 7
    FIRMWARE_LIMITED = 1 << 8
    SVN_LIMITED = 1 << 9
    NO_DA = 1 << 10
    ENCRYPTED_DUPLICATION = 1 << 11
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN_ENCRYPT = 1 << 18
    X509_SIGN = 1 << 19


ATTRIBUTE_BITS = sum(attribute.value for attribute in ObjectAttributes)
"""All bits that are not reserved."""
_ALGS_BY_NUMBER: dict[int, Alg] = {alg.value: alg for alg in Alg}
_CURVES_BY_NUMBER: dict[int, CurveId] = {curve.value: curve for curve in CurveId}


def decode_alg(reader: Reader, field: str) -> Alg:
    """Read a TPM_ALG_ID that is not a hash.

    Raises:
        MalformedInput: cut off, unknown or not accepted.
    """
    return known_alg(reader.u16(field), reader, field)


def decode_hash(reader: Reader, field: str) -> HashAlg:
    """Read a TPMI_ALG_HASH.

    Raises:
        MalformedInput: cut off, unknown or not accepted.
    """
    return known_hash(reader.u16(field), reader, field)


def decode_curve(reader: Reader, field: str) -> CurveId:
    """Read a TPM_ECC_CURVE.

    Raises:
        MalformedInput: cut off, unknown or not accepted.
    """
    return _known(_CURVES_BY_NUMBER, reader.u16(field), reader, field)


def known_alg(number: int, reader: Reader, field: str) -> Alg:
    """Return the algorithm of a number that ``reader`` has just read.

    Raises:
        MalformedInput: unknown or not accepted.
    """
    return _known(_ALGS_BY_NUMBER, number, reader, field)


def known_hash(number: int, reader: Reader, field: str) -> HashAlg:
    """Return the hash algorithm of a number that ``reader`` has just read.

    Raises:
        MalformedInput: unknown or not accepted.
    """
    return _known(HASHES_BY_NUMBER, number, reader, field)


def _known(table: dict[int, _Known], number: int, reader: Reader, field: str) -> _Known:
    found = table.get(number)
    if found is None:
        raise reader.fault(field, f"is 0x{number:04x}, which is unknown or not accepted")
    return found
