"""Calls about rules and proposals, one method a call; :class:`~nodeseal.client.verifier.Verifier` has them too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import grpc

from nodeseal.golden.document import MAX_GOLDEN
from nodeseal.v1 import governance_pb2, governance_pb2_grpc
from nodeseal.wire.transfer import Assembly, in_parts

_TRANSFER_SECONDS: Final = 300.0


class Together:
    """How people decide together at the verifier at the other end of a channel.

    Args:
        channel: a channel that proves who calls.
        call_seconds: deadline of each call that moves little.
    """

    def __init__(self, channel: grpc.Channel, call_seconds: float) -> None:
        self._seconds: Final = call_seconds
        self._rules: Final = governance_pb2_grpc.RulesStub(channel)
        self._proposals: Final = governance_pb2_grpc.ProposalsStub(channel)

    def get_rules(self) -> governance_pb2.RulesInForce:
        """Return the rules in force."""
        return self._rules.GetRules(governance_pb2.GetRulesRequest(), timeout=self._seconds)

    def draft_proposal(self, change: bytes, reason: str, lifetime_hours: int) -> governance_pb2.ProposalDraft:
        """Return the document to sign for a change."""
        request = governance_pb2.DraftProposalRequest(change=change, reason=reason, lifetime_hours=lifetime_hours)
        return self._proposals.DraftProposal(request, timeout=self._seconds)

    def make_proposal(self, document: bytes, signature: bytes, attachment: bytes) -> governance_pb2.ProposalState:
        """Make a proposal."""
        return self._proposals.MakeProposal(_parts(document, signature, attachment), timeout=_TRANSFER_SECONDS)

    def list_proposals(self, *, every: bool) -> governance_pb2.ListProposalsResponse:
        """Return open proposals, or every one, and the rules in one sentence."""
        return self._proposals.ListProposals(governance_pb2.ListProposalsRequest(all=every), timeout=self._seconds)

    def get_proposal(self, proposal: str) -> governance_pb2.ProposalState:
        """Return a proposal with what it would change."""
        return self._proposals.GetProposal(governance_pb2.GetProposalRequest(proposal=proposal), timeout=self._seconds)

    def get_attachment(self, proposal: str) -> bytes:
        """Return what travels beside a proposal.

        Raises:
            MalformedInput: it is larger than attachments are.
        """
        attachment = Assembly(MAX_GOLDEN, "the attachment")
        request = governance_pb2.GetProposalRequest(proposal=proposal)
        for part in self._proposals.GetAttachment(request, timeout=_TRANSFER_SECONDS):
            attachment.add(part.data)
        return attachment.whole()

    def approve_proposal(self, proposal: str, signature: bytes) -> governance_pb2.ProposalState:
        """Approve a proposal by a signature over its document."""
        request = governance_pb2.ApproveProposalRequest(proposal=proposal, signature=signature)
        return self._proposals.ApproveProposal(request, timeout=_TRANSFER_SECONDS)

    def reject_proposal(self, proposal: str, reason: str) -> governance_pb2.ProposalState:
        """Settle a proposal as rejected."""
        request = governance_pb2.SettleProposalRequest(proposal=proposal, reason=reason)
        return self._proposals.RejectProposal(request, timeout=self._seconds)

    def withdraw_proposal(self, proposal: str, reason: str) -> governance_pb2.ProposalState:
        """Settle a proposal of the caller as withdrawn."""
        request = governance_pb2.SettleProposalRequest(proposal=proposal, reason=reason)
        return self._proposals.WithdrawProposal(request, timeout=self._seconds)


def _parts(document: bytes, signature: bytes, attachment: bytes) -> Iterator[governance_pb2.MakeProposalRequest]:
    for number, part in enumerate(in_parts(attachment)):
        if number == 0:
            yield governance_pb2.MakeProposalRequest(document=document, signature=signature, attachment=part)
        else:
            yield governance_pb2.MakeProposalRequest(attachment=part)
