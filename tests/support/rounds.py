"""A good round of evidence, built so that a test can change one fact of it.

A plain :class:`Round` has PCR values and no logs. :func:`measured` makes the round of a machine that booted by a boot
log and ran files by an IMA log; both replay to its PCRs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from nodeseal.appraisal.appraise import appraise, known_logs
from nodeseal.appraisal.kinds.boot import BootState
from nodeseal.appraisal.kinds.ima import progress_of
from nodeseal.appraisal.kinds.ima_log import ImaMark, ImaProgress
from nodeseal.appraisal.model import (
    UNKNOWN_TPM,
    Appraisal,
    Baseline,
    Challenge,
    KnownNode,
    NodeKeys,
    Policy,
    TpmFacts,
)
from nodeseal.evidence.binding import Channel, Purpose, qualifying_data
from nodeseal.evidence.claims import Claims, encode_claims
from nodeseal.evidence.logs import NOTHING_KNOWN, ImaDelta, KnownLogs
from nodeseal.evidence.round import Evidence
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import FileDigest, RuntimeRules
from nodeseal.ids import Nonce, node_id_of
from nodeseal.ima.log import ImaEntry, encode_ima_entry, template_hash
from nodeseal.ima.template import ImaFields
from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.attest import ClockInfo
from nodeseal.tpm.pcr import PCR_COUNT, PcrSelection
from nodeseal.uefi.event_log import decode_event_log, replay
from support import ima
from support.quotes import START, Signed, SigningKey, quoted

SHA256 = HashAlg.SHA256
SELECTION = PcrSelection.of({SHA256: [*range(10), *range(11, 16), 23]})
ALL = PcrSelection.of({SHA256: [*range(16), 23]})
"""The PCRs that verifiers ask for by default, PCR 10 included."""
IMA_PCR = 10
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PCRS: Mapping[int, bytes] = {index: bytes([index + 1]) * 32 for index in range(24)} | {15: bytes(32)}
CLAIMS = Claims(boot_id="3f0c7c9e-0000-4000-8000-000000000001", kernel="6.1.0", agent_version="0.1.0")
CHALLENGE = Challenge(
    nonce=Nonce(bytes(range(32))),
    purpose=Purpose.ATTEST,
    selection=SELECTION,
    issued=NOW,
    answer_by=NOW + timedelta(seconds=10),
    channel=Channel(trust_domain="example.org", node_id=node_id_of(b"ek"), certificate_sha256=b"c" * 32),
)


def golden_of(pcrs: Mapping[int, bytes], *, only: range = range(8), name: str = "rack-a") -> Golden:
    """Return the golden that pins ``only`` to the values of ``pcrs``."""
    return Golden(name=name, pcrs={SHA256: {index: frozenset({pcrs[index]}) for index in only}})


GOLDEN = golden_of(PCRS)
POLICY = Policy(goldens=(GOLDEN,), trust_seconds=60)


@dataclass(frozen=True, kw_only=True)
class Round:
    """The facts of one round as an honest node and verifier see them.

    ``logs`` are the known logs that the challenge names; by default those that the verifier knows.
    """

    key: SigningKey = field(default_factory=SigningKey)
    challenge: Challenge = CHALLENGE
    claims: Claims = CLAIMS
    pcrs: Mapping[int, bytes] = field(default_factory=lambda: PCRS)
    clock_info: ClockInfo = START
    baseline: Baseline | None = None
    policy: Policy = POLICY
    now: datetime = NOW + timedelta(seconds=1)
    labels: Mapping[str, str] = field(default_factory=dict)
    tpm: TpmFacts = UNKNOWN_TPM
    firmware: int = 1
    boot_log: bytes | None = None
    ima_log: bytes | None = None
    logs: KnownLogs | None = None

    @property
    def keys(self) -> NodeKeys:
        return NodeKeys(ak_name=self.key.public.name(), verifier=self.key.verifier())

    @property
    def known(self) -> KnownNode:
        """The node as the verifier knows it."""
        return KnownNode(keys=self.keys, baseline=self.baseline, labels=self.labels, tpm=self.tpm)

    @property
    def asked(self) -> Challenge:
        """The challenge, with the logs that it names as known."""
        logs = known_logs(self.known, self.policy) if self.logs is None else self.logs
        return self.challenge._replace(logs=logs)

    def sign(self) -> Signed:
        """Return the quote that this node makes for this challenge."""
        selection = self.challenge.selection
        return self.key.attest(quoted(selection, self.pcrs), self.binding(), self.clock_info, self.firmware)

    def binding(self, **changes: object) -> bytes:
        """Return the qualifying data, with some fields of the challenge changed."""
        challenge = self.challenge._replace(**changes)  # type: ignore[arg-type]  # its fields
        return qualifying_data(challenge.purpose, challenge.nonce, challenge.channel, encode_claims(self.claims))

    def evidence(self, signed: Signed | None = None, *, values: bool = True) -> Evidence:
        """Return the agent's evidence, by default with values; the challenge names the parts of logs that stay out."""
        signed = signed or self.sign()
        sent = tuple(self.pcrs[index] for _, index in self.challenge.selection.indices())
        logs = self.asked.logs if self.asked.logs.boot_id == self.claims.boot_id else NOTHING_KNOWN
        known_boot_log = self.boot_log is None or sha256(self.boot_log).digest() == logs.boot_log_sha256
        return Evidence(
            claims=encode_claims(self.claims),
            attest=signed.attest,
            signature=signed.signature,
            pcr_values=sent if values else None,
            boot_log=None if known_boot_log else self.boot_log,
            ima=self.delta(logs.ima_offset),
        )

    def delta(self, offset: int) -> ImaDelta | None:
        """Return the IMA log from ``offset`` on, or None if there is nothing."""
        new = (self.ima_log or b"")[offset:]
        return ImaDelta(offset=offset, entries=new) if new else None

    def appraise(self, evidence: Evidence | None = None) -> Appraisal:
        """Appraise ``evidence``, by default this round's own."""
        return appraise(evidence or self.evidence(), self.asked, self.known, self.policy, self.now)

    def running(self, *entries: ImaEntry) -> Round:
        """Return the round of the same machine after IMA measured ``entries``."""
        value = self.pcrs[IMA_PCR]
        for entry in entries:
            value = SHA256.digest(value + template_hash(entry, SHA256))
        log = (self.ima_log or b"") + b"".join(map(encode_ima_entry, entries))
        return replace(self, pcrs={**self.pcrs, IMA_PCR: value}, ima_log=log)

    def extended(self, pcr: int, content: bytes = b"later") -> Round:
        """Return the round of the same machine after something extended ``pcr`` and logged nothing."""
        value = SHA256.digest(self.pcrs[pcr] + SHA256.digest(content))
        return replace(self, pcrs={**self.pcrs, pcr: value})

    def then(self, appraisal: Appraisal, **changes: object) -> Round:
        """Return the round after one that came out as ``appraisal``: a second later, with another nonce."""
        challenge = self.challenge._replace(
            nonce=Nonce(bytes(reversed(self.challenge.nonce))),
            issued=self.challenge.issued + timedelta(seconds=1),
            answer_by=self.challenge.answer_by + timedelta(seconds=1),
        )
        later = replace(
            self,
            baseline=appraisal.baseline,
            challenge=challenge,
            now=self.now + timedelta(seconds=1),
            clock_info=self.clock_info._replace(clock=self.clock_info.clock + 1000),
        )
        return replace(later, **changes)  # type: ignore[arg-type]  # its fields


