"""File signatures in IMA logs: ``security.ima`` (security/integrity/integrity.h, signature_v2_hdr; digsig.c).

The header has 9 bytes: type, version, hash algorithm, key id (4) and size of the signature (2, big-endian). Type and
version determine the signed content:

- type 3 version 2: the file's digest;
- type 6 version 3: the digest of ``struct ima_file_id`` (type, hash algorithm, digest of the fs-verity descriptor), so
  that no file passes for a descriptor. Newer kernels know version 3 with type 3, too, for the file's digest;
- type 5, an EVM portable signature: the file's metadata. The log does not hold them, so the signature proves nothing.

The log proves no field of the header, not even the key id. Only the signature counts.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from nodeseal.errors import MalformedInput
from nodeseal.ima.hash import KERNEL_HASHES, KernelHash

KEY_ID_SIZE: Final = 4
_HEADER: Final = struct.Struct(">BBB4sH")


class SignatureKind(IntEnum):
    """Type of an extended attribute that holds a signature (enum evm_ima_xattr_type)."""

    FILE = 3
    EVM_PORTABLE = 5
    VERITY = 6


_VERSIONS: Final = {SignatureKind.FILE: (2, 3), SignatureKind.EVM_PORTABLE: (2, 3), SignatureKind.VERITY: (3,)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImaSignature:
    """One signature.

    Attributes:
        kind: type of the signed content, as claimed.
        version: format: 2, over the digest itself; 3, over ``struct ima_file_id``.
        hash_alg: hash of the file or descriptor, and of the signature.
        key_id: last four bytes of the signing key's SubjectKeyIdentifier, as claimed.
        signature: PKCS #1 v1.5 of an RSA key, or DER of an ECDSA key's r and s.
    """

    kind: SignatureKind = SignatureKind.FILE
    version: int = 2
    hash_alg: KernelHash
    key_id: bytes
    signature: bytes

    def file_id(self, digest: bytes) -> bytes:
        """Return the part of ``struct ima_file_id`` whose hash a version 3 signature covers."""
        return bytes([self.kind, self.hash_alg.number]) + digest


def decode_ima_signature(raw: bytes) -> ImaSignature:
    """Decode the field ``sig`` of an entry.

    Raises:
        MalformedInput: empty, an unknown type, version or hash, or another size than the header's.
    """
    if len(raw) <= _HEADER.size:
        raise MalformedInput(f"IMA signature: {len(raw)} bytes, a header alone has {_HEADER.size}")
    number, version, hash_number, key_id, size = _HEADER.unpack_from(raw)
    if number not in iter(SignatureKind):
        raise MalformedInput(f"IMA signature: type {number}, none that a signature has")
    kind, signature = SignatureKind(number), raw[_HEADER.size :]
    if version not in _VERSIONS[kind]:
        raise MalformedInput(f"IMA signature: unknown version {version} of type {number}")
    if hash_number >= len(KERNEL_HASHES):
        raise MalformedInput(f"IMA signature: unknown hash algorithm {hash_number}")
    if size != len(signature):
        raise MalformedInput(f"IMA signature: {len(signature)} bytes, its header says {size}")
    hash_alg = KERNEL_HASHES[hash_number]
    return ImaSignature(kind=kind, version=version, hash_alg=hash_alg, key_id=key_id, signature=signature)
