"""Protobuf messages to values and back: the only module of the agent that knows both."""

from __future__ import annotations

from collections.abc import Iterable

from nodeseal.errors import MalformedInput
from nodeseal.evidence import NONCE_SIZE, Evidence
from nodeseal.findings import BY_CODE, Finding
from nodeseal.ids import LeaseId, Nonce, parse_lease_id
from nodeseal.sealed.slots import Slot
from nodeseal.tcg.algorithms import HashAlg
from nodeseal.tcg.pcr import PcrSelection
from nodeseal.v1 import attestation_pb2, key_release_pb2

_HASHES = {alg.value: alg for alg in HashAlg}


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
    unknown = [bank.hash for bank in message.banks if bank.hash not in _HASHES]
    if unknown:
        raise MalformedInput(f"PCR selection: unknown bank 0x{unknown[0]:04x}")
    return PcrSelection(tuple((_HASHES[bank.hash], tuple(bank.pcrs)) for bank in message.banks))


def parse_findings(messages: Iterable[attestation_pb2.Finding]) -> tuple[Finding, ...]:
    """Return the findings whose ids this version knows."""
    return tuple(
        Finding(id=BY_CODE[each.id], where=each.where, expected=each.expected, seen=each.seen)
        for each in messages
        if each.id in BY_CODE
    )


def evidence_message(evidence: Evidence) -> attestation_pb2.Evidence:
    """Return the message for one round's evidence."""
    return attestation_pb2.Evidence(
        claims=evidence.claims,
        attest=evidence.attest,
        signature=evidence.signature,
        pcr_values=evidence.pcr_values or (),
    )


def slot_message(slot: Slot) -> key_release_pb2.Slot:
    """Return the message for one slot of a sealed model."""
    return key_release_pb2.Slot(
        key_id=slot.key_id,
        key_version=slot.key_version,
        suite=slot.suite.value,
        enc=slot.sealed.enc,
        wrapped=slot.sealed.wrapped,
    )


def parse_lease_ids(texts: Iterable[str]) -> tuple[LeaseId, ...]:
    """Return the lease ids of a revocation.

    Raises:
        MalformedInput: one is none.
    """
    return tuple(map(parse_lease_id, texts))