FILES = {"/usr/bin/agent": b"agent 1", "/usr/lib/libc.so": b"libc 1"}
"""Files that a machine of :func:`measured` runs by default: contents by path."""


def measured(
    chain: SampleBoot | None = None, files: Mapping[str, bytes] = FILES, *, boot_log: bytes | None = None
) -> Round:
    """Return the first round of a machine that booted and ran files, judged by :func:`exact_golden` of it.

    Args:
        chain: what it boots; None: the sample's.
        files: what IMA measured, by path.
        boot_log: the log to boot by instead.
    """
    log = boot_log or sample_boot_log(chain or SampleBoot())
    booted = dict.fromkeys(range(PCR_COUNT), bytes(32)) | replay(decode_event_log(log), SHA256)
    before = Round(pcrs=booted, boot_log=log, challenge=CHALLENGE._replace(selection=ALL))
    machine = before.running(boot_aggregate(booted), *(ran(path, content) for path, content in files.items()))
    return replace(machine, policy=Policy(goldens=(exact_golden(machine),), trust_seconds=60))


def ran(path: str, content: bytes) -> ImaEntry:
    """Return the entry of a file that IMA measured."""
    fields = ImaFields(algorithm="sha256", digest=SHA256.digest(content), path=path.encode())
    return ima.entry("ima-ng", fields)


def boot_aggregate(pcrs: Mapping[int, bytes]) -> ImaEntry:
    """Return the first entry of every IMA log."""
    digest = SHA256.digest(b"".join(pcrs[index] for index in range(10)))
    return ima.entry("ima-ng", ImaFields(algorithm="sha256", digest=digest, path=b"boot_aggregate"))


def exact_golden(machine: Round, name: str = "rack-a") -> Golden:
    """Return the golden that pins PCR 0 to 9 and has no runtime rules."""
    return golden_of(machine.pcrs, only=range(10), name=name)


def runtime_rules(files: Mapping[str, bytes] = FILES) -> RuntimeRules:
    """Return rules that allow these files, by path and content."""
    return RuntimeRules(files={path: (FileDigest(digest=SHA256.digest(content)),) for path, content in files.items()})


def booted(appraisal: Appraisal) -> BootState | None:
    """Return what the next round continues of the boot log."""
    return appraisal.baseline.proof(BootState)


def measured_so_far(appraisal: Appraisal) -> ImaProgress | None:
    """Return what the next round continues of the IMA log."""
    return progress_of(appraisal.baseline)


def marked(appraisal: Appraisal) -> ImaMark | None:
    """Return what outlives a restart of the verifier."""
    return appraisal.baseline.kept_of(ImaMark)
