"""What goes into an appraisal and what comes out: frozen values, no rules.

The caller keeps one :class:`KnownNode` per node and replaces its baseline with the one that each
:class:`Appraisal` returns, whatever the outcome. A round that fails with
:class:`~nodeseal.errors.ProofFailed` changes nothing.

No log is kept: a baseline holds what was concluded from one (:class:`BootState`, ``ImaProgress``), and a challenge
names it (:func:`known_logs`), so that the node sends only what is new.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple

from nodeseal.appraisal.applicable import serves
from nodeseal.appraisal.runtime import ImaMark, ImaProgress
from nodeseal.boot.claims import BootClaims
from nodeseal.crypto.signatures import SignatureVerifier
from nodeseal.evidence.binding import Channel, Purpose
from nodeseal.evidence.claims import Claims
from nodeseal.evidence.logs import NOTHING_KNOWN, KnownLogs
from nodeseal.evidence.quote import QuotedPcrs
from nodeseal.findings import Finding, Severity
from nodeseal.golden.model import DEFAULT_CAP_PCR, Golden
from nodeseal.ids import Digest, Nonce
from nodeseal.tpm.attest import ClockInfo
from nodeseal.tpm.pcr import PcrSelection


class Challenge(NamedTuple):
    """What the verifier asked for, and until when an answer counts.

    Attributes:
        nonce: 32 random bytes; the caller uses each once.
        purpose: what the quote is for.
        selection: the PCRs that the quote must cover, exactly.
        issued: when the challenge was made; time of trust is counted from here.
        answer_by: answers after this are refused.
        channel: the TLS channel that the challenge was sent on.
        logs: what the challenge named as known: a log that it asked for and that did not come is missing.
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
        cap_pcr: the PCR that ends leases when extended; it must be quoted and zero in every bank.
    """

    goldens: tuple[Golden, ...]
    trust_seconds: int
    cap_pcr: int = DEFAULT_CAP_PCR


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


@dataclass(frozen=True, slots=True, kw_only=True)
class BootVerdict:
    """A boot log held against one golden.

    Attributes:
        findings: what the golden's boot rules object to; the first of many.
        more: how many findings were left out.
        differences: by PCR, the first event that differs from the golden's reference, in words.
    """

    findings: tuple[Finding, ...] = ()
    more: int = 0
    differences: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BootState:
    """What was concluded from a boot log, as long as the boot PCRs are those that it was held against.

    Attributes:
        log_sha256: SHA-256 of the log, to name it in a challenge.
        pcrs_sha256: SHA-256 over the boot PCRs of that quote.
        findings: what is wrong with the log whatever goldens say.
        proved: PCRs that the log accounts for.
        verdicts: by golden digest.
        aggregates: algorithm and digest of IMA's boot aggregates where the kernel saw other values than are quoted,
            because systemd's separator came later.
    """

    log_sha256: bytes
    pcrs_sha256: bytes
    findings: tuple[Finding, ...]
    proved: tuple[int, ...]
    verdicts: Mapping[Digest, BootVerdict]
    aggregates: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a round proved, as far as goldens are held against it.

    Attributes:
        pcrs: the values.
        firmware_version: of the TPM, as the quote states it; None: the quote need not state it truly.
        tpm: what enrolment proved about the TPM.
        labels: what people call the node.
        boot: what the boot log proved; None: nothing is known.
        ima: what the IMA log proved; None: nothing is known.
        ima_findings: what is wrong with this round's IMA log whatever goldens say.
        asked: what the node was told to leave out.
    """

    pcrs: QuotedPcrs
    firmware_version: int | None = None
    tpm: TpmFacts = UNKNOWN_TPM
    labels: Mapping[str, str] = field(default_factory=dict)
    boot: BootState | None = None
    ima: ImaProgress | None = None
    ima_findings: tuple[Finding, ...] = ()
    asked: KnownLogs = NOTHING_KNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Facts held against a policy.

    Attributes:
        facts: what was proved.
        policy: what it was held against.
        findings: what differs.
        goldens: the goldens that match whole.
        logs_required: whether the outcome hangs on a log that the node was told to leave out.
        since: the first moment for which this holds: windows of goldens open and close.
        until: the last one.
    """

    facts: Facts
    policy: Policy
    findings: tuple[Finding, ...]
    goldens: tuple[Golden, ...]
    logs_required: bool
    since: datetime
    until: datetime

    @property
    def pcrs(self) -> QuotedPcrs:
        """The values, which a quote proved."""
        return self.facts.pcrs

    @property
    def settled(self) -> bool:
        """Whether a round that proves the same facts again need not be judged again."""
        return not self.logs_required and not self.facts.ima_findings


class Baseline(NamedTuple):
    """What the last believable round proved, for the next one to continue; every round makes one.

    A verifier that restarts may keep clock, boot id and mark and rebuild a baseline of just these three.

    Attributes:
        clock_info: the TPM's clock and counters.
        boot_id: the boot it was, as claimed.
        claims_raw: the claims as sent, to know them again without parsing.
        claims: the same, parsed; None: not known.
        judgement: values and logs and what was made of them; None: not known, so evidence must carry values.
        mark: how far the IMA log of this boot was ever judged good, and when: entries before it count as measured then.
        proved_at: when the quote was asked for: what it does not show happened later. None: not known.
    """

    clock_info: ClockInfo
    boot_id: str
    claims_raw: bytes = b""
    claims: Claims | None = None
    judgement: Judgement | None = None
    mark: ImaMark | None = None
    proved_at: datetime | None = None

    @property
    def boot(self) -> BootState | None:
        """What the boot log proved; None: not known, so a log is asked for."""
        return self.judgement.facts.boot if self.judgement else None

    @property
    def ima(self) -> ImaProgress | None:
        """How far the IMA log was judged, and what was found; None: not known, so the whole log is asked for."""
        return self.judgement.facts.ima if self.judgement else None


class KnownNode(NamedTuple):
    """A node as the verifier knows it.

    Attributes:
        keys: its attestation key.
        baseline: what earlier rounds proved, or None before the first one (and after a person lifted a quarantine).
        labels: what people call the node; goldens select by them.
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


