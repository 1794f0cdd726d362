"""A good round of evidence, built so that a test can change one fact of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from nodeseal.evidence import Channel, Claims, Evidence, Purpose, encode_claims, qualifying_data
from nodeseal.golden.model import Golden
from nodeseal.ids import Nonce, node_id_of
from nodeseal.tcg.algorithms import HashAlg
from nodeseal.tcg.attest import ClockInfo
from nodeseal.tcg.pcr import PcrSelection
from nodeseal.verifier.appraisal.appraise import appraise
from nodeseal.verifier.appraisal.model import Appraisal, Baseline, Challenge, KnownNode, NodeKeys, Policy
from support.quotes import START, Signed, SigningKey, quoted

SHA256 = HashAlg.SHA256
SELECTION = PcrSelection.of({SHA256: [*range(10), *range(11, 16)]})
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
    """The facts of one round as an honest node and verifier see them."""

    key: SigningKey = field(default_factory=SigningKey)
    challenge: Challenge = CHALLENGE
    claims: Claims = CLAIMS
    pcrs: Mapping[int, bytes] = field(default_factory=lambda: PCRS)
    clock_info: ClockInfo = START
    baseline: Baseline | None = None
    policy: Policy = POLICY
    now: datetime = NOW + timedelta(seconds=1)

    @property
    def keys(self) -> NodeKeys:
        return NodeKeys(ak_name=self.key.public.name(), verifier=self.key.verifier())

    def sign(self) -> Signed:
        """Return the quote that this node makes for this challenge."""
        selection = self.challenge.selection
        return self.key.attest(quoted(selection, self.pcrs), self.binding(), self.clock_info)

    def binding(self, **changes: object) -> bytes:
        """Return the qualifying data, with some fields of the challenge changed."""
        challenge = replace(self.challenge, **changes)  # type: ignore[arg-type]  # the fields of the dataclass
        return qualifying_data(challenge.purpose, challenge.nonce, challenge.channel, encode_claims(self.claims))

    def evidence(self, signed: Signed | None = None, *, values: bool = True) -> Evidence:
        """Return what the agent sends, by default with values."""
        signed = signed or self.sign()
        sent = tuple(self.pcrs[index] for _, index in self.challenge.selection.indices())
        return Evidence(
            claims=encode_claims(self.claims),
            attest=signed.attest,
            signature=signed.signature,
            pcr_values=sent if values else None,
        )

    def appraise(self, evidence: Evidence | None = None) -> Appraisal:
        """Appraise ``evidence``, by default this round's own."""
        node = KnownNode(keys=self.keys, baseline=self.baseline)
        return appraise(evidence or self.evidence(), self.challenge, node, self.policy, self.now)

    def then(self, appraisal: Appraisal, **changes: object) -> Round:
        """Return the round after one that came out as ``appraisal``: a second later, with another nonce."""
        challenge = replace(
            self.challenge,
            nonce=Nonce(bytes(reversed(self.challenge.nonce))),
            issued=self.challenge.issued + timedelta(seconds=1),
            answer_by=self.challenge.answer_by + timedelta(seconds=1),
        )
        later = replace(
            self,
            baseline=appraisal.baseline,
            challenge=challenge,
            now=self.now + timedelta(seconds=1),
            clock_info=replace(self.clock_info, clock=self.clock_info.clock + 1000),
        )
        return replace(later, **changes)  # type: ignore[arg-type]  # the fields of the dataclass
