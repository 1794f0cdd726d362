"""Templates of the keys that the agent creates (TPMT_PUBLIC, TPM 2.0 Part 2)."""

from __future__ import annotations

from typing import Final

from nodeseal.tpm.algorithms import Alg, CurveId, HashAlg
from nodeseal.tpm.node_keys import ATTESTATION_KEY_ATTRIBUTES, RELEASE_KEY_ATTRIBUTES
from nodeseal.tpm.public import EccPublic, Scheme

UNIQUE_SIZE: Final = 64
_COORDINATE: Final = 32


def attestation_key(unique: bytes) -> EccPublic:
    """Return the template of an attestation key: restricted, ECDSA over P-256 with SHA-256, empty password."""
    return EccPublic(
        name_alg=HashAlg.SHA256,
        attributes=ATTESTATION_KEY_ATTRIBUTES,
        auth_policy=b"",
        symmetric=None,
        scheme=Scheme(Alg.ECDSA, HashAlg.SHA256),
        curve=CurveId.P256,
        x=unique[:_COORDINATE],
        y=unique[_COORDINATE:],
    )


def release_key(policy: bytes, unique: bytes) -> EccPublic:
    """Return the template of a release key: ECDH over P-256, usable by ``policy`` alone."""
    return EccPublic(
        name_alg=HashAlg.SHA256,
        attributes=RELEASE_KEY_ATTRIBUTES,
        auth_policy=policy,
        symmetric=None,
        scheme=None,
        curve=CurveId.P256,
        x=unique[:_COORDINATE],
        y=unique[_COORDINATE:],
    )
