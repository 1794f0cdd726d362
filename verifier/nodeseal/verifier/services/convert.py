"""Protobuf messages to values and back; no decisions."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from nodeseal.evidence import Evidence
from nodeseal.findings import Finding
from nodeseal.tcg.pcr import PcrSelection
from nodeseal.v1 import attestation_pb2
from nodeseal.verifier.nodes import Verdict
from nodeseal.verifier.rounds import Asked
from nodeseal.verifier.sessions import Instruction
from nodeseal.verifier.store.schema import NodeState

_STATES = {
    NodeState.PENDING: attestation_pb2.NODE_STATE_PENDING,
    NodeState.TRUSTED: attestation_pb2.NODE_STATE_TRUSTED,
    NodeState.REBOOTING: attestation_pb2.NODE_STATE_REBOOTING,
    NodeState.STALE: attestation_pb2.NODE_STATE_STALE,
    NodeState.UNTRUSTED: attestation_pb2.NODE_STATE_UNTRUSTED,
    NodeState.QUARANTINED: attestation_pb2.NODE_STATE_QUARANTINED,
    NodeState.RETIRED: attestation_pb2.NODE_STATE_RETIRED,
}
_MAX_TEXT = 2000


def evidence_from_proto(message: attestation_pb2.Evidence) -> Evidence:
    """Return evidence; no values sent means that they have not changed."""
    values = message.pcr_values
    return Evidence(
        claims=message.claims,
        attest=message.attest,
        signature=message.signature,
        pcr_values=tuple(values) if values else None,
    )


def instruction_to_proto(instruction: Instruction) -> attestation_pb2.Instruction:
    """Return an instruction's message."""
    message = attestation_pb2.Instruction()
    if instruction.revoked is not None:
        leases, reason = instruction.revoked
        message.revocation.lease_ids.extend(leases)
        message.revocation.reason = reason
    if instruction.verdict is not None:
        _fill_verdict(message.verdict, instruction.verdict)
    if instruction.asked is not None:
        fill_challenge(message.challenge, instruction.asked)
    return message


def fill_challenge(message: attestation_pb2.Challenge, asked: Asked) -> None:
    """Write a challenge."""
    challenge = asked.challenge
    message.nonce = challenge.nonce
    message.answer_within_ms = (challenge.answer_by - challenge.issued).seconds * 1000
    message.values_required = asked.known.values_required
    fill_selection(message.pcr_selection, challenge.selection)


def fill_selection(message: attestation_pb2.PcrSelection, selection: PcrSelection) -> None:
    """Write a selection of PCRs."""
    for bank, pcrs in selection.banks:
        message.banks.add(hash=bank, pcrs=pcrs)


def findings_to_proto(findings: Iterable[Finding]) -> list[attestation_pb2.Finding]:
    """Return findings' messages."""
    return [
        attestation_pb2.Finding(
            id=finding.id.code,
            where=inert(finding.where),
            expected=inert(finding.expected),
            seen=inert(finding.seen),
            remedy=finding.remedy,
        )
        for finding in findings
    ]


def state_to_proto(state: NodeState) -> attestation_pb2.NodeState.ValueType:
    """Return a state's number."""
    return _STATES[state]


def timestamp(at: datetime) -> Timestamp:
    """Return a point in time as a message."""
    message = Timestamp()
    message.FromDatetime(at)
    return message


def inert(text: str) -> str:
    """Return text in which control characters, escapes and lone surrogates are spelled out."""
    if not text.isprintable():
        text = text.encode("unicode_escape").decode("ascii")
    return text[:_MAX_TEXT]


def _fill_verdict(message: attestation_pb2.Verdict, verdict: Verdict) -> None:
    message.state = _STATES[verdict.state]
    message.trusted_for_ms = verdict.trusted_for_ms
    if verdict.trusted_until is not None:
        message.trusted_until.FromDatetime(verdict.trusted_until)
    if verdict.findings:
        message.findings.extend(findings_to_proto(verdict.findings))
