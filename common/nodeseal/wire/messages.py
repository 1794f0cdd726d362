"""The one codec between protobuf messages and values that agent, verifier and command share; no decisions.

Findings, PCR selections, node states, causes of ends and times. Evidence has a module of its own,
:mod:`nodeseal.wire.evidence`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from nodeseal.causes import EndCause
from nodeseal.documents import EPOCH
from nodeseal.errors import MalformedInput
from nodeseal.findings import BY_CODE, Finding, describe
from nodeseal.inert import inert
from nodeseal.sealed.slots import Slots, parse_slots
from nodeseal.tpm.algorithms import HASHES_BY_NUMBER, HashAlg
from nodeseal.tpm.pcr import PcrSelection
from nodeseal.v1 import attestation_pb2

UNKNOWN_STATE: Final = "unknown"
"""Name of a state that a newer peer has and this version has not."""
_MAX_TEXT: Final = 2000
"""Characters of one text of a finding."""
_STATES: Final = {
    name.removeprefix("NODE_STATE_").lower(): number for name, number in attestation_pb2.NodeState.items() if number
}
_STATE_NAMES: Final[dict[int, str]] = {int(number): name for name, number in _STATES.items()}

_CAUSES: Final[dict[EndCause, attestation_pb2.EndCause.ValueType]] = {
    EndCause.DISTRUST: attestation_pb2.END_CAUSE_DISTRUST,
    EndCause.SILENCE: attestation_pb2.END_CAUSE_SILENCE,
    EndCause.REVOCATION: attestation_pb2.END_CAUSE_REVOCATION,
}
_CAUSE_NUMBERS: Final[dict[int, EndCause]] = {
    attestation_pb2.END_CAUSE_UNSPECIFIED: EndCause.REVOCATION,
    **{number: cause for cause, number in _CAUSES.items()},
}


def findings_to_proto(findings: Iterable[Finding]) -> list[attestation_pb2.Finding]:
    """Return findings as messages. Their texts are inert and cut, the remedy goes along for peers of other versions."""
    return [
        attestation_pb2.Finding(
            id=finding.id.code,
            where=shown_text(finding.where),
            expected=shown_text(finding.expected),
            seen=shown_text(finding.seen),
            remedy=finding.remedy,
            event=shown_text(finding.event),
        )
        for finding in findings
    ]


def findings_from_proto(messages: Iterable[attestation_pb2.Finding]) -> tuple[Finding, ...]:
    """Return the findings whose ids this version knows."""
    return tuple(
        Finding(id=BY_CODE[each.id], where=each.where, expected=each.expected, seen=each.seen, event=each.event)
        for each in messages
        if each.id in BY_CODE
    )


def describe_finding(message: attestation_pb2.Finding) -> str:
    """Return a finding, of this or another version, as one line of text."""
    return describe(message.id, message.where, expected=message.expected, seen=message.seen, event=message.event)


def shown_text(text: str) -> str:
    """Return a text of others as peers are shown it: inert, and at most 2000 characters."""
    return inert(text)[:_MAX_TEXT]


@lru_cache(maxsize=64)
def selection_to_proto(selection: PcrSelection) -> attestation_pb2.PcrSelection:
    """Return a selection's message, which is shared: copy it, never change it."""
    banks = [attestation_pb2.PcrSelection.Bank(hash=bank, pcrs=pcrs) for bank, pcrs in selection.banks]
    return attestation_pb2.PcrSelection(banks=banks)


def selection_from_proto(message: attestation_pb2.PcrSelection) -> PcrSelection:
    """Return the selection of a message.

    Raises:
        MalformedInput: an unknown bank, no bank, a bank named twice, or indices that do not ascend from 0 to 23.
    """
    return PcrSelection(
        tuple((bank_from_proto(bank.hash, "PCR selection"), tuple(bank.pcrs)) for bank in message.banks)
    )


def bank_from_proto(number: int, source: str) -> HashAlg:
    """Return the PCR bank of a TPM_ALG_ID.

    Args:
        number: the TPM_ALG_ID.
        source: the structure that names it, for the error.

    Raises:
        MalformedInput: no bank that nodeseal knows.
    """
    if number not in HASHES_BY_NUMBER:
        raise MalformedInput(f"{source}: unknown bank 0x{number:04x}")
    return HASHES_BY_NUMBER[number]


def slots_from_proto(raw: bytes, peer: str) -> Slots:
    """Return the slots that a peer sent as the bytes of their document.

    Args:
        raw: bytes of the field ``slots``.
        peer: the program that sent it, for the error.

    Raises:
        MalformedInput: no document that :func:`nodeseal.sealed.slots.parse_slots` accepts. Peers of the first release
            send slots in another field, so this one is empty.
    """
    if not raw:
        raise MalformedInput(f"{peer} sent no slots, as older versions do", remedy=f"update {peer}")
    return parse_slots(raw, f"slots from {peer}")


def state_to_proto(name: str) -> attestation_pb2.NodeState.ValueType:
    """Return the number of the node state called ``name``, such as ``trusted``."""
    return _STATES[name]


def state_from_proto(number: int) -> str:
    """Return the name of a node state, :data:`UNKNOWN_STATE` where this version has none."""
    return _STATE_NAMES.get(number, UNKNOWN_STATE)


def cause_to_proto(cause: EndCause) -> attestation_pb2.EndCause.ValueType:
    """Return the number of a cause."""
    return _CAUSES[cause]


def cause_from_proto(number: int) -> EndCause:
    """Return the cause with a number.

    A message of the first release has none and means a revocation. A cause that this version does not know is taken for
    the one that ends most.
    """
    return _CAUSE_NUMBERS.get(number, EndCause.DISTRUST)


def timestamp(at: datetime) -> Timestamp:
    """Return a point in time as a message."""
    message = Timestamp()
    fill_timestamp(message, at)
    return message


def fill_timestamp(message: Timestamp, at: datetime) -> None:
    """Write a point in time. Every round calls this, and it is four times as fast as ``FromDatetime``."""
    since = at - EPOCH
    message.seconds = since.days * 86_400 + since.seconds
    message.nanos = since.microseconds * 1000
