"""Evidence as protobuf messages: one round's answer, cut into messages, and each message as a value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nodeseal.errors import MalformedInput
from nodeseal.evidence.logs import MAX_LOG_PIECE, ImaDelta
from nodeseal.evidence.round import Evidence
from nodeseal.tpm.pcr import MAX_BANKS
from nodeseal.v1 import attestation_pb2
from nodeseal.wire.messages import bank_from_proto


def evidence_to_proto(evidence: Evidence) -> Iterator[attestation_pb2.Evidence]:
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
            message.pcr_banks.extend(evidence.banks)
        yield message


def evidence_from_proto(message: attestation_pb2.Evidence) -> Evidence:
    """Return one message of an answer. Values or logs that were not sent have not changed.

    Raises:
        MalformedInput: an IMA log of an unknown bank, or more PCR banks than a TPM has.
    """
    values = message.pcr_values
    return Evidence(
        claims=message.claims,
        attest=message.attest,
        signature=message.signature,
        pcr_values=tuple(values) if values else None,
        boot_log=message.boot_log or None,
        ima=_ima_from_proto(message.ima) if message.HasField("ima") else None,
        banks=banks_from_proto(message.pcr_banks) if message.pcr_banks else (),
    )


def banks_from_proto(numbers: Sequence[int]) -> tuple[int, ...]:
    """Return the numbers of a TPM's banks; those that nodeseal does not know are kept, for people.

    Raises:
        MalformedInput: more banks than a TPM has.
    """
    if len(numbers) > MAX_BANKS:
        raise MalformedInput(f"PCR banks: {len(numbers)}, at most {MAX_BANKS}")
    return tuple(numbers)


def _ima_from_proto(message: attestation_pb2.ImaStretch) -> ImaDelta:
    bank = bank_from_proto(message.hash, "IMA log")
    return ImaDelta(offset=message.offset, entries=message.entries, bank=bank)
