"""Rounds of a node with egress limits, appraised one after the other by the real appraisal."""

from __future__ import annotations

from dataclasses import replace

from nodeseal.appraisal.model import Appraisal, Policy
from nodeseal.egress.claims import EgressClaims
from nodeseal.egress.document import EgressDocument
from support.rounds import CLAIMS, GOLDEN, Round


def demanding(document: EgressDocument) -> Policy:
    """Return a policy whose golden demands a document."""
    return Policy(goldens=(replace(GOLDEN, egress=document),), trust_seconds=60)


def judge_rounds(policy: Policy, first: EgressClaims | None, *later: EgressClaims | None) -> Appraisal:
    """Appraise a round for each of the claims, and return the last outcome."""
    machine = Round(policy=policy, claims=replace(CLAIMS, egress=first))
    outcome = machine.appraise()
    for claims in later:
        machine = machine.then(outcome, claims=replace(CLAIMS, egress=claims))
        outcome = machine.appraise()
    return outcome
