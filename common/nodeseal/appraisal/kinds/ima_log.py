"""The IMA log round by round: entries that replay into the quoted PCR 10, held against goldens' runtime rules.

The verifier keeps no log. It keeps how far the log was proved, the value of PCR 10 there, and what every golden
objected to (:class:`ImaProgress`). A round brings the new entries.

What is believed
    The kernel appends to its log and extends PCR 10 in one go, but log, PCR and quote are read one after the other. So
    entries are replayed up to the last one at which PCR 10 has the quoted value; later ones wait for the next round.
    A log that never gets there has lost, gained or changed an entry. A log that is sent whole again must pass through
    the value that was proved before, where it was proved.

When an entry was measured
    Between the last round that proved something of this boot and now; in the first round, now. That is strict: a file
    that ran before the verifier knew the node counts as run now. The whole log comes again for a golden that is new, or
    after a restart of the verifier. Then entries before the mark count as measured while the mark grew. A restart keeps
    only the mark up to which the log was good, so it excuses nothing.

What a golden objected to stays for the boot: a file that ran cannot be made not to have run.

Entries of other PCRs, for which an IMA policy must ask, are held against the same rules, but nothing proves that all
of them are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from itertools import islice
from typing import Final

from nodeseal.appraisal.kinds.ima_proof import LogPart, ReplayPlan, ReplayProof, judged_bank, prove, unlisted_entries
from nodeseal.appraisal.kinds.ima_rules import BOOT_AGGREGATE, CompiledRuntime, Span, file_fields, shown_path
from nodeseal.appraisal.kinds.kind import MAX_FINDINGS
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.evidence.logs import ImaDelta
from nodeseal.evidence.quote import QuotedPcrs
from nodeseal.findings import Finding, FindingId
from nodeseal.golden.model import Golden
from nodeseal.ids import Digest
from nodeseal.ima.log import BOOT_AGGREGATE_PCRS, ImaEntry, boot_aggregate_candidates, ima_entries
from nodeseal.ima.template import ImaFields
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr_usage import IMA_PCR

MAX_COUNTED: Final = 10_000
"""Findings of one golden that are counted; later entries are not held against it, since nothing depends on them."""
_BEGINNING: Final = 16
"""Entries among which the boot aggregate is looked for, to tell a log that begins late from one that was added to."""
_REMEMBERED: Final = 32_768
"""Answers on entries that are remembered during a round: only a made-up log repeats an entry often, at the price of a
look-up each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImaMark:
    """How far the log of one boot was proved, and when: small enough to be kept for every node.

    Attributes:
        offset: bytes of the log.
        aggregates: values of PCR 10 after them, by quoted bank.
        first_at: time of the first round of this boot that proved a part of the log.
        last_at: time of the last such round.
    """

    offset: int
    aggregates: Mapping[HashAlg, bytes]
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ImaVerdict:
    """Objections of one golden's runtime rules since boot.

    Attributes:
        findings: the first of them.
        more: how many were left out, :data:`MAX_COUNTED` at most.
    """

    findings: tuple[Finding, ...] = ()
    more: int = 0


_CLEAN: Final = ImaVerdict()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImaProgress:
    """What the next round continues of a node's log; no entry is kept.

    Attributes:
        mark: how far the log was proved.
        verdicts: verdict of every golden that the whole log was held against, by its digest.
        findings: what is wrong with the log whatever goldens say; it stays for the boot.
        kept: the last mark at which at least one golden had no objection; it outlives a restart of the verifier. With a
            later mark, entries that were objected to would count as measured as early as the rest.
    """

    mark: ImaMark
    verdicts: Mapping[Digest, ImaVerdict]
    findings: tuple[Finding, ...] = ()
    kept: ImaMark | None = None

    @property
    def objected(self) -> bool:
        """Whether the log as it is, or every golden, speaks against the node."""
        verdicts = self.verdicts.values()
        return bool(self.findings) or (bool(verdicts) and all(verdict.findings for verdict in verdicts))


