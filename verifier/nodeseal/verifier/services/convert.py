"""Protobuf messages to values and back; no decisions."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache

from google.protobuf.timestamp_pb2 import Timestamp

from nodeseal.errors import MalformedInput
from nodeseal.evidence.logs import ImaDelta
from nodeseal.evidence.round import Evidence
from nodeseal.findings import Finding
from nodeseal.tpm.algorithms import HASHES_BY_NUMBER
from nodeseal.tpm.pcr import PcrSelection
from nodeseal.v1 import attestation_pb2
from nodeseal.verifier.fleet.exchange import Asked, Verdict
from nodeseal.verifier.rounds.session import Instruction
from nodeseal.verifier.states import NodeState

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
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def evidence_from_proto(message: attestation_pb2.Evidence) -> Evidence:
    """Return one message of an answer; no values or logs sent means that they have not changed.

    Raises:
        MalformedInput: an IMA log of an unknown bank.
    """
    values = message.pcr_values
    return Evidence(
        claims=message.claims,
        attest=message.attest,
        signature=message.signature,
        pcr_values=tuple(values) if values else None,
        boot_log=message.boot_log or None,
        ima=_ima_from_proto(message.ima) if message.HasField("ima") else None,
    )


def _ima_from_proto(message: attestation_pb2.ImaStretch) -> ImaDelta:
    if message.hash not in HASHES_BY_NUMBER:
        raise MalformedInput(f"IMA log: unknown bank 0x{message.hash:04x}")
    return ImaDelta(offset=message.offset, entries=message.entries, bank=HASHES_BY_NUMBER[message.hash])


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
    challenge, logs = asked.challenge, asked.challenge.logs
    message.nonce = challenge.nonce
    message.answer_within_ms = asked.answer_within_seconds * 1000
    message.complete_within_ms = (challenge.answer_by - challenge.issued).seconds * 1000
    message.values_required = asked.values_required
    message.boot_id_known = logs.boot_id
    message.boot_log_known = logs.boot_log_sha256
    message.ima_offset_known = logs.ima_offset
    message.pcr_selection.CopyFrom(selection_to_proto(challenge.selection))


@lru_cache(maxsize=64)
def selection_to_proto(selection: PcrSelection) -> attestation_pb2.PcrSelection:
    """Return a selection's message, which is shared: copy it, never change it."""
    banks = [attestation_pb2.PcrSelection.Bank(hash=bank, pcrs=pcrs) for bank, pcrs in selection.banks]
    return attestation_pb2.PcrSelection(banks=banks)


def findings_to_proto(findings: Iterable[Finding]) -> list[attestation_pb2.Finding]:
    """Return findings' messages."""
    return [
        attestation_pb2.Finding(
            id=finding.id.code,
            where=inert(finding.where),
            expected=inert(finding.expected),
            seen=inert(finding.seen),
            remedy=finding.remedy,
            event=inert(finding.event),
        )
        for finding in findings
    ]


def state_to_proto(state: NodeState) -> attestation_pb2.NodeState.ValueType:
    """Return a state's number."""
    return _STATES[state]


def timestamp(at: datetime) -> Timestamp:
    """Return a point in time as a message."""
    message = Timestamp()
    fill_timestamp(message, at)
    return message


def fill_timestamp(message: Timestamp, at: datetime) -> None:
    """Write a point in time; four times as fast as ``FromDatetime``, which every round would call."""
    since = at - _EPOCH
    message.seconds = since.days * 86_400 + since.seconds
    message.nanos = since.microseconds * 1000


def inert(text: str) -> str:
    """Return text in which control characters, escapes and lone surrogates are spelled out."""
    if not text.isprintable():
        text = text.encode("unicode_escape").decode("ascii")
    return text[:_MAX_TEXT]


def _fill_verdict(message: attestation_pb2.Verdict, verdict: Verdict) -> None:
    message.state = _STATES[verdict.state]
    message.trusted_for_ms = verdict.trusted_for_ms
    if verdict.trusted_until is not None:
        fill_timestamp(message.trusted_until, verdict.trusted_until)
    if verdict.findings:
        message.findings.extend(findings_to_proto(verdict.findings))
