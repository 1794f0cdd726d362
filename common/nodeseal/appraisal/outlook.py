"""What a golden that is not active would say of a node, by what its last round proved. Nothing is changed by it.

A verifier keeps conclusions and no logs, so a golden that it never held against a node's logs may stay undecided.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from nodeseal.appraisal import kinds
from nodeseal.appraisal.applicable import counts
from nodeseal.appraisal.compare import compare
from nodeseal.appraisal.model import KnownNode, Policy
from nodeseal.evidence.logs import KnownLogs
from nodeseal.findings import Finding, Severity
from nodeseal.golden.model import Golden


class Foreseen(Enum):
    """What a golden would say of a node."""

    MATCHES = "matches"
    DIFFERS = "differs"
    OPEN = "open"
    """What is known satisfies it, and its rules on logs have not been held against the node's logs."""
    UNKNOWN = "unknown"
    """Nothing is known of the node's present boot."""
    NOT_FOR_IT = "not-for-it"
    """It is for nodes with other labels, or its window is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """The outlook of one node under one golden.

    Attributes:
        foreseen: what the golden would say.
        findings: what it would object to.
    """

    foreseen: Foreseen
    findings: tuple[Finding, ...] = ()


def foresee(golden: Golden, node: KnownNode, now: datetime) -> Outlook:
    """Hold what is known of a node against a golden, as if that were the only one."""
    if not counts(golden, node.labels, now):
        return Outlook(foreseen=Foreseen.NOT_FOR_IT)
    judgement = node.baseline.judgement if node.baseline is not None else None
    if node.baseline is None or judgement is None:
        return Outlook(foreseen=Foreseen.UNKNOWN)
    logs = KnownLogs(boot_id=node.baseline.boot_id)
    for kind, proof in zip(kinds.KINDS, judgement.facts.proofs, strict=True):
        logs = kind.known(proof, (), logs) if proof is not None else logs
    facts = replace(judgement.facts, labels=node.labels, asked=logs)
    foreseen = compare(facts, Policy(goldens=(golden,), trust_seconds=0), now)
    if foreseen.logs_required:
        return Outlook(foreseen=Foreseen.OPEN)
    refused = any(finding.id.severity is not Severity.WARNING for finding in foreseen.findings)
    met = bool(foreseen.goldens) and not refused
    return Outlook(foreseen=Foreseen.MATCHES if met else Foreseen.DIFFERS, findings=foreseen.findings)
