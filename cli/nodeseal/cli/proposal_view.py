"""A proposal as people see it: what it would change, who approved, and what it lacks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from nodeseal.cli.messages import show_time
from nodeseal.cli.output import FactList
from nodeseal.errors import MalformedInput
from nodeseal.governance.proposal import Proposal, decode_proposal, proposal_id
from nodeseal.v1 import governance_pb2 as pb


def read_proposal(state: pb.ProposalState) -> Proposal:
    """Return what the document of a proposal says, in this program's own reading.

    Raises:
        MalformedInput: the document is not the one of that id, or does not parse.
    """
    if proposal_id(state.document) != state.proposal:
        raise MalformedInput("the verifier sent the document of another proposal")
    return decode_proposal(state.document, f"proposal {state.proposal}")


def shown_proposal(state: pb.ProposalState) -> FactList:
    """Return a proposal line by line."""
    return FactList(tuple(_facts(state)))


def document_facts(named: str, proposal: Proposal) -> Iterator[tuple[str, str]]:
    """Yield what a document says by itself."""
    yield "proposal", named
    yield "would change", proposal.change.words
    yield "proposed by", proposal.proposer
    yield "reason", proposal.reason
    yield "trust domain", proposal.trust_domain
    yield "expires", _time(proposal.expires)


def _facts(state: pb.ProposalState) -> Iterator[tuple[str, str]]:
    yield from document_facts(state.proposal, read_proposal(state))
    for line in state.effects[1:]:
        yield "effect", line
    yield "outcome", f"{state.outcome}{f': {state.why}' if state.why else ''}"
    for approval in state.approvals:
        counted = f", does not count: {approval.refused}" if approval.refused else ""
        yield "approved by", f"{approval.person} at {show_time(approval.at)}{counted}"
    for line in state.missing:
        yield "lacks", line


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%SZ}"
