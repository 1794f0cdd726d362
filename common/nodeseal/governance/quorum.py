"""Whether a proposal may take effect: one pure function of document, approvals, rules, people, time and object.

A signature counts for the person who has the key, once, and never for the proposer. What does not count is told with
the reason. Nothing here knows a database: the verifier asks when a proposal is to take effect and whenever what it
made is loaded, and so can anybody with the documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final, TypeAlias

from nodeseal.crypto.ssh_signature import verify_ssh_signature
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.governance.proposal import NAMESPACE, Proposal
from nodeseal.governance.rules import Rules
from nodeseal.ids import Digest, PersonId

_AGE: Final = "older than approvals last"
_Tally: TypeAlias = "tuple[tuple[PersonId, ...], tuple[tuple[PersonId, str], ...]]"
"""Whose approvals count, and whose do not with the reason."""


class Outcome(Enum):
    """What may become of a proposal now."""

    OPEN = "open"
    APPROVED = "approved"
    STALE = "stale"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A person as rules see them.

    Attributes:
        name: their name.
        proposes: whether they may propose: they have a role for it, and are neither removed nor suspended.
        approves: whether they may approve, likewise.
        keys: blobs of their SSH keys.
        token_keys: those of them that FIDO2 tokens hold.
    """

    name: PersonId
    proposes: bool
    approves: bool
    keys: frozenset[bytes] = frozenset()
    token_keys: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A signature over a proposal.

    Attributes:
        person: who says that it is theirs.
        signature: in the armour of ``ssh-keygen -Y sign``.
        at: when it arrived.
    """

    person: PersonId
    signature: bytes
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """All that the decision depends on.

    Attributes:
        proposal: what the document says.
        document: its bytes.
        signature: of the proposer; empty: none.
        approvals: in the order in which they arrived.
        rules: in force.
        following: the rules that would be in force after it; None: it changes no rules.
        people: everybody who operates the verifier.
        now: the time.
        base: digest of the state now of what it changes.
        trust_domain: of the verifier.
        origin: of its log.
    """

    proposal: Proposal
    document: bytes
    signature: bytes
    approvals: tuple[Approval, ...]
    rules: Rules
    following: Rules | None
    people: Mapping[PersonId, Member]
    now: datetime
    base: Digest
    trust_domain: str
    origin: str


@dataclass(frozen=True, slots=True)
class QuorumAnswer:
    """The decision.

    Attributes:
        outcome: what may become of the proposal.
        why: what it lacks, or why it is over.
        counted: whose approvals count under any of the rules that must be met.
        refused: whose do not under one of them, and why.
        everywhere: whose approvals count under all of them; the others may approve again.
    """

    outcome: Outcome
    why: tuple[str, ...] = ()
    counted: tuple[PersonId, ...] = ()
    refused: tuple[tuple[PersonId, str], ...] = ()
    everywhere: tuple[PersonId, ...] = ()


def decide(question: Question) -> QuorumAnswer:
    """Decide what may become of a proposal."""
    proposal = question.proposal
    if question.now >= proposal.expires:
        return QuorumAnswer(Outcome.EXPIRED, ("its time has passed",))
    over = tuple(_stale(question))
    if over:
        return QuorumAnswer(Outcome.STALE, over)
    both = [rules for rules in (question.rules, question.following) if rules is not None]
    tallies = [_tally(question, rules) for rules in both]
    missing = tuple(
        dict.fromkeys(
            line
            for rules, (counted, _) in zip(both, tallies, strict=True)
            for line in _missing(question, rules, counted)
        )
    )
    outcome = Outcome.OPEN if missing else Outcome.APPROVED
    asking = [tally for rules, tally in zip(both, tallies, strict=True) if not rules.solo] or tallies[-1:]
    return _told(outcome, missing, asking)


def _told(outcome: Outcome, missing: tuple[str, ...], tallies: Sequence[_Tally]) -> QuorumAnswer:
    """Return the answer by the tallies of all rules that ask for approvals; each rule may count other ones."""
    counted = tuple(dict.fromkeys(person for people, _ in tallies for person in people))
    refused = {person: why for _, those in tallies for person, why in those}
    everywhere = tuple(person for person in counted if all(person in people for people, _ in tallies))
    return QuorumAnswer(outcome, missing, counted, tuple(refused.items()), everywhere)


def _stale(question: Question) -> Iterator[str]:
    """Yield why a proposal can have no effect any more."""
    proposal, proposer = question.proposal, question.people.get(question.proposal.proposer)
    if (proposal.trust_domain, proposal.origin) != (question.trust_domain, question.origin):
        yield "it is of another trust domain or another log"
    if proposal.rules != question.rules.digest:
        yield "the rules have changed since it was made"
    if proposal.base != question.base:
        yield "what it changes has changed since it was made"
    if proposer is None or not proposer.proposes:
        yield f"{proposal.proposer}, who proposed it, may not propose any more"
    if question.following is not None and question.following.version != question.rules.version + 1:
        yield f"the rules must have version {question.rules.version + 1}"


def _missing(question: Question, rules: Rules, counted: tuple[PersonId, ...]) -> Iterator[str]:
    if rules.solo:
        if not question.people[question.proposal.proposer].approves and not counted:
            yield "an approver: whoever proposed it may not decide it alone"
        return
    wrong = refusal_of_signature(question, question.proposal.proposer, question.signature, rules)
    if wrong:
        yield f"a signature of the proposer ({wrong})"
    yield from rules.missing(counted)


def _tally(question: Question, rules: Rules) -> _Tally:
    """Return whose approvals count under some rules, and whose do not."""
    counted: list[PersonId] = []
    refused: list[tuple[PersonId, str]] = []
    for approval in question.approvals:
        why = _refusal(question, approval, rules, counted)
        if why:
            refused.append((approval.person, why))
        else:
            counted.append(approval.person)
    return tuple(counted), tuple(refused)


def _refusal(question: Question, approval: Approval, rules: Rules, counted: list[PersonId]) -> str:
    """Return why an approval does not count; empty: it does."""
    member = question.people.get(approval.person)
    if member is None or not member.approves:
        return "may not approve"
    if approval.person == question.proposal.proposer:
        return "proposed it"
    if approval.person in counted:
        return "has approved already"
    if not rules.solo and question.now >= approval.at + rules.approvals_last:
        return _AGE
    return refusal_of_signature(question, approval.person, approval.signature, rules)


def refusal_of_signature(question: Question, person: PersonId, signature: bytes, rules: Rules) -> str:
    """Return why a signature over the document is not a person's; empty: it is."""
    if not signature:
        return "there is none"
    try:
        proof = verify_ssh_signature(
            signature, question.document, NAMESPACE, require_user_verified=rules.user_verification
        )
    except (MalformedInput, ProofFailed) as error:
        return str(error)
    holders = [member.name for member in question.people.values() if proof.key.blob in member.keys]
    if holders != [person]:
        return f"the key {proof.key.fingerprint} is not theirs alone"
    return ""


def reaches(rules: Rules, people: Mapping[PersonId, Member], absent: PersonId | None = None) -> bool:
    """Tell whether, for somebody who proposes, the others can meet the rules while ``absent`` is away."""
    if rules.solo:
        return True
    there = [member for member in people.values() if member.name != absent]
    return any(
        not any(rules.missing([other.name for other in there if other != member and _can_approve(other, rules)]))
        for member in there
        if member.proposes and _has_key(member, rules)
    )


def _can_approve(member: Member, rules: Rules) -> bool:
    return member.approves and _has_key(member, rules)


def _has_key(member: Member, rules: Rules) -> bool:
    return bool(member.token_keys if rules.user_verification else member.keys)


def hazards(rules: Rules, people: Mapping[PersonId, Member]) -> tuple[str, ...]:
    """Return warnings about rules: whose absence would leave nobody who can meet them."""
    needed = [member.name for member in people.values() if not reaches(rules, people, member.name)]
    return tuple(f"without {name} nobody can meet these rules" for name in sorted(needed))
