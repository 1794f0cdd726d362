"""What the verifier tells a node, as messages of ``nodeseal.v1.Attestation``; no decisions."""

from __future__ import annotations

from nodeseal.v1 import attestation_pb2
from nodeseal.verifier.fleet.exchange import Asked, Verdict
from nodeseal.verifier.rounds.session import Instruction
from nodeseal.wire.messages import (
    cause_to_proto,
    fill_timestamp,
    findings_to_proto,
    selection_to_proto,
    state_to_proto,
)


def instruction_to_proto(instruction: Instruction) -> attestation_pb2.Instruction:
    """Return an instruction's message."""
    message = attestation_pb2.Instruction()
    if instruction.revoked is not None:
        message.revocation.lease_ids.extend(instruction.revoked.leases)
        message.revocation.reason = instruction.revoked.reason
        message.revocation.cause = cause_to_proto(instruction.revoked.cause)
    if instruction.verdict is not None:
        _fill_verdict(message.verdict, instruction.verdict)
    if instruction.asked is not None:
        fill_challenge(message.challenge, instruction.asked)
    return message


def fill_challenge(message: attestation_pb2.Challenge, asked: Asked) -> None:
    """Write a challenge."""
    challenge, logs = asked.challenge, asked.challenge.logs
    message.nonce = challenge.nonce
    message.answer_within_ms = asked.answer_within_seconds * 1000
    message.complete_within_ms = (challenge.answer_by - challenge.issued).seconds * 1000
    message.values_required = asked.values_required
    message.boot_id_known = logs.boot_id
    message.boot_log_known = logs.boot_log_sha256
    message.ima_offset_known = logs.ima_offset
    message.pcr_selection.CopyFrom(selection_to_proto(challenge.selection))


def _fill_verdict(message: attestation_pb2.Verdict, verdict: Verdict) -> None:
    message.state = state_to_proto(verdict.state.value)
    message.trusted_for_ms = verdict.trusted_for_ms
    if verdict.trusted_until is not None:
        fill_timestamp(message.trusted_until, verdict.trusted_until)
    if verdict.findings:
        message.findings.extend(findings_to_proto(verdict.findings))
