"""Prove a stretch of an IMA log: it must replay to the quoted PCR 10, through every value that was proved before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from nodeseal.appraisal.kinds.ima_replay import Stretch, replay
from nodeseal.appraisal.kinds.ima_rules import CompiledRuntime, Span
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.evidence.logs import MAX_IMA_DELTA, ImaDelta
from nodeseal.evidence.quote import QuotedPcrs
from nodeseal.findings import Finding, FindingId
from nodeseal.ima.log import MAX_TEMPLATE_DATA, ImaEntry, ima_entries, template_hash
from nodeseal.tpm.algorithms import STRONG_HASHES, HashAlg
from nodeseal.tpm.pcr_usage import IMA_PCR

_LONGEST: Final = MAX_IMA_DELTA - MAX_TEMPLATE_DATA - 1024
"""Bytes of a stretch that an agent may have cut off behind a whole entry, because a round brings no more."""
_EXPLAINED: Final = 4 * 1024 * 1024
"""Bytes of a log that is gone through once more to say why it does not replay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPart:
    """Entries that were measured in one span, and the goldens to hold them against.

    Attributes:
        stop: end of the entries, in bytes of the delta.
        reached: value of PCR 10 that was proved there; None: this round must prove their end.
        goldens: goldens whose verdict does not cover the entries yet.
        measured: when the entries were measured.
    """

    stop: int
    reached: bytes | None
    goldens: Sequence[CompiledRuntime]
    measured: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPlan:
    """Everything that a round must prove.

    Attributes:
        delta: the stretch of log that was sent.
        pcrs: the quoted values.
        bank: the quoted bank that the log is judged in.
        before: values of PCR 10 before the first entry, by bank.
        parts: the entries of the delta, in order.
    """

    delta: ImaDelta
    pcrs: QuotedPcrs
    bank: HashAlg
    before: Mapping[HashAlg, bytes]
    parts: Sequence[LogPart]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayProof:
    """Everything that a round proved; only :func:`prove` makes one.

    Attributes:
        end: end of the last proved entry, in bytes of the delta.
        aggregates: values of PCR 10 there, by bank.
        unlisted: parts, and the offsets of their proved entries that some golden's tables do not list.
    """

    end: int
    aggregates: Mapping[HashAlg, bytes]
    unlisted: Sequence[tuple[LogPart, Sequence[int]]]


def judged_bank(banks: Iterable[HashAlg]) -> HashAlg:
    """Return the strongest of the quoted banks.

    Raises:
        ProofFailed: IMA_REPLAY: PCR 10 was quoted in no bank that counts.
    """
    known = set(banks)
    for bank in reversed(STRONG_HASHES):
        if bank in known:
            return bank
    expected = f"a quote of PCR {IMA_PCR} in a SHA-256, SHA-384 or SHA-512 bank, as before"
    raise ProofFailed(Finding(id=FindingId.IMA_REPLAY, expected=expected, seen="none"))


def prove(plan: ReplayPlan) -> ReplayProof:
    """Replay what was sent, up to the last entry at which PCR 10 has the quoted values.

    Raises:
        ProofFailed: IMA_REPLAY: PCR 10 never has the quoted value; IMA_LOG_TOO_LONG: it does not within the most bytes
            that a round may bring.
        MalformedInput: an entry does not parse, or there are too many bytes.
    """
    log, wanted = plan.delta.entries, plan.pcrs.get(plan.bank, IMA_PCR)
    if len(log) > MAX_IMA_DELTA:
        raise MalformedInput(f"IMA log: {len(log)} bytes in one round, at most {MAX_IMA_DELTA}")
    at, value, met = 0, plan.before[plan.bank], None
    unlisted: list[tuple[LogPart, Sequence[int]]] = []
    for part in plan.parts:
        stretch = Stretch(log=log, width=plan.delta.bank, start=at, stop=part.stop)
        replayed = replay(stretch, plan.bank, value, wanted, part.goldens)
        at, value, met = replayed.end, replayed.value, replayed.met
        unlisted.append((part, replayed.unlisted))
        if part.reached is not None and (at, value) != (part.stop, part.reached):
            raise _failed(plan.bank, f"{part.reached.hex()} after {part.stop} bytes, as before", _seen(value, at))
    if met is None and len(log) > _LONGEST:
        raise ProofFailed(_too_long(plan))
    if met is None:
        raise _failed(plan.bank, f"{_shown(wanted)} after one of the entries", f"{_seen(value, at)}{_sent(plan)}")
    return ReplayProof(
        end=met, aggregates={bank: _value_at(plan, bank, met) for bank in plan.before}, unlisted=unlisted
    )