@dataclass(frozen=True, slots=True, kw_only=True)
class ImaOutcome:
    """The outcome of one round.

    Attributes:
        progress: what the next round continues; unchanged if this round proved nothing; None: nothing was ever proved.
        findings: what is wrong with the log whatever goldens say. Objections of single goldens are in the progress; a
            golden without a verdict there needs the whole log.
    """

    progress: ImaProgress | None
    findings: tuple[Finding, ...] = ()


@lru_cache(maxsize=64)
def compile_runtime(golden: Golden) -> CompiledRuntime:
    """Return the compiled runtime rules of ``golden``: the same object for the same golden, shared by all nodes.

    Raises:
        ValueError: the golden has none.
        MalformedInput: a path or key of the rules is not one.
    """
    if golden.runtime is None:
        raise ValueError(f"golden {golden.name} has no runtime rules")
    return CompiledRuntime(golden, golden.runtime)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImaRound:
    """What a round brings of the IMA log, and what is known of it.

    Attributes:
        delta: the stretch of log; None: none was sent, which means nothing new.
        progress: what earlier rounds of this boot proved; None: not known.
        mark: how far the log of this boot was ever proved; used where ``progress`` is not known.
        pcrs: quoted values of PCR 10 and the boot PCRs.
        goldens: goldens with runtime rules.
        now: when the evidence arrived.
        settled_at: when the last quote was asked for that showed nothing new, so new entries are newer; None: not
            known, so they may be as old as the mark.
        aggregates: algorithm and digest of boot aggregates that count beside those of the quoted values.
    """

    delta: ImaDelta | None
    progress: ImaProgress | None = None
    mark: ImaMark | None = None
    pcrs: QuotedPcrs
    goldens: Sequence[CompiledRuntime] = ()
    now: datetime
    settled_at: datetime | None = None
    aggregates: Sequence[tuple[str, bytes]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _KnownRound:
    """A round whose missing values are filled in.

    Attributes:
        given: the round.
        delta: the stretch of log to prove.
        mark: how far the log was ever proved; None: not known in a bank that is quoted now.
        since: the earliest moment at which new entries may have been measured.
        aggregates: algorithm and digest of every boot aggregate that counts.
    """

    given: ImaRound
    delta: ImaDelta
    mark: ImaMark | None
    since: datetime
    aggregates: Sequence[tuple[str, bytes]]


def judge_ima(round_: ImaRound) -> ImaOutcome:
    """Prove what a round brings of the IMA log, and hold it against every golden."""
    progress = round_.progress
    try:
        after = _after(_filled(round_))
    except ProofFailed as refused:
        findings = tuple(_explained(round_.delta, refused.findings))
    except MalformedInput as error:
        findings = (Finding(id=FindingId.IMA_LOG_MALFORMED, expected="whole entries of an IMA log", seen=str(error)),)
    else:
        return ImaOutcome(progress=after, findings=after.findings)
    return ImaOutcome(progress=progress, findings=(*progress.findings, *findings) if progress else findings)


def _explained(delta: ImaDelta | None, findings: Iterable[Finding]) -> Iterator[Finding]:
    """Say of a whole log that does not replay and does not begin with a boot aggregate that it was trimmed."""
    for finding in findings:
        trimmed = finding.id is FindingId.IMA_REPLAY and delta is not None and _begins_late(delta)
        yield replace(finding, id=FindingId.IMA_TRIMMED) if trimmed else finding


def _begins_late(delta: ImaDelta) -> bool:
    if delta.offset or not delta.entries:
        return False
    beginning = islice(ima_entries(delta.entries, delta.bank), _BEGINNING)
    try:
        return all(file_fields(entry).path != BOOT_AGGREGATE for _, entry in beginning)
    except MalformedInput:
        return False


def _filled(round_: ImaRound) -> _KnownRound:
    """Return the round with its missing values filled in.

    Raises:
        ProofFailed: IMA_LOG_MISSING, no log was ever sent.
    """
    mark = _comparable(round_.progress.mark if round_.progress else round_.mark, round_.pcrs)
    return _KnownRound(
        given=round_,
        delta=round_.delta or _nothing_new(round_.progress),
        mark=mark,
        since=(round_.settled_at or mark.last_at) if mark else round_.now,
        aggregates=(*_aggregates(round_.pcrs), *round_.aggregates),
    )


def _nothing_new(progress: ImaProgress | None) -> ImaDelta:
    if progress is None:
        raise ProofFailed(Finding(id=FindingId.IMA_LOG_MISSING, expected="the IMA log of this boot", seen="none"))
    return ImaDelta(offset=progress.mark.offset, entries=b"")


def _after(round_: _KnownRound) -> ImaProgress:
    """Return the progress after a round.

    Raises:
        ProofFailed: IMA_REPLAY; IMA_LOG_MISSING, nothing was measured at all.
        MalformedInput: an entry does not parse.
    """
    offset, progress, mark = round_.delta.offset, round_.given.progress, round_.mark
    plan = _whole(round_) if offset == 0 or progress is None else _continued(round_, progress)
    proof = prove(plan)
    if offset + proof.end == 0:
        raise ProofFailed(Finding(id=FindingId.IMA_LOG_MISSING, expected="entries in PCR 10", seen="none"))
    after = ImaProgress(
        mark=ImaMark(
            offset=offset + proof.end,
            aggregates=proof.aggregates,
            first_at=mark.first_at if mark else round_.given.now,
            last_at=round_.given.now,
        ),
        verdicts=_verdicts(round_, plan, proof),
        findings=progress.findings if progress else tuple(_beginning(plan, round_.aggregates)),
    )
    kept = progress.kept if progress else mark
    return replace(after, kept=kept if after.objected else after.mark)


def _continued(round_: _KnownRound, progress: ImaProgress) -> ReplayPlan:
    """Plan to prove what is new."""
    delta, mark = round_.delta, progress.mark
    if delta.offset != mark.offset:
        raise ProofFailed(not_due(mark.offset, delta.offset))
    judged = [golden for golden in round_.given.goldens if golden.digest in progress.verdicts]
    part = LogPart(stop=len(delta.entries), reached=None, goldens=judged, measured=Span(round_.since, round_.given.now))
    quoted = [bank for bank in mark.aggregates if round_.given.pcrs.get(bank, IMA_PCR) is not None]
    return ReplayPlan(
        delta=delta, pcrs=round_.given.pcrs, bank=judged_bank(quoted), before=mark.aggregates, parts=(part,)
    )


def _whole(round_: _KnownRound) -> ReplayPlan:
    """Plan to prove a log from its first entry on, through what was proved before."""
    delta, mark, pcrs = round_.delta, round_.mark, round_.given.pcrs
    if delta.offset != 0:
        raise ProofFailed(not_due(0, delta.offset))
    before = {bank: bytes(bank.digest_size) for bank in HashAlg if pcrs.get(bank, IMA_PCR) is not None}
    measured = Span(round_.since, round_.given.now)
    new = LogPart(stop=len(delta.entries), reached=None, goldens=round_.given.goldens, measured=measured)
    if mark is None:
        return ReplayPlan(delta=delta, pcrs=pcrs, bank=judged_bank(before), before=before, parts=(new,))
    bank = judged_bank(before.keys() & mark.aggregates.keys())
    known = round_.given.progress.verdicts if round_.given.progress else {}
    old = LogPart(
        stop=mark.offset,
        reached=mark.aggregates[bank],
        goldens=[golden for golden in round_.given.goldens if golden.digest not in known],
        measured=Span(mark.first_at, mark.last_at),
    )
    return ReplayPlan(delta=delta, pcrs=pcrs, bank=bank, before=before, parts=(old, new))


def _comparable(mark: ImaMark | None, pcrs: QuotedPcrs) -> ImaMark | None:
    """Return the mark if it has a value of a bank that is quoted now; otherwise it says nothing about this quote."""
    quoted = mark is not None and any(pcrs.get(bank, IMA_PCR) for bank in mark.aggregates if bank != HashAlg.SHA1)
    return mark if quoted else None


def not_due(due: int, offset: int) -> Finding:
    """Return the finding for a stretch of the log that begins elsewhere than at ``due``."""
    expected, seen = f"the log from byte {due} on", f"from byte {offset} on"
    return Finding(id=FindingId.IMA_REPLAY, expected=expected, seen=seen, where="IMA log")


def _verdicts(round_: _KnownRound, plan: ReplayPlan, proof: ReplayProof) -> Mapping[Digest, ImaVerdict]:
    """Add what each golden objects to in the proved entries to what it objected to before."""
    known, offset = round_.given.progress.verdicts if round_.given.progress else {}, plan.delta.offset
    judged = {golden.digest for part in plan.parts for golden in part.goldens}
    found: dict[Digest, list[Finding]] = {digest: list(known.get(digest, _CLEAN).findings) for digest in judged}
    more = {digest: known.get(digest, _CLEAN).more for digest in judged}
    judge, counting = _judge(frozenset(round_.aggregates)), {each for each in judged if more[each] < MAX_COUNTED}
    for part, at, entry in unlisted_entries(plan, proof) if counting else ():
        for golden in part.goldens if offset + at else ():
            if golden.digest not in counting:
                continue
            finding = judge(golden, part.measured, entry.template, entry.data, entry.violation)
            if finding is None:
                continue
            if len(found[golden.digest]) < MAX_FINDINGS:
                event = f"IMA entry at byte {offset + at}, template {entry.template[:32]}, PCR {entry.pcr}"
                found[golden.digest].append(replace(finding, event=event))
            else:
                more[golden.digest] += 1
                if more[golden.digest] == MAX_COUNTED:
                    counting.remove(golden.digest)
        if not counting:
            break
    return {digest: ImaVerdict(findings=tuple(found[digest]), more=more[digest]) for digest in judged}


def _judge(
    aggregates: frozenset[tuple[str, bytes]],
) -> Callable[[CompiledRuntime, Span, str, bytes, bool], Finding | None]:
    """Return a function that judges entries, and remembers its answers by the fields that make a difference."""

    @lru_cache(maxsize=_REMEMBERED)
    def judge(golden: CompiledRuntime, measured: Span, template: str, data: bytes, violation: bool) -> Finding | None:  # noqa: FBT001 - of the entry
        digest = b"\0" if violation else b"\1"
        return golden.judge(ImaEntry(IMA_PCR, digest, template, data), measured, aggregates)

    return judge


def _aggregates(pcrs: QuotedPcrs) -> Iterator[tuple[str, bytes]]:
    """Iterate algorithm and digest of every boot aggregate that the quoted boot PCRs make."""
    for bank, _ in pcrs.selection.banks:
        values = {index: pcrs.get(bank, index) for index in BOOT_AGGREGATE_PCRS}
        quoted = {index: value for index, value in values.items() if value is not None}
        for aggregate in boot_aggregate_candidates(quoted, bank):
            yield bank.hashlib_name, aggregate


def _beginning(plan: ReplayPlan, aggregates: Iterable[tuple[str, bytes]]) -> Iterator[Finding]:
    """Find a log that does not begin with the aggregate of the quoted boot PCRs.

    An aggregate in a bank that is not quoted cannot be compared, and passes: older kernels use SHA-1. Only a reset
    clears PCR 10, so its value already proves that the log is of this boot.
    """
    _, entry = next(ima_entries(plan.delta.entries, plan.delta.bank))
    try:
        fields = file_fields(entry)
    except MalformedInput as error:
        fields, seen = ImaFields(), str(error)
    else:
        seen = f"{shown_path(fields)} {fields.algorithm}:{fields.digest.hex()}"
    quoted = {bank.hashlib_name for bank, _ in plan.pcrs.selection.banks}
    due = [digest for name, digest in aggregates if name == fields.algorithm]
    right = fields.algorithm not in quoted or fields.digest in due
    if entry.violation or entry.pcr != IMA_PCR or fields.path != BOOT_AGGREGATE or not right:
        made = " or ".join(f"{fields.algorithm}:{digest.hex()}" for digest in due)
        expected = f"boot_aggregate {made or 'of the quoted boot PCRs'}"
        yield Finding(id=FindingId.IMA_BOOT_AGGREGATE, expected=expected, seen=seen, where="first entry of the IMA log")
