"""Goldens on their way to the verifier and back: larger than its messages, so in parts."""

from __future__ import annotations

from typing import Final

from nodeseal.client.connection import TRANSFER_SECONDS, Verifier
from nodeseal.errors import MalformedInput
from nodeseal.golden.document import MAX_GOLDEN
from nodeseal.v1 import admin_pb2

_PART: Final = 256 * 1024


def fetch_golden(verifier: Verifier, digest: str) -> admin_pb2.Golden:
    """Return a golden of the verifier with its document, which comes in parts.

    Raises:
        MalformedInput: it is larger than goldens are.
    """
    golden, document = admin_pb2.Golden(), bytearray()
    for golden in verifier.goldens.GetGolden(admin_pb2.GetGoldenRequest(digest=digest), timeout=TRANSFER_SECONDS):
        document += golden.document
        if len(document) > MAX_GOLDEN:
            raise MalformedInput(f"golden {digest}: has more than {MAX_GOLDEN >> 20} MiB")
    golden.document = bytes(document)
    return golden


def activate_golden(verifier: Verifier, document: bytes) -> admin_pb2.Golden:
    """Let a golden count from now on; its document goes in parts."""
    starts = range(0, len(document), _PART)
    parts = (admin_pb2.ActivateGoldenRequest(document=document[start : start + _PART]) for start in starts)
    return verifier.goldens.ActivateGolden(parts, timeout=TRANSFER_SECONDS)
