"""The interface of a kind of evidence, and the values that its functions take and return.

A kind is a module with the five functions of :class:`Kind`. They are pure: no I/O, no clock, no state. Mypy holds each
module of the table (:mod:`nodeseal.appraisal.kinds`) against the protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from nodeseal.appraisal.model import AuthenticEvidence, Facts, Proof
from nodeseal.boot.quirks import Quirk
from nodeseal.evidence.logs import KnownLogs
from nodeseal.evidence.quote import QuotedPcrs
from nodeseal.findings import Finding, FindingId
from nodeseal.golden.model import Golden

P = TypeVar("P", bound=Proof)

MAX_FINDINGS: Final = 100
"""Findings of one node against one golden that are kept and shown. The rest are only counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Everything that a kind may prove from.

    Attributes:
        evidence: what the node's TPM signed for, and what came with it.
        pcrs: the values that its quote proves.
        goldens: those that serve the node, whether their windows are open or not.
        asked: the logs of this boot that the challenge named as known.
        kept: what the kinds kept of this boot.
        quirks: rows that operators added to the table of firmware's deviations.
        settled_at: when the challenge was made of the last round of this boot that left no log open; None: not known.
    """

    evidence: AuthenticEvidence
    pcrs: QuotedPcrs
    goldens: tuple[Golden, ...]
    asked: KnownLogs
    kept: tuple[object, ...]
    quirks: tuple[Quirk, ...]
    settled_at: datetime | None


class Proved(NamedTuple, Generic[P]):
    """What a kind proves in one round.

    Attributes:
        proof: what lasts until something changes; None: nothing is known.
        detail: what this round's evidence says, for people to read; never kept.
    """

    proof: P | None
    detail: object | None = None


class KindVerdict(NamedTuple):
    """A golden's rules of one kind held against what was proved.

    Attributes:
        findings: what the rules object to; the first of many.
        more: how many findings were left out.
        open: whether the verdict depends on a log that the node was told to leave out.
    """

    findings: tuple[Finding, ...] = ()
    more: int = 0
    open: bool = False


NO_OBJECTION: Final = KindVerdict()
LEFT_OUT: Final = KindVerdict(open=True)
"""The node was told to leave out a log that the golden needs."""


class Kind(Protocol[P]):
    """One kind of evidence: what it knows, proves, judges and keeps."""

    def known(self, proof: P, goldens: Sequence[Golden], logs: KnownLogs) -> KnownLogs:
        """Add to ``logs`` what the next challenge names as known, so that the node leaves it out.

        Args:
            proof: what the last round proved.
            goldens: those that serve the node; evidence counts as known only if it was compared with all of them.
            logs: what other kinds name.
        """

    def unchanged(self, proof: P | None, evidence: AuthenticEvidence) -> bool:
        """Tell whether a round over the same PCR values would prove the same again. Every steady round calls this."""

    def prove(self, round_: Round, before: P | None, earlier: Sequence[Proof | None]) -> Proved[P]:
        """Prove what this round's evidence says.

        A log that fails its proof is a finding of the proof, so that it hides nothing else.

        Args:
            round_: the evidence and all that it may continue.
            before: what the last round of this boot proved; None: nothing.
            earlier: what kinds further up in the table proved in this round.
        """

    def judge(self, proof: P | None, golden: Golden, facts: Facts) -> KindVerdict:
        """Hold the golden's rules of this kind against what was proved."""

    def keep(self, proof: P | None, kept: Sequence[object]) -> object | None:
        """Return what the next round of this boot continues; None: nothing.

        It outlives a restart of the verifier if ``verifier.store.nodes`` stores values of its type.

        Args:
            proof: what this round proved.
            kept: what was kept of this boot before.
        """


def missing(finding_id: FindingId, expected: str, seen: str, golden: Golden) -> KindVerdict:
    """Return the verdict on evidence that a golden needs and that did not come."""
    return KindVerdict((Finding(id=finding_id, expected=expected, seen=seen, where=f"golden {golden.name}"),))
