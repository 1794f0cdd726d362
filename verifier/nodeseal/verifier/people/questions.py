"""A proposal as a question for :func:`nodeseal.governance.quorum.decide`, asked on the rows of the moment."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from nodeseal.errors import MalformedInput
from nodeseal.governance.changes import ChangeKind
from nodeseal.governance.proposal import Proposal, decode_proposal, proposal_id
from nodeseal.governance.quorum import Approval, Question, QuorumAnswer, decide
from nodeseal.governance.rules import Rules, decode_rules
from nodeseal.governance.sanction import ApprovedProposal
from nodeseal.verifier.ledger.documents import Document, document_of
from nodeseal.verifier.people.bases import base_of
from nodeseal.verifier.store.governance import (
    ProposalRecord,
    approvals_of,
    attachment_of,
    current_rules,
    members,
)
from nodeseal.verifier.trust.sanctions import Place


class ProposalQuestion(NamedTuple):
    """A question with its answer."""

    question: Question
    answer: QuorumAnswer

    @property
    def proposal(self) -> Proposal:
        """What was asked about."""
        return self.question.proposal

    def sanction(self) -> Document:
        """Return the document that acts carry: the approvals that counted."""
        counted = tuple(each for each in self.question.approvals if each.person in self.answer.counted)
        document, signature = self.question.document, self.question.signature
        return document_of(ApprovedProposal(document=document, signature=signature, approvals=counted).encode())


def ask(
    connection: sa.Connection,
    place: Place,
    record: ProposalRecord,
    now: datetime,
    further: tuple[Approval, ...] = (),
) -> ProposalQuestion:
    """Return what may become of a proposal on the rows of the moment.

    Args:
        connection: of the transaction.
        place: where it must hold.
        record: the proposal; its attachment counts only if it has one.
        now: the time.
        further: approvals that are not recorded yet; each replaces an older one of the same person.
    """
    proposal = proposal_of(record)
    again = {approval.person for approval in further}
    known = tuple(each for each in approvals_of(connection, record.proposal) if each.person not in again)
    question = Question(
        proposal=proposal,
        document=record.document,
        signature=record.signature,
        approvals=(*known, *further),
        rules=current_rules(connection),
        following=_following(connection, proposal, record),
        people=members(connection),
        now=now,
        base=base_of(connection, proposal.change),
        trust_domain=place.trust_domain,
        origin=place.origin,
    )
    return ProposalQuestion(question, decide(question))


def _following(connection: sa.Connection, proposal: Proposal, record: ProposalRecord) -> Rules | None:
    if proposal.change.kind is not ChangeKind.RULES_SET:
        return None
    document = record.attachment or attachment_of(connection, record.proposal)
    return decode_rules(document, "rules")


def proposal_of(record: ProposalRecord) -> Proposal:
    """Return what a record's document says.

    Raises:
        MalformedInput: the document was changed in the database.
    """
    if proposal_id(record.document) != record.proposal:
        raise MalformedInput(f"store: the document of proposal {record.proposal} was changed by hand")
    return decode_proposal(record.document, f"proposal {record.proposal}")
