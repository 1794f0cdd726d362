"""The IMA kind: what ran, as the IMA log lists it and the quoted PCR 10 proves it.

A round brings what is new of the log (:mod:`~nodeseal.appraisal.kinds.ima_log`). It is replayed whenever it comes, even
if no golden judges what runs: that is cheap, and tells when its entries were measured should one do so later. A log
that begins elsewhere than was asked for is refused unread: no honest agent sends one.

Goldens call the rules of this kind ``runtime``.
"""

from __future__ import annotations

from collections.abc import Sequence

from nodeseal.appraisal.kinds.boot import BootState
from nodeseal.appraisal.kinds.ima_log import (
    ImaMark,
    ImaOutcome,
    ImaProgress,
    ImaRound,
    compile_runtime,
    judge_ima,
    not_due,
)
from nodeseal.appraisal.kinds.kind import LEFT_OUT, NO_OBJECTION, KindVerdict, Proved, Round, missing
from nodeseal.appraisal.model import AuthenticEvidence, Baseline, Facts, Proof, first_of
from nodeseal.evidence.logs import KnownLogs
from nodeseal.evidence.quote import QuotedPcrs
from nodeseal.findings import FindingId
from nodeseal.golden.model import Golden
from nodeseal.tpm.pcr_usage import IMA_PCR

__all__ = [
    "ImaMark",
    "ImaOutcome",
    "ImaProgress",
    "ImaRound",
    "compile_runtime",
    "judge",
    "judge_ima",
    "keep",
    "known",
    "progress_of",
    "prove",
    "unchanged",
]


def known(proof: ImaOutcome, goldens: Sequence[Golden], logs: KnownLogs) -> KnownLogs:
    """Name how much of the log was held against every golden that judges what runs."""
    progress = proof.progress
    if progress is None or not all(golden.digest in progress.verdicts for golden in goldens if golden.runtime):
        return logs
    return logs._replace(ima_offset=progress.mark.offset)


def unchanged(proof: ImaOutcome | None, evidence: AuthenticEvidence) -> bool:
    """Tell whether nothing was wrong with the log, and the node does not report that it has grown."""
    if proof is None or proof.findings:
        return False
    delta = evidence.sent.ima
    return delta is None or (
        not delta.entries and proof.progress is not None and delta.offset == proof.progress.mark.offset
    )


def prove(round_: Round, before: ImaOutcome | None, earlier: Sequence[Proof | None]) -> Proved[ImaOutcome]:
    """Judge the log as far as it is new; without a quoted PCR 10 nothing in it can be proved.

    A kernel whose boot PCRs moved after IMA began made its boot aggregate of values that only the boot log proves.
    """
    delta, progress, asked = round_.evidence.sent.ima, before.progress if before else None, round_.asked.ima_offset
    if not _is_quoted(round_.pcrs) or (delta is None and progress is None):
        return Proved(ImaOutcome(progress=None))
    if delta is not None and delta.offset != asked:
        found = progress.findings if progress else ()
        return Proved(ImaOutcome(progress=progress, findings=(*found, not_due(asked, delta.offset))))
    booted = first_of(earlier, BootState)
    outcome = judge_ima(
        ImaRound(
            delta=delta,
            progress=progress,
            mark=first_of(round_.kept, ImaMark),
            pcrs=round_.pcrs,
            goldens=[compile_runtime(golden) for golden in round_.goldens if golden.runtime is not None],
            now=round_.evidence.at,
            settled_at=round_.settled_at if before is not None and not before.findings else None,
            aggregates=booted.aggregates if booted else (),
        )
    )
    # A log without entries in PCR 10 lies about nothing; goldens that judge what runs find it missing by themselves.
    wrong = tuple(finding for finding in outcome.findings if finding.id is not FindingId.IMA_LOG_MISSING)
    return Proved(ImaOutcome(progress=outcome.progress, findings=wrong))


def judge(proof: ImaOutcome | None, golden: Golden, facts: Facts) -> KindVerdict:
    """Return what the golden's runtime rules object to since boot."""
    if golden.runtime is None:
        return NO_OBJECTION
    if not _is_quoted(facts.pcrs):
        return missing(FindingId.IMA_LOG_MISSING, "a quote of PCR 10", str(facts.pcrs.selection), golden)
    progress = proof.progress if proof else None
    verdict = progress.verdicts.get(golden.digest) if progress else None
    if verdict is not None:
        return KindVerdict(verdict.findings, verdict.more)
    if facts.asked.ima_offset or (proof is not None and proof.findings):
        return LEFT_OUT
    return missing(FindingId.IMA_LOG_MISSING, "the IMA log from its beginning", "none", golden)


def keep(proof: ImaOutcome | None, kept: Sequence[object]) -> ImaMark | None:
    """Keep how far the log was good, so that entries before that count as measured by then after a restart too."""
    return proof.progress.kept if proof is not None and proof.progress is not None else first_of(kept, ImaMark)


def progress_of(baseline: Baseline | None) -> ImaProgress | None:
    """Return how far the IMA log was judged, and what was found; None: not known."""
    outcome = baseline.proof(ImaOutcome) if baseline is not None else None
    return outcome.progress if outcome is not None else None


def _is_quoted(pcrs: QuotedPcrs) -> bool:
    """Tell whether some bank of PCR 10, into which IMA measures, was quoted."""
    return any(IMA_PCR in indices for _, indices in pcrs.selection.banks)