def unlisted_entries(plan: ReplayPlan, proof: ReplayProof) -> Iterator[tuple[LogPart, int, ImaEntry]]:
    """Iterate over the proved entries that some golden's tables do not list, with part and offset."""
    for part, offsets in proof.unlisted:
        for at in offsets if part.goldens else ():
            if at < proof.end:
                _, entry = next(ima_entries(plan.delta.entries, plan.delta.bank, at))
                yield part, at, entry


def _value_at(plan: ReplayPlan, bank: HashAlg, end: int) -> bytes:
    """Return PCR 10 after ``end`` bytes; if ``bank`` was quoted, that must be the quoted value."""
    quoted = plan.pcrs.get(bank, IMA_PCR)
    if bank == plan.bank and quoted is not None:
        return quoted
    stretch = Stretch(log=plan.delta.entries, width=plan.delta.bank, start=0, stop=end)
    value = replay(stretch, bank, plan.before[bank], None, ()).value
    if quoted not in (None, value):
        raise _failed(bank, _shown(quoted), _seen(value, end))
    return value


def _too_long(plan: ReplayPlan) -> Finding:
    return Finding(
        id=FindingId.IMA_LOG_TOO_LONG,
        expected=f"PCR {IMA_PCR} as quoted within {MAX_IMA_DELTA} bytes from byte {plan.delta.offset} on",
        seen=f"{len(plan.delta.entries)} bytes that do not get there",
        where=f"{plan.bank.hashlib_name} PCR {IMA_PCR}",
    )


def _sent(plan: ReplayPlan) -> str:
    if len(plan.delta.entries) > _EXPLAINED:
        return f" ({len(plan.delta.entries)} bytes from byte {plan.delta.offset} on)"
    count = sum(1 for _ in ima_entries(plan.delta.entries, plan.delta.bank))
    padded = "; it fits SHA-1 digests padded with zeros, as Linux before 5.8 extends them" if _fits_padded(plan) else ""
    return f" ({count} entries from byte {plan.delta.offset} on){padded}"


def _fits_padded(plan: ReplayPlan) -> bool:
    """Tell whether an old kernel explains the quote: such a bank proves no more than SHA-1 does (ima_pcr_extend)."""
    value, wanted = plan.before[plan.bank], plan.pcrs.get(plan.bank, IMA_PCR)
    for _, entry in ima_entries(plan.delta.entries, plan.delta.bank):
        if entry.pcr == IMA_PCR:
            value = plan.bank.digest(value + template_hash(entry, HashAlg.SHA1).ljust(plan.bank.digest_size, b"\0"))
            if value == wanted:
                return True
    return False


def _seen(value: bytes, at: int) -> str:
    return f"{value.hex()} after {at} bytes"


def _shown(value: bytes | None) -> str:
    return value.hex() if value is not None else "a quoted value"


def _failed(bank: HashAlg, expected: str, seen: str) -> ProofFailed:
    where = f"{bank.hashlib_name} PCR {IMA_PCR}"
    return ProofFailed(Finding(id=FindingId.IMA_REPLAY, expected=expected, seen=seen, where=where))
