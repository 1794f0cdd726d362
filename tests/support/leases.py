"""A made-up lease, as a node holds it after a release."""

from __future__ import annotations

from nodeseal.agent.release.leases import HeldLease
from nodeseal.agent.tpm.connection import SavedKey
from nodeseal.agent.tpm.context import SavedContext
from nodeseal.crypto.hpke import Wrapped
from nodeseal.ids import Digest, KeyId, LeaseId
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr import PcrSelection

ONE, TWO = LeaseId("l-" + "a" * 26), LeaseId("l-" + "b" * 26)


def saved_context(content: bytes) -> SavedContext:
    """Return a saved context of any bytes, header included."""
    context = SavedContext()
    context._memory[: len(content)] = content
    context._size = len(content)
    return context


def released(lease_id: LeaseId = ONE, model: str = "ab", silence_seconds: int = 0) -> HeldLease:
    return HeldLease(
        lease_id=lease_id,
        model_digest=Digest(model * 32),
        key_id=KeyId("llama"),
        context=b"{}",
        sealed=Wrapped(b"", b"secret"),
        release_key=SavedKey(public=b"", context=saved_context(b"context")),
        release_point=b"",
        policy_selection=PcrSelection.of({HashAlg.SHA256: (0, 23)}),
        silence_seconds=silence_seconds,
    )
