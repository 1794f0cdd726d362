"""The egress kind: what a node claims of its egress limits, held against goldens that demand some.

The claims are the agent's, covered by the quote: they are worth what boot, IMA and agent are worth. So a golden with
egress limits should have runtime rules too. Of one round, a golden demands its table, its devices and no program beside
the table. Of all rounds of one boot:

- counters never fall: ``nft reset`` changes neither digest nor generation;
- what uplinks sent since the first round is not more than what the table let through. Counters count large packets
  before they are cut up (GSO), so each part has its own header on the wire: up to a sixteenth more;
- nobody but the agent changed the table.

The first two stay found until the node reboots: what left meanwhile does not come back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from nodeseal.appraisal.kinds.kind import NO_OBJECTION, KindVerdict, Proved, Round, missing
from nodeseal.appraisal.model import AuthenticEvidence, Facts, Proof
from nodeseal.egress.claims import EgressClaims
from nodeseal.egress.document import EgressDocument, Level
from nodeseal.egress.table import COUNTERS, digest_of_lines, expected_lines
from nodeseal.egress.uplinks import hooks_of
from nodeseal.evidence.logs import KnownLogs
from nodeseal.findings import Finding, FindingId
from nodeseal.golden.model import Golden

SLACK_BYTES: Final = 2 * 1024 * 1024
"""What may wait in queues between the table and the wire when a node's first round is made."""
HEADER_SHARE: Final = 16
_WHERE: Final = "egress"


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressProof:
    """What the rounds of one boot claim.

    Attributes:
        claims: of the last round that had some.
        passed_at_first: bytes that had passed before the first round.
        sent: bytes that hooked devices have sent since the first round.
        history: what is wrong with the rounds so far, whatever a golden demands.
        changed: what somebody changed since the round before; empty: nothing.
        absent: whether the last round claimed no limits.
    """

    claims: EgressClaims
    passed_at_first: int
    sent: int = 0
    history: tuple[Finding, ...] = ()
    changed: tuple[Finding, ...] = ()
    absent: bool = False

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Nothing: no limits are demanded unless a golden does."""
        return ()


def known(proof: EgressProof, goldens: Sequence[Golden], logs: KnownLogs) -> KnownLogs:
    """Add nothing: claims come in every round."""
    return logs


def unchanged(proof: EgressProof | None, evidence: AuthenticEvidence) -> bool:
    """Tell whether a node without egress limits still has none; with limits, every round counts bytes anew."""
    return proof is None and evidence.claims.egress is None


def prove(round_: Round, before: EgressProof | None, earlier: Sequence[Proof | None]) -> Proved[EgressProof]:
    """Continue what the rounds of this boot claim; a node that stops claiming limits has none."""
    claims = round_.evidence.claims.egress
    if claims is None:
        return Proved(None if before is None else replace(before, absent=True))
    return Proved(_first(claims) if before is None else _continued(before, claims))


def judge(proof: EgressProof | None, golden: Golden, facts: Facts) -> KindVerdict:
    """Hold the golden's limits against what the node claims."""
    document = golden.egress
    if document is None:
        return NO_OBJECTION
    if proof is None or proof.absent:
        return missing(FindingId.EGRESS_MISSING, "egress limits", "none", golden)
    return KindVerdict((*proof.history, *proof.changed, *_objections(proof.claims, document)))


def keep(proof: EgressProof | None, kept: Sequence[object]) -> None:
    """Keep nothing: a verifier that restarted counts from its first round on."""


def _first(claims: EgressClaims) -> EgressProof:
    return EgressProof(claims=claims, passed_at_first=claims.passed_before, changed=tuple(_changed(claims, 0)))


def _continued(before: EgressProof, claims: EgressClaims) -> EgressProof:
    sent = before.sent + sum(_sent(before.claims, claims))
    proof = replace(before, claims=claims, sent=sent)
    told = {finding.id for finding in before.history}
    news = (*_fell(before.claims, claims), *_unexplained(proof))
    since = before.claims.changes if before.claims.changes <= claims.changes else 0
    return replace(
        proof,
        history=(*before.history, *(finding for finding in news if finding.id not in told)),
        changed=tuple(_changed(claims, since)),
        absent=False,
    )


