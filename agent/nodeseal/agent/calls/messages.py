"""Protobuf messages to values and back: the only module of the agent that knows both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from nodeseal.agent.evidence.attester import AgentChallenge
from nodeseal.agent.evidence.logs import KnownLogs
from nodeseal.errors import MalformedInput
from nodeseal.evidence.binding import NONCE_SIZE
from nodeseal.evidence.logs import MAX_LOG_PIECE, KnownLogs
from nodeseal.evidence.round import Evidence
from nodeseal.findings import BY_CODE, Finding
from nodeseal.ids import LeaseId, Nonce, parse_lease_id
from nodeseal.tpm.algorithms import HASHES_BY_NUMBER
from nodeseal.tpm.pcr import PcrSelection
from nodeseal.v1 import attestation_pb2

_MAX_OFFSET: Final = 1 << 62
"""Bytes; more than any file has."""


def parse_challenge(message: attestation_pb2.Challenge) -> AgentChallenge:
    """Return what the verifier asks for.

    Raises:
        MalformedInput: as :func:`parse_nonce` and :func:`parse_selection`, or an offset that no file has.
    """
    if message.ima_offset_known > _MAX_OFFSET:
        raise MalformedInput(f"challenge: knows {message.ima_offset_known} bytes of the IMA log")
    return AgentChallenge(
        nonce=parse_nonce(message.nonce),
        selection=parse_selection(message.pcr_selection),
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
        MalformedInput: it has another size.
    """
    if len(raw) != NONCE_SIZE:
        raise MalformedInput(f"challenge: a nonce of {len(raw)} bytes, not {NONCE_SIZE}")
    return Nonce(raw)


def parse_selection(message: attestation_pb2.PcrSelection) -> PcrSelection:
    """Return a PCR selection.

    Raises:
        MalformedInput: an unknown bank, none, one named twice, or indices that are not ascending from 0 to 23.
    """
    unknown = [bank.hash for bank in message.banks if bank.hash not in HASHES_BY_NUMBER]
    if unknown:
        raise MalformedInput(f"PCR selection: unknown bank 0x{unknown[0]:04x}")
    return PcrSelection(tuple((HASHES_BY_NUMBER[bank.hash], tuple(bank.pcrs)) for bank in message.banks))


def parse_findings(messages: Iterable[attestation_pb2.Finding]) -> tuple[Finding, ...]:
    """Return the findings whose ids this version knows."""
    return tuple(
        Finding(id=BY_CODE[each.id], where=each.where, expected=each.expected, seen=each.seen, event=each.event)
        for each in messages
        if each.id in BY_CODE
    )


def evidence_messages(evidence: Evidence) -> Iterator[attestation_pb2.Evidence]:
    """Yield one round's evidence: logs in stretches, each made when it is due, and all else in the last message."""
    boot_log, entries = evidence.boot_log or b"", evidence.ima.entries if evidence.ima else b""
    size = len(boot_log) + len(entries)
    for start in range(0, size or 1, MAX_LOG_PIECE):
        end = start + MAX_LOG_PIECE
        message = attestation_pb2.Evidence(boot_log=boot_log[start:end], more=end < size)
        if evidence.ima is not None and (end > len(boot_log) or not message.more):
            first = max(start - len(boot_log), 0)
            message.ima.offset = evidence.ima.offset + first
            message.ima.entries = entries[first : end - len(boot_log)]
            message.ima.hash = evidence.ima.bank
        if not message.more:
            message.claims, message.attest, message.signature = evidence.claims, evidence.attest, evidence.signature
            message.pcr_values.extend(evidence.pcr_values or ())
        yield message


def parse_lease_ids(texts: Iterable[str]) -> tuple[LeaseId, ...]:
    """Return the lease ids of a revocation.

    Raises:
        MalformedInput: one is none.
    """
    return tuple(map(parse_lease_id, texts))
