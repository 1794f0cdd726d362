"""What goes into an appraisal and what comes out: frozen values, no rules.

The caller keeps one :class:`KnownNode` per node and replaces its baseline with the one that each
:class:`Appraisal` returns, whatever the outcome. A round that fails with
:class:`~nodeseal.errors.ProofFailed` changes nothing.

No log is kept: a baseline holds what each kind of evidence proved from it (:class:`Proof`), and the next challenge
names that (:func:`nodeseal.appraisal.appraise.known_logs`), so that the node sends only what is new.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple, Protocol, TypeVar

from nodeseal.boot.quirks import Quirk
from nodeseal.crypto.signatures import SignatureVerifier
from nodeseal.evidence.binding import Channel, Purpose
from nodeseal.evidence.claims import Claims
from nodeseal.evidence.logs import NOTHING_KNOWN, KnownLogs
from nodeseal.evidence.quote import QuotedPcrs
from nodeseal.evidence.round import Evidence
from nodeseal.findings import Finding, Severity
from nodeseal.golden.model import Golden
from nodeseal.ids import Nonce
from nodeseal.tpm.attest import Attest, ClockInfo
from nodeseal.tpm.pcr import PcrSelection

T = TypeVar("T")


class Challenge(NamedTuple):
    """What the verifier asked for, and until when an answer counts.

    Attributes:
        nonce: 32 random bytes; the caller uses each once.
        purpose: what the quote is for.
        selection: the PCRs that the quote must cover, exactly.
        issued: when the challenge was made; trust is counted from here.
        answer_by: answers after this are refused.
        channel: the TLS channel that the challenge was sent on.
        logs: what the challenge names as known; any other log that does not come is missing.
    """

    nonce: Nonce
    purpose: Purpose
    selection: PcrSelection
    issued: datetime
    answer_by: datetime
    channel: Channel
    logs: KnownLogs = NOTHING_KNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeKeys:
    """The attestation key that a node enrolled.

    Attributes:
        ak_name: its TPM name.
        verifier: its public key, ready to verify with.
    """

    ak_name: bytes
    verifier: SignatureVerifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What counts as trustworthy. A judgement of PCR values stands while the policy is the same.

    Attributes:
        goldens: the active goldens; a node must match one of them whole. None active: nothing is trusted.
        trust_seconds: how long one good round is believed, counted from its challenge.
        quirks: rows that operators added to the table of firmware's deviations.
    """

    goldens: tuple[Golden, ...]
    trust_seconds: int
    quirks: tuple[Quirk, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmFacts:
    """What was proved about the TPM when the node enrolled.

    Attributes:
        manufacturer: TCG vendor id as the EK certificate names it, such as ``IFX``; empty: no certificate says.
        ek_algorithm: kind of the endorsement key, such as ``rsa2048`` or ``ecc-p256``; empty: not known.
    """

    manufacturer: str = ""
    ek_algorithm: str = ""


UNKNOWN_TPM = TpmFacts()


class Proof(Protocol):
    """What one kind of evidence proved. It holds until a round brings something new of that kind."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong with the evidence whatever goldens say."""


def first_of(values: Iterable[object], wanted: type[T]) -> T | None:
    """Return the first of ``values`` that is of the type ``wanted``, or None."""
    return next((value for value in values if isinstance(value, wanted)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Facts that a round proved, to hold goldens against.

    Attributes:
        pcrs: the PCR values.
        labels: names and values that people gave the node.
        proofs: what each kind of evidence proved, in the order of their table; None: nothing is known.
        asked: what the node was told to leave out.
    """

    pcrs: QuotedPcrs
    labels: Mapping[str, str]
    proofs: tuple[Proof | None, ...]
    asked: KnownLogs = NOTHING_KNOWN

    def proof(self, wanted: type[T]) -> T | None:
        """Return the proof of this type; None: nothing is known of its kind."""
        return first_of(self.proofs, wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Facts held against a policy.

    Attributes:
        facts: what was proved.
        policy: the policy.
        findings: every difference, and what is wrong whatever goldens say.
        goldens: the goldens that match whole.
        logs_required: whether the outcome depends on a log that the node was told to leave out.
        since: the first moment at which the judgement holds; windows of goldens limit it.
        until: the last such moment.
    """

    facts: Facts
    policy: Policy
    findings: tuple[Finding, ...]
    goldens: tuple[Golden, ...]
    logs_required: bool
    since: datetime
    until: datetime


class Baseline(NamedTuple):
    """What the last believable round proved, for the next round to continue.

    A verifier that restarts may store clock, boot id and ``kept``, and rebuild a baseline of just these three.

    Attributes:
        clock_info: the TPM's clock and counters.
        boot_id: id of that boot, as claimed.
        claims_raw: the claims as sent, to recognise them without parsing.
        claims: the same claims, parsed; None: not known.
        judgement: the judgement on values and proofs; None: not known, so the next evidence must carry values.
        known: what a challenge names as known while policy and labels are those of the judgement.
        kept: what the kinds of evidence keep of this boot through a restart.
        proved_at: when the challenge was made; what the quote does not show happened later. None: not known.
    """

    clock_info: ClockInfo
    boot_id: str
    claims_raw: bytes = b""
    claims: Claims | None = None
    judgement: Judgement | None = None
    known: KnownLogs = NOTHING_KNOWN
    kept: tuple[object, ...] = ()
    proved_at: datetime | None = None

    def proof(self, wanted: type[T]) -> T | None:
        """Return the proof of this type that the next round continues; None: not known."""
        return self.judgement.facts.proof(wanted) if self.judgement else None

    def kept_of(self, wanted: type[T]) -> T | None:
        """Return the kept value of this type; None: nothing was kept."""
        return first_of(self.kept, wanted)


class KnownNode(NamedTuple):
    """A node as the verifier knows it.

    Attributes:
        keys: its attestation key.
        baseline: what earlier rounds proved, or None before the first one (and after a person lifted a quarantine).
        labels: names and values that people gave the node; goldens select by them.
        tpm: what enrolment proved about its TPM.
    """

    keys: NodeKeys
    baseline: Baseline | None
    labels: Mapping[str, str] = MappingProxyType({})
    tpm: TpmFacts = UNKNOWN_TPM

    @property
    def values_required(self) -> bool:
        """Whether the next evidence must carry PCR values."""
        return self.baseline is None or self.baseline.judgement is None


class AuthenticEvidence(NamedTuple):
    """Evidence that the node's TPM signed for its challenge.

    Only :func:`~nodeseal.appraisal.appraise.authenticate` makes one. It is a plain tuple, like all values that live for
    one round, because a fleet has very many of them.

    Attributes:
        attest: the quote.
        claims: the claims, which the quote covers.
        sent: the evidence as it came; values and logs in it have yet to be proved.
        challenge: the challenge that it answers.
        node: the node that sent it, as the verifier knows it.
        at: when it arrived.
    """

    attest: Attest
    claims: Claims
    sent: Evidence
    challenge: Challenge
    node: KnownNode
    at: datetime


class Continuity(Enum):
    """How a round follows the one before."""

    FIRST = "first"
    """Nothing is known from before."""
    CONTINUES = "continues"
    """The same boot went on."""
    REBOOTED = "rebooted"
    """Another boot: leases end, and old PCR values mean nothing."""
    BROKEN = "broken"
    """Time or counters say what no honest machine says: leases end, and the baseline stays as it was."""


class Appraisal(NamedTuple):
    """The outcome of one authentic round; a plain tuple, like all values that live for one round.

    Attributes:
        continuity: how the round follows the one before.
        findings: everything that was found, warnings included.
        goldens: the goldens that match whole.
        baseline: what the next round continues.
        claims: what the agent says of itself; covered by the quote's signature.
        pcrs: the proved values, or None when a rebooted node has yet to send them.
        good_until: T, the end of trust, if this round is a good one.
        details: what each kind read from this round's evidence, for people.
        logs_required: whether to challenge again at once, for logs: the outcome depends on a log that the challenge
            named as known. Such a round speaks neither for nor against the node, whose trust goes on until its T.
    """

    continuity: Continuity
    findings: tuple[Finding, ...]
    goldens: tuple[Golden, ...]
    baseline: Baseline
    claims: Claims
    pcrs: QuotedPcrs | None
    good_until: datetime
    details: tuple[object, ...] = ()
    logs_required: bool = False

    def detail(self, wanted: type[T]) -> T | None:
        """Return the detail of this type; None: this round's evidence has none."""
        return first_of(self.details, wanted)

    @property
    def trusted(self) -> bool:
        """Whether a golden matches and nothing speaks against the node. Nothing checked is not trusted."""
        return bool(self.goldens) and all(f.id.severity is Severity.WARNING for f in self.findings)

    @property
    def trusted_until(self) -> datetime | None:
        """The end of trust, or None for a node that is not trusted."""
        return self.good_until if self.trusted else None

    @property
    def keeps_leases(self) -> bool:
        """Whether leases from before this round may go on: only in a boot that is known to continue."""
        return self.trusted and self.continuity is Continuity.CONTINUES

    @property
    def quarantined(self) -> bool:
        """Whether a person must look at the node before it is judged again."""
        return any(f.id.severity is Severity.QUARANTINE for f in self.findings)

    @property
    def values_required(self) -> bool:
        """Whether to challenge again at once, for values: the node has rebooted and sent none."""
        return self.pcrs is None and self.continuity is Continuity.REBOOTED
