"""Challenges and revocations of the verifier, from messages to values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from nodeseal.agent.evidence.attester import AgentChallenge
from nodeseal.errors import MalformedInput
from nodeseal.evidence.binding import NONCE_SIZE
from nodeseal.evidence.logs import KnownLogs
from nodeseal.ids import LeaseId, Nonce, parse_lease_id
from nodeseal.v1 import attestation_pb2
from nodeseal.wire.messages import selection_from_proto

_MAX_OFFSET: Final = 1 << 62
"""Bytes; more than any file has."""


def parse_challenge(message: attestation_pb2.Challenge) -> AgentChallenge:
    """Return what the verifier asks for.

    Raises:
        MalformedInput: a nonce of another size, a bad PCR selection, or an offset that no file has.
    """
    if message.ima_offset_known > _MAX_OFFSET:
        raise MalformedInput(f"challenge: knows {message.ima_offset_known} bytes of the IMA log")
    return AgentChallenge(
        nonce=parse_nonce(message.nonce),
        selection=selection_from_proto(message.pcr_selection),
        values_required=message.values_required,
        known=KnownLogs(
            boot_id=message.boot_id_known,
            boot_log_sha256=message.boot_log_known,
            ima_offset=message.ima_offset_known,
        ),
    )


def parse_nonce(raw: bytes) -> Nonce:
    """Return a challenge's nonce.

    Raises:
        MalformedInput: the nonce has another size.
    """
    if len(raw) != NONCE_SIZE:
        raise MalformedInput(f"challenge: a nonce of {len(raw)} bytes, not {NONCE_SIZE}")
    return Nonce(raw)


def parse_lease_ids(texts: Iterable[str]) -> tuple[LeaseId, ...]:
    """Return the lease ids of a revocation.

    Raises:
        MalformedInput: a text that is no lease id.
    """
    return tuple(map(parse_lease_id, texts))
