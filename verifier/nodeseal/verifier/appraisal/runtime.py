"""Judge what ran: IMA log entries that replay into the quoted PCR 10, held against goldens' runtime rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from nodeseal.evidence import ImaDelta
from nodeseal.findings import Finding
from nodeseal.golden.model import Golden
from nodeseal.ids import Digest
from nodeseal.quote import QuotedPcrs
from nodeseal.tcg.algorithms import HashAlg


@dataclass(frozen=True, slots=True, kw_only=True)
class ImaMark:
    """How far the log of one boot was proved, and when: small enough to be kept for every node.

    Attributes:
        offset: bytes of the log.
        aggregates: values of PCR 10 after them, by quoted bank.
        first_at: the first round of this boot that proved a part of the log.
        last_at: the last one.
    """

    offset: int
    aggregates: Mapping[HashAlg, bytes]
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeVerdict:
    """What one golden's runtime rules object to, since boot.

    Attributes:
        findings: the first of them.
        more: how many were left out.
    """

    findings: tuple[Finding, ...] = ()
    more: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImaProgress:
    """What is known of a node's log, for the next round to go on from; no entry is kept.

    Attributes:
        mark: how far the log was proved.
        verdicts: by digest, for every golden that the whole log was held against.
        findings: what is wrong with the log whatever goldens say; it stays for the boot.
        entries: how many were proved.
    """

    mark: ImaMark
    verdicts: Mapping[Digest, RuntimeVerdict]
    findings: tuple[Finding, ...] = ()
    entries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImaOutcome:
    """The outcome of one round.

    Attributes:
        progress: what to go on from; the one before if this round proved nothing; None: nothing was ever proved.
        findings: what is wrong with the log whatever goldens say: it counts against each that judges what runs.
            What single goldens object to is in the progress; one without a verdict there needs the whole log.
    """

    progress: ImaProgress | None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CompiledRuntime:
    """A golden's runtime rules, ready to judge with; shared by all nodes.

    Attributes:
        name: the golden's name.
        digest: the golden's digest.
    """

    name: str
    digest: Digest


def compile_runtime(golden: Golden) -> CompiledRuntime:
    """Return the compiled runtime rules of ``golden``; the same object for the same golden.

    Raises:
        ValueError: the golden has none.
    """
    raise NotImplementedError


def judge_ima(  # noqa: PLR0913, PLR0917 - what a round has and what is known
    delta: ImaDelta | None,
    progress: ImaProgress | None,
    mark: ImaMark | None,
    pcrs: QuotedPcrs,
    goldens: Sequence[CompiledRuntime],
    now: datetime,
) -> ImaOutcome:
    """Prove what a round brings of the IMA log, and hold it against every golden.

    Args:
        delta: the stretch of log; None: none was sent.
        progress: what earlier rounds of this boot proved; None: not known.
        mark: how far the log of this boot was ever proved, where ``progress`` is not known.
        pcrs: quoted values; PCR 10 of at least one strong bank, and the boot PCRs.
        goldens: those that judge what runs.
        now: when the evidence arrived.
    """
    raise NotImplementedError
