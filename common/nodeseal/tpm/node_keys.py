"""Attributes of the keys that a node's agent creates in its TPM (TPMA_OBJECT, TPM Library Part 2)."""

from __future__ import annotations

from typing import Final

from nodeseal.tpm.algorithms import ObjectAttributes

_MADE_HERE: Final = (
    ObjectAttributes.FIXED_TPM
    | ObjectAttributes.FIXED_PARENT
    | ObjectAttributes.SENSITIVE_DATA_ORIGIN
    | ObjectAttributes.NO_DA
)
ATTESTATION_KEY_ATTRIBUTES: Final = (
    _MADE_HERE | ObjectAttributes.RESTRICTED | ObjectAttributes.SIGN_ENCRYPT | ObjectAttributes.USER_WITH_AUTH
)
"""Made in this TPM and never leaves it; signs only structures that this TPM made; empty password."""
RELEASE_KEY_ATTRIBUTES: Final = _MADE_HERE | ObjectAttributes.DECRYPT
"""Made in this TPM and never leaves it; for ECDH only, and by policy only (userWithAuth is clear)."""
