"""One exchange with a node, as values: the challenge, the answer, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from nodeseal.appraisal.model import Appraisal, Challenge, KnownNode
from nodeseal.errors import ProofFailed, Unavailable
from nodeseal.evidence.round import Evidence
from nodeseal.findings import Finding
from nodeseal.ids import LeaseId
from nodeseal.verifier.states import NodeState


class Verdict(NamedTuple):
    """The verdict that a node is told.

    Attributes:
        state: one of the seven.
        trusted_until: end of trust, or None.
        trusted_for_ms: the same as a duration from when the node received the challenge; 0: not trusted.
        findings: of the round.
    """

    state: NodeState
    trusted_until: datetime | None
    trusted_for_ms: int
    findings: tuple[Finding, ...]


class Asked(NamedTuple):
    """A challenge that went out.

    Attributes:
        challenge: what was asked.
        known: what was known of the node then. Rounds on two streams may overtake each other, so a quote must
            continue what was proved before its own challenge, not what came in since.
        at: steady time.
        answer_within_seconds: deadline for the first message of the answer.
        whole: whether the node must send PCR values and whole logs, although they are known.
    """

    challenge: Challenge
    known: KnownNode
    at: float
    answer_within_seconds: int
    whole: bool = False

    @property
    def values_required(self) -> bool:
        """Whether the answer must carry PCR values."""
        return self.whole or self.known.values_required


class RoundOutcome(NamedTuple):
    """The outcome of a round.

    Attributes:
        verdict: for the node.
        appraisal: None when the evidence was not even authentic.
        unknown: leases that the node claims and must forget.
        again: whether to challenge again at once, for values or logs.
    """

    verdict: Verdict
    appraisal: Appraisal | None = None
    unknown: tuple[LeaseId, ...] = ()
    again: bool = False

    def authentic(self) -> Appraisal:
        """Return the appraisal of evidence that must be authentic.

        Raises:
            ProofFailed: it is not.
            Unavailable: the node must be asked for other banks.
        """
        if self.appraisal is None and self.again:
            raise Unavailable("the TPM has other PCR banks than were asked for", remedy="ask again")
        if self.appraisal is None:
            raise ProofFailed(*self.verdict.findings)
        return self.appraisal


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """Whole evidence that was asked for, and its outcome.

    Attributes:
        asked: the challenge.
        evidence: the answer.
        outcome: the outcome of the round.
        received: when it was complete.
    """

    asked: Asked
    evidence: Evidence
    outcome: RoundOutcome
    received: datetime
