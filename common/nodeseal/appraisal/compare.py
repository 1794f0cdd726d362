"""Hold what a round proved against policy; every difference is a finding.

A node is good when *one* golden that counts for it now matches whole: its exact PCR values, and its rules of every
kind of evidence. If none does, the findings are those of the nearest golden, which has the fewest: most likely, the
node was meant to match it.

Some rules hold whatever goldens say: those on PCR values (:func:`nodeseal.appraisal.pcr_values.check`), and that a log
that was sent must replay into what was quoted (the findings of each proof).

Sometimes a golden needs a log that the node was told to leave out, because the golden is new or a boot PCR has moved.
That leaves the outcome open: :attr:`Judgement.logs_required`. A log that was asked for and did not come is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final, NamedTuple

from nodeseal.appraisal import kinds, pcr_values
from nodeseal.appraisal.applicable import counts, span_of
from nodeseal.appraisal.kinds.kind import MAX_FINDINGS
from nodeseal.appraisal.model import Facts, Judgement, Policy
from nodeseal.findings import Finding, FindingId, Severity
from nodeseal.golden.model import Golden

_SHOWN_NAMES: Final = 3


class _Held(NamedTuple):
    """One golden held against the facts.

    Attributes:
        golden: the golden.
        findings: the first objections.
        more: how many others there are.
        open: a log that the node left out could still speak against it.
        elsewhere: it judges by a bank that was not quoted, so little is known of how near it is.
    """

    golden: Golden
    findings: tuple[Finding, ...]
    more: int
    open: bool
    elsewhere: bool = False

    @property
    def distance(self) -> int:
        """How many objections there are: the nearest golden has the fewest."""
        return len(self.findings) + self.more


def compare(facts: Facts, policy: Policy, now: datetime) -> Judgement:
    """Hold ``facts`` against ``policy`` at the moment ``now``."""
    held = [_hold(golden, facts) for golden in policy.goldens if counts(golden, facts.labels, now)]
    matched = tuple(one.golden for one in held if not one.distance and not one.open)
    always = tuple(_whatever_goldens_say(facts))
    refused = any(finding.id.severity is not Severity.WARNING for finding in always)
    undecided = not matched and not refused and any(one.open and not one.distance for one in held)
    differs = tuple(finding for finding in _nearest_differs(held, policy) if finding not in always)
    since, until = span_of(policy.goldens, now)
    return Judgement(
        facts=facts,
        policy=policy,
        findings=always + differs,
        goldens=matched,
        logs_required=undecided,
        since=since,
        until=until,
    )


def _whatever_goldens_say(facts: Facts) -> Iterator[Finding]:
    yield from pcr_values.check(facts.pcrs)
    for proof in facts.proofs:
        if proof is not None:
            yield from proof.findings


def _hold(golden: Golden, facts: Facts) -> _Held:
    if elsewhere := tuple(pcr_values.judge_banks(golden, facts.pcrs.selection)):
        return _Held(golden, elsewhere, 0, open=False, elsewhere=True)
    verdicts = [kind.judge(proof, golden, facts) for kind, proof in zip(kinds.KINDS, facts.proofs, strict=True)]
    findings = list(pcr_values.judge(golden, facts))
    for verdict in verdicts:
        findings += verdict.findings
    more = sum(verdict.more for verdict in verdicts) + max(0, len(findings) - MAX_FINDINGS)
    return _Held(golden, tuple(findings[:MAX_FINDINGS]), more, any(verdict.open for verdict in verdicts))


def _nearest_differs(held: Iterable[_Held], policy: Policy) -> Iterator[Finding]:
    """Yield how the nearest golden differs: nothing if it matches. If there is none, yield why."""
    nearest = min(held, key=lambda one: (one.elsewhere, one.distance, one.golden.name), default=None)
    if nearest is not None:
        yield from nearest.findings
        if nearest.more:
            yield _left_out(nearest)
    elif policy.goldens:
        yield Finding(
            id=FindingId.GOLDEN_NOT_VALID,
            expected="a golden for this node's labels whose window is open",
            seen=_names(policy.goldens),
        )
    else:
        yield Finding(id=FindingId.GOLDEN_NONE, expected="at least one active golden", seen="none")


def _left_out(held: _Held) -> Finding:
    return Finding(
        id=held.findings[-1].id,
        expected="nothing else that differs",
        seen=f"{held.more} more findings",
        where=f"golden {held.golden.name}",
    )


def _names(goldens: tuple[Golden, ...]) -> str:
    names = sorted(golden.name for golden in goldens)
    more = len(names) - _SHOWN_NAMES
    return "active: " + ", ".join(names[:_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")
