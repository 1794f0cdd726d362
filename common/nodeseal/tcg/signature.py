"""TPM signatures: TPMT_SIGNATURE of RSASSA, RSAPSS and ECDSA (TPM Library Part 2 §11.3)."""

from __future__ import annotations

from dataclasses import dataclass

from nodeseal.tcg.algorithms import Alg, HashAlg, decode_alg, decode_hash
from nodeseal.tcg.buffer import Reader, sized, u16

MAX_RSA_BYTES = 512
MAX_COORDINATE = 66


@dataclass(frozen=True, slots=True)
class RsaSignature:
    """TPMS_SIGNATURE_RSA (§11.3.1).

    Attributes:
        scheme: RSASSA (PKCS #1 v1.5) or RSAPSS.
        hash_alg: hash of the message.
        signature: as long as the modulus.
    """

    scheme: Alg
    hash_alg: HashAlg
    signature: bytes


@dataclass(frozen=True, slots=True)
class EccSignature:
    """TPMS_SIGNATURE_ECC by ECDSA (§11.3.2). Whether ``r`` and ``s`` are in range is not checked here."""

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
    scheme = decode_alg(reader, "sigAlg")
    signature: TpmSignature
    if scheme is Alg.ECDSA:
        signature = EccSignature(
            decode_hash(reader, "hash"),
            int.from_bytes(reader.sized("signatureR", MAX_COORDINATE), "big"),
            int.from_bytes(reader.sized("signatureS", MAX_COORDINATE), "big"),
        )
    elif scheme in (Alg.RSASSA, Alg.RSAPSS):
        signature = RsaSignature(scheme, decode_hash(reader, "hash"), reader.sized("sig", MAX_RSA_BYTES))
    else:
        raise reader.fault("sigAlg", f"is {scheme.name}, which does not sign")
    reader.end()
    return signature


def encode_signature(signature: TpmSignature, coordinate_size: int = 32) -> bytes:
    """Return the TPMT_SIGNATURE.

    Args:
        signature: what to encode.
        coordinate_size: bytes of ``r`` and ``s``, as the curve says.
    """
    head = u16(signature.scheme) + u16(signature.hash_alg)
    if isinstance(signature, RsaSignature):
        return head + sized(signature.signature)
    return head + b"".join(sized(part.to_bytes(coordinate_size, "big")) for part in (signature.r, signature.s))
