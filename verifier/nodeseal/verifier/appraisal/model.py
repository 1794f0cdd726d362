"""What goes into an appraisal and what comes out: frozen values, no rules.

The caller keeps one :class:`KnownNode` per node and replaces its baseline with the one that each
:class:`Appraisal` returns, whatever the outcome. A round that fails with
:class:`~nodeseal.errors.ProofFailed` changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from nodeseal.crypto.signatures import SignatureVerifier
from nodeseal.evidence import Channel, Claims, Purpose
from nodeseal.findings import Finding, Severity
from nodeseal.golden.model import DEFAULT_CAP_PCR, Golden
from nodeseal.ids import Nonce
from nodeseal.quote import QuotedPcrs
from nodeseal.tcg.attest import ClockInfo
from nodeseal.tcg.pcr import PcrSelection


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """What the verifier asked for, and until when an answer counts.

    Attributes:
        nonce: 32 random bytes; the caller uses each once.
        purpose: what the quote is for.
        selection: the PCRs that the quote must cover, exactly.
        issued: when the challenge was made; time of trust is counted from here.
        answer_by: answers after this are refused.
        channel: the TLS channel that the challenge was sent on.
    """

    nonce: Nonce
    purpose: Purpose
    selection: PcrSelection
    issued: datetime
    answer_by: datetime
    channel: Channel


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
        cap_pcr: the PCR that ends leases when extended; it must be quoted and zero in every bank.
    """

    goldens: tuple[Golden, ...]
    trust_seconds: int
    cap_pcr: int = DEFAULT_CAP_PCR


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """PCR values held against a policy.

    Attributes:
        pcrs: the values, which a quote proved.
        policy: what they were held against.
        findings: what differs.
        goldens: the goldens that match whole.
    """

    pcrs: QuotedPcrs
    policy: Policy
    findings: tuple[Finding, ...]
    goldens: tuple[Golden, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What the last believable round proved, for the next one to continue.

    A verifier that restarts may keep clock and boot id and rebuild a baseline of just these two.

    Attributes:
        clock_info: the TPM's clock and counters.
        boot_id: the boot it was, as claimed.
        claims_raw: the claims as sent, to know them again without parsing.
        claims: the same, parsed; None: not known.
        judgement: the PCR values and what was made of them; None: not known, so evidence must carry values.
    """

    clock_info: ClockInfo
    boot_id: str
    claims_raw: bytes = b""
    claims: Claims | None = None
    judgement: Judgement | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownNode:
    """A node as the verifier knows it.

    Attributes:
        keys: its attestation key.
        baseline: what earlier rounds proved, or None before the first one (and after a person lifted a quarantine).
    """

    keys: NodeKeys
    baseline: Baseline | None

    @property
    def values_required(self) -> bool:
        """Whether the next evidence must carry PCR values."""
        return self.baseline is None or self.baseline.judgement is None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Appraisal:
    """The outcome of one authentic round.

    Attributes:
        continuity: how the round follows the one before.
        findings: everything that was found, warnings included.
        goldens: the goldens that match whole.
        baseline: what the next round is to be appraised with.
        claims: what the agent says of itself; covered by the quote's signature.
        pcrs: the proved values, or None when a rebooted node has yet to send them.
        believable_until: the end of trust if this round is a good one.
    """

    continuity: Continuity
    findings: tuple[Finding, ...]
    goldens: tuple[Golden, ...]
    baseline: Baseline
    claims: Claims
    pcrs: QuotedPcrs | None
    believable_until: datetime

    @property
    def trusted(self) -> bool:
        """Whether a golden matches and nothing speaks against the node. Nothing checked is not trusted."""
        return bool(self.goldens) and all(f.id.severity is Severity.WARNING for f in self.findings)

    @property
    def trusted_until(self) -> datetime | None:
        """The end of trust, or None for a node that is not trusted."""
        return self.believable_until if self.trusted else None

    @property
    def keeps_leases(self) -> bool:
        """Whether leases from before this round may run on: only in a boot that is known to continue."""
        return self.trusted and self.continuity is Continuity.CONTINUES

    @property
    def quarantined(self) -> bool:
        """Whether a person must look at the node before it is judged again."""
        return any(f.id.severity is Severity.QUARANTINE for f in self.findings)

    @property
    def values_required(self) -> bool:
        """Whether to challenge again at once, for values: the node has rebooted and sent none."""
        return self.pcrs is None and self.continuity is Continuity.REBOOTED
