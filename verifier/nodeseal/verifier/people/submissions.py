"""A proposal as it arrives: what is looked at before it is recorded, and how it is recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from nodeseal.errors import MalformedInput, PolicyRefused
from nodeseal.findings import Finding, FindingId
from nodeseal.golden.document import parse_golden
from nodeseal.governance.changes import Change, ChangeKind
from nodeseal.governance.proposal import Proposal, proposal_id
from nodeseal.governance.quorum import Outcome, refusal_of_signature
from nodeseal.governance.reslot import decode_reslot, named
from nodeseal.ids import Digest, PersonId, digest_of
from nodeseal.verifier.ledger.acts import ProposalMade
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.ledger.documents import document_of
from nodeseal.verifier.people.questions import ProposalQuestion
from nodeseal.verifier.store.governance import ProposalRecord

_MAX_WORDS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A proposal as it arrives.

    Attributes:
        document: what people sign.
        signature: of the proposer; empty: none.
        attachment: what travels beside it.
        person: who proposes it.
    """

    document: bytes
    signature: bytes
    attachment: bytes
    person: PersonId


def new_record(proposal: Proposal, submission: Submission, at: datetime) -> ProposalRecord:
    """Return the record of a proposal that arrives."""
    return ProposalRecord(
        proposal=proposal_id(submission.document),
        document=submission.document,
        signature=submission.signature,
        attachment=submission.attachment,
        made=at,
        expires=proposal.expires,
        outcome=Outcome.OPEN.value,
        why="",
        settled=None,
        result=None,
    )


def require_signed(asked: ProposalQuestion) -> None:
    """Make sure that the proposer signed, where any rules that must be met ask for more than one person."""
    for rules in filter(None, (asked.question.rules, asked.question.following)):
        if rules.solo:
            continue
        question, proposer = asked.question, asked.proposal.proposer
        wrong = refusal_of_signature(question, proposer, question.signature, rules)
        if wrong:
            raise PolicyRefused(approval_finding(proposer, wrong))


def require_attachment(change: Change, attachment: bytes) -> None:
    """Make sure that an attachment is the one that a change names.

    People read the facts of the change and sign its digest, so the attachment must say what the facts say.

    Raises:
        MalformedInput: it is another, or missing, or too much, or says something else than the change.
    """
    if (digest_of(attachment) if attachment else "") != change.attachment:
        raise MalformedInput("the attachment is not the one that the proposal names")
    said = _SAID[change.kind](attachment) if change.kind in _SAID else {}
    for fact, value in said.items():
        if change.facts[fact] != value:
            raise MalformedInput(f"change: {fact} is {change.facts[fact]!a}, and the attachment says {value!a}")


def _said_by_golden(attachment: bytes) -> Mapping[str, object]:
    golden = parse_golden(attachment, "golden")
    return {"golden": golden.digest, "name": golden.name}


def _said_by_reslot(attachment: bytes) -> Mapping[str, object]:
    slots, keys = decode_reslot(attachment)
    return {"model": slots.model_digest, "keys": [named(key) for key in keys]}


_SAID: Final[Mapping[ChangeKind, Callable[[bytes], Mapping[str, object]]]] = {
    ChangeKind.GOLDEN_ACTIVATE: _said_by_golden,
    ChangeKind.MODEL_RESLOT: _said_by_reslot,
}
"""What an attachment says of the facts of its change, where the facts are more than its digest."""


def recorded(proposal: Proposal, submission: Submission) -> Decided[None]:
    """Return the decision that a proposal was made."""
    document, signature = document_of(submission.document), document_of(submission.signature)
    signed = submission.signature != b""
    attachment = document_of(submission.attachment)
    act = ProposalMade(
        proposal=document.digest,
        change=proposal.change.kind.value,
        proposer=proposal.proposer,
        expires=proposal.expires,
        summary=proposal.change.words[:_MAX_WORDS],
        signature=signature.digest if signed else Digest(""),
        attachment=proposal.change.attachment,
    )
    documents = (document, *((signature,) if signed else ()))
    return Decided(None, (act,), documents, (attachment,) if submission.attachment else ())


def approval_finding(person: PersonId, why: str) -> Finding:
    """Return why a signature does not count."""
    return Finding(id=FindingId.PERSON_APPROVAL, expected="a signature that counts", seen=why, where=person)