def known_logs(known: KnownNode, policy: Policy) -> KnownLogs:
    """Return what the next challenge names as known: a log is known while it was held against every golden.

    Windows do not matter here: a golden that counts from tomorrow on is judged today, so that no log is asked for then.
    """
    baseline = known.baseline
    if baseline is None:
        return NOTHING_KNOWN
    goldens = [golden for golden in policy.goldens if serves(golden, known.labels)]
    boot, ima = baseline.boot, baseline.ima
    judged_boot = boot is not None and all(golden.digest in boot.verdicts for golden in goldens)
    judged_ima = ima is not None and all(golden.digest in ima.verdicts for golden in goldens if golden.runtime)
    return KnownLogs(
        boot_id=baseline.boot_id,
        boot_log_sha256=boot.log_sha256 if boot is not None and judged_boot else b"",
        ima_offset=ima.mark.offset if ima is not None and judged_ima else 0,
    )


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
    """The outcome of one authentic round; a plain tuple, like all that lives no longer than that.

    Attributes:
        continuity: how the round follows the one before.
        findings: everything that was found, warnings included.
        goldens: the goldens that match whole.
        baseline: what the next round is to be appraised with.
        claims: what the agent says of itself; covered by the quote's signature.
        pcrs: the proved values, or None when a rebooted node has yet to send them.
        believable_until: the end of trust if this round is a good one.
        boot: what this round's boot log proves; None: none was sent, or it does not parse.
        logs_required: whether to challenge again at once, for logs: the outcome hangs on one that the challenge named
            as known. Such a round speaks neither for nor against the node; what was believed until T is so until T.
    """

    continuity: Continuity
    findings: tuple[Finding, ...]
    goldens: tuple[Golden, ...]
    baseline: Baseline
    claims: Claims
    pcrs: QuotedPcrs | None
    believable_until: datetime
    boot: BootClaims | None = None
    logs_required: bool = False

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
