"""Digests of TPM policies, computed without a TPM (TPM Library Part 1, "Enhanced Authorization")."""

from __future__ import annotations

from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.buffer import u32
from nodeseal.tpm.handles import PermanentHandle
from nodeseal.tpm.pcr import PcrSelection

_CC_POLICY_SECRET = 0x00000151
_CC_POLICY_OR = 0x00000171
_CC_POLICY_PCR = 0x0000017F


def policy_pcr(selection: PcrSelection, pcr_digest: bytes, policy_hash: HashAlg = HashAlg.SHA256) -> bytes:
    """Return the policy of one TPM2_PolicyPCR in a fresh session (Part 3).

    Args:
        selection: the PCRs; the command names them in bitmaps of three bytes.
        pcr_digest: digest over their values by ``policy_hash``.
        policy_hash: hash of the policy session, which is the key's nameAlg.
    """
    return _extend(policy_hash, bytes(policy_hash.digest_size), u32(_CC_POLICY_PCR), selection.encode(), pcr_digest)


def policy_secret_endorsement(policy_hash: HashAlg = HashAlg.SHA256) -> bytes:
    """Return PolicyA of the TCG EK Credential Profile: TPM2_PolicySecret(TPM_RH_ENDORSEMENT).

    PolicyUpdate (Part 3, "Policy Digest Update Function") hashes twice: command and entity name, then the (empty)
    policyRef. The name of a permanent handle is the handle.
    """
    first = _extend(
        policy_hash, bytes(policy_hash.digest_size), u32(_CC_POLICY_SECRET), u32(PermanentHandle.ENDORSEMENT)
    )
    return _extend(policy_hash, first)


def policy_or(branches: tuple[bytes, ...], policy_hash: HashAlg = HashAlg.SHA256) -> bytes:
    """Return the policy that any of ``branches`` satisfies (TPM2_PolicyOR, Part 3)."""
    return _extend(policy_hash, bytes(policy_hash.digest_size), u32(_CC_POLICY_OR), *branches)


def _extend(policy_hash: HashAlg, *parts: bytes) -> bytes:
    return policy_hash.digest(b"".join(parts))
