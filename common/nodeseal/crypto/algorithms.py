"""Accepted keys and hashes, and their objects in the library ``cryptography``."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from nodeseal.tpm.algorithms import CurveId, HashAlg

MIN_RSA_BITS: Final = 2048
"""Shortest RSA key whose signatures count."""
MAX_RSA_BITS: Final = 8192
"""Longest RSA key that a certificate may hold; checking longer ones takes too long."""
CURVES: Final[dict[CurveId, ec.EllipticCurve]] = {
    CurveId.P192: ec.SECP192R1(),
    CurveId.P224: ec.SECP224R1(),
    CurveId.P256: ec.SECP256R1(),
    CurveId.P384: ec.SECP384R1(),
    CurveId.P521: ec.SECP521R1(),
}
"""All curves that decode; policy accepts those in :data:`ACCEPTED_CURVES`."""
CURVE_IDS: Final = {curve.name: number for number, curve in CURVES.items()}
"""Curves by the library's name."""
ACCEPTED_CURVES: Final = frozenset({CurveId.P256, CurveId.P384, CurveId.P521})
"""Accepted curves of TPM keys, certificates and TLS: at least 128 bits of strength."""
HASHES: Final[dict[HashAlg, hashes.HashAlgorithm]] = {
    HashAlg.SHA1: hashes.SHA1(),  # noqa: S303  # only the verifier for forensics asks for it
    HashAlg.SHA256: hashes.SHA256(),
    HashAlg.SHA384: hashes.SHA384(),
    HashAlg.SHA512: hashes.SHA512(),
}


def is_accepted_curve(curve: ec.EllipticCurve) -> bool:
    """Tell whether keys on ``curve`` are accepted."""
    return CURVE_IDS.get(curve.name) in ACCEPTED_CURVES
