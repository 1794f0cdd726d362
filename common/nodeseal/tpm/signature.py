"""TPM signatures: TPMT_SIGNATURE of RSASSA, RSAPSS and ECDSA (TPM Library Part 2)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from nodeseal.tpm.algorithms import Alg, HashAlg, known_alg, known_hash
from nodeseal.tpm.buffer import Reader, sized, u16

MAX_RSA_BYTES = 512
MAX_COORDINATE = 66
_HEAD = struct.Struct(">HH")
_SIGNING = frozenset({Alg.ECDSA, Alg.RSASSA, Alg.RSAPSS})


class RsaSignature(NamedTuple):
    """TPMS_SIGNATURE_RSA.

    Attributes:
        scheme: RSASSA (PKCS #1 v1.5) or RSAPSS.
        hash_alg: hash of the message.
        signature: the signature, as long as the modulus.
    """

    scheme: Alg
    hash_alg: HashAlg
    signature: bytes


class EccSignature(NamedTuple):
    """TPMS_SIGNATURE_ECC of ECDSA. The range of ``r`` and ``s`` is not checked here."""

    hash_alg: HashAlg
    r: int
    s: int

    @property
    def scheme(self) -> Alg:
        """Always ECDSA."""
        return Alg.ECDSA


TpmSignature = RsaSignature | EccSignature


def decode_signature(raw: bytes) -> TpmSignature:
    """Decode a TPMT_SIGNATURE.

    Raises:
        MalformedInput: cut off, too long, or of a scheme or hash that is not accepted.
    """
    reader = Reader(raw, "TPMT_SIGNATURE")
    scheme_number, hash_number = reader.unpack(_HEAD, "sigAlg")
    scheme = known_alg(scheme_number, reader, "sigAlg")
    if scheme not in _SIGNING:
        raise reader.fault("sigAlg", f"is {scheme.name}, which does not sign")
    hash_alg = known_hash(hash_number, reader, "hash")
    signature: TpmSignature
    if scheme is Alg.ECDSA:
        r, s = reader.sized("signatureR", MAX_COORDINATE), reader.sized("signatureS", MAX_COORDINATE)
        signature = EccSignature(hash_alg, int.from_bytes(r, "big"), int.from_bytes(s, "big"))
    else:
        signature = RsaSignature(scheme, hash_alg, reader.sized("sig", MAX_RSA_BYTES))
    reader.end()
    return signature


def encode_signature(signature: TpmSignature, coordinate_size: int = 32) -> bytes:
    """Return the TPMT_SIGNATURE.

    Args:
        signature: the signature.
        coordinate_size: bytes of ``r`` and ``s`` on its curve.
    """
    head = u16(signature.scheme) + u16(signature.hash_alg)
    if isinstance(signature, RsaSignature):
        return head + sized(signature.signature)
    return head + b"".join(sized(part.to_bytes(coordinate_size, "big")) for part in (signature.r, signature.s))