def _fell(before: EgressClaims, claims: EgressClaims) -> Iterator[Finding]:
    was, now = _counts(before), _counts(claims)
    fallen = [name for name in was if now[name] < was[name]]
    if fallen:
        name = fallen[0]
        seen = f"counter {name}: {now[name]} bytes, last changed by {claims.changed_by or 'somebody'}"
        yield _finding(FindingId.EGRESS_COUNTERS, f"at least {was[name]} bytes", seen)


def _counts(claims: EgressClaims) -> Mapping[str, int]:
    return {**{name: claims.counters.get(name, 0) for name in COUNTERS}, "quota volume": claims.quota}


def _sent(before: EgressClaims, claims: EgressClaims) -> Iterator[int]:
    """Iterate over what each hooked device sent between two rounds.

    A device that is new has sent all of its count, and so has one whose count fell: it began again.
    """
    was = {device.index: device.sent for device in before.devices}
    for device in claims.devices:
        if device.name in claims.hooks or device.name in before.hooks:
            counted = was.get(device.index, 0)
            yield device.sent - counted if device.sent >= counted else device.sent


def _unexplained(proof: EgressProof) -> Iterator[Finding]:
    passed = max(0, proof.claims.passed - proof.passed_at_first)
    explained = passed + passed // HEADER_SHARE + SLACK_BYTES
    if proof.sent > explained:
        yield _finding(
            FindingId.EGRESS_UNEXPLAINED,
            f"at most {explained} bytes, since the table let {passed} through",
            f"{proof.sent} bytes sent by {', '.join(sorted(proof.claims.hooks)) or 'no hooked device'}",
        )


def _changed(claims: EgressClaims, since: int) -> Iterator[Finding]:
    if claims.changes > since:
        seen = f"{claims.changes - since} changes, the last of any table by {claims.changed_by or 'somebody'}"
        yield _finding(FindingId.EGRESS_RULESET, "no change but the agent's", seen)


def _objections(claims: EgressClaims, document: EgressDocument) -> Iterator[Finding]:
    yield from _of_table(claims, document)
    hooks, problems = hooks_of(document, claims.devices)
    for problem in problems:
        yield _finding(FindingId.EGRESS_DEVICE, problem.expected, problem.seen, f"device {problem.device}")
    for name, role in hooks.items():
        if (seen := claims.hooks.get(name)) is not role:
            yield _finding(FindingId.EGRESS_DEVICE, f"hooked by chain {role}", str(seen or "not"), f"device {name}")
    if claims.more_devices:
        expected, seen_devices = f"at most {len(claims.devices)} devices that may send", f"{claims.more_devices} more"
        yield _finding(FindingId.EGRESS_DEVICE, expected, seen_devices)
    for port in claims.rdma:
        if port.rpartition(".")[0] not in document.counted:
            yield _finding(
                FindingId.EGRESS_DEVICE, "named in egress.counted", "an RDMA port that is not", f"port {port}"
            )
    for program in claims.programs:
        yield _finding(FindingId.EGRESS_PROGRAM, "nothing beside the table", program)


def _of_table(claims: EgressClaims, document: EgressDocument) -> Iterator[Finding]:
    roles = frozenset(claims.hooks.values())
    wanted = {level: digest_of_lines(expected_lines(document, level, roles)) for level in Level}
    if claims.ruleset in wanted.values():
        return
    if claims.document != document.digest:
        expected = f"the table of document {document.digest}"
        yield _finding(FindingId.EGRESS_RULESET, expected, f"that of document {claims.document}", "egress file")
    for line in claims.differs:
        word, _, said = line.partition(" ")
        expected, seen = (said, "no such line") if word == "missing" else ("no such line", said)
        yield _finding(FindingId.EGRESS_RULESET, expected, seen, "table netdev nodeseal")
    if claims.document == document.digest and not claims.differs:
        expected = f"digest {wanted[claims.level]}"
        yield _finding(FindingId.EGRESS_RULESET, expected, claims.ruleset, "table netdev nodeseal")


def _finding(finding_id: FindingId, expected: str, seen: str, where: str = _WHERE) -> Finding:
    return Finding(id=finding_id, expected=expected, seen=seen, where=where)
