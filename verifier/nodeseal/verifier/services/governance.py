"""Services for deciding together: ``Rules`` and ``Proposals`` of ``nodeseal.v1``."""
# ruff: noqa: N802, D102, ARG002 - methods are named, described and shaped in governance.proto

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from grpc import aio

from nodeseal.errors import MalformedInput, OutOfOrder
from nodeseal.golden.document import MAX_GOLDEN
from nodeseal.governance.proposal import decode_proposal
from nodeseal.ids import PersonId, parse_digest
from nodeseal.v1 import governance_pb2, governance_pb2_grpc
from nodeseal.verifier.people.effects import Effects
from nodeseal.verifier.people.proposals import Proposals, Standing
from nodeseal.verifier.people.questions import proposal_of
from nodeseal.verifier.people.rulebook import Rulebook
from nodeseal.verifier.people.submissions import Submission
from nodeseal.verifier.services.interceptor import caller
from nodeseal.wire.messages import fill_timestamp, shown_text, timestamp
from nodeseal.wire.transfer import Assembly, in_parts

_TRANSFER_SECONDS: Final = 120
_Context = aio.ServicerContext[Any, Any]


class RulesService(governance_pb2_grpc.RulesServicer):
    """Shows the rules."""

    def __init__(self, rulebook: Rulebook) -> None:
        self._rulebook: Final = rulebook

    async def GetRules(self, request: governance_pb2.GetRulesRequest, context: _Context) -> governance_pb2.RulesInForce:
        rules, warnings = await self._rulebook.read()
        return governance_pb2.RulesInForce(
            document=rules.encode(), digest=rules.digest, words=rules.words, warnings=warnings
        )


class ProposalsService(governance_pb2_grpc.ProposalsServicer):
    """Takes proposals, approvals and refusals."""

    def __init__(self, proposals: Proposals, effects: Effects, rulebook: Rulebook) -> None:
        self._proposals: Final = proposals
        self._effects: Final = effects
        self._rulebook: Final = rulebook

    async def DraftProposal(
        self, request: governance_pb2.DraftProposalRequest, context: _Context
    ) -> governance_pb2.ProposalDraft:
        document = await self._proposals.draft(request.change, request.reason, request.lifetime_hours, _person())
        change = decode_proposal(document, "proposal").change
        return governance_pb2.ProposalDraft(document=document, effects=await self._effects.describe(change, b""))

    async def MakeProposal(
        self, requests: AsyncIterator[governance_pb2.MakeProposalRequest], context: _Context
    ) -> governance_pb2.ProposalState:
        submission = await _collected(requests)
        return state_to_proto(await self._proposals.make(submission))

    async def ListProposals(
        self, request: governance_pb2.ListProposalsRequest, context: _Context
    ) -> governance_pb2.ListProposalsResponse:
        found = await self._proposals.list(only_open=not request.all)
        return governance_pb2.ListProposalsResponse(proposals=map(state_to_proto, found), rules=self._rulebook.words)

    async def GetProposal(
        self, request: governance_pb2.GetProposalRequest, context: _Context
    ) -> governance_pb2.ProposalState:
        standing = await self._proposals.get(parse_digest(request.proposal))
        message = state_to_proto(standing)
        message.result = standing.record.result or b""
        change = proposal_of(standing.record).change
        message.effects.extend(map(shown_text, await self._effects.describe(change, standing.record.attachment)))
        return message

    async def GetAttachment(  # type: ignore[override]  # the generated stubs know no handlers that write
        self,
        request: governance_pb2.GetProposalRequest,
        context: aio.ServicerContext[Any, governance_pb2.AttachmentPart],
    ) -> None:
        standing = await self._proposals.get(parse_digest(request.proposal))
        try:
            async with asyncio.timeout(_TRANSFER_SECONDS):
                for part in in_parts(standing.record.attachment):
                    await context.write(governance_pb2.AttachmentPart(data=part))
        except TimeoutError as error:
            raise OutOfOrder(f"the answer was not read within {_TRANSFER_SECONDS} seconds") from error

    async def ApproveProposal(
        self, request: governance_pb2.ApproveProposalRequest, context: _Context
    ) -> governance_pb2.ProposalState:
        named = parse_digest(request.proposal)
        return state_to_proto(await self._proposals.approve(named, request.signature, _person()))

    async def RejectProposal(
        self, request: governance_pb2.SettleProposalRequest, context: _Context
    ) -> governance_pb2.ProposalState:
        named = parse_digest(request.proposal)
        return state_to_proto(await self._proposals.reject(named, request.reason, _person()))

    async def WithdrawProposal(
        self, request: governance_pb2.SettleProposalRequest, context: _Context
    ) -> governance_pb2.ProposalState:
        named = parse_digest(request.proposal)
        return state_to_proto(await self._proposals.withdraw(named, request.reason, _person()))


def state_to_proto(standing: Standing) -> governance_pb2.ProposalState:
    """Return how a proposal stands."""
    record, answer = standing.record, standing.asked.answer if standing.asked else None
    refused = dict(answer.refused) if answer else {}
    message = governance_pb2.ProposalState(
        proposal=record.proposal,
        document=record.document,
        outcome=record.outcome,
        why=shown_text(record.why),
        made=timestamp(record.made),
        expires=timestamp(record.expires),
        words=shown_text(proposal_of(record).change.words),
        approvals=[
            governance_pb2.ProposalApproval(
                person=approval.person, at=timestamp(approval.at), refused=shown_text(refused.get(approval.person, ""))
            )
            for approval in standing.approvals
        ],
        missing=map(shown_text, answer.why if answer else ()),
    )
    if record.settled is not None:
        fill_timestamp(message.settled, record.settled)
    return message


def _person() -> PersonId:
    identity = caller().identity
    if identity is None:
        raise MalformedInput("the caller shows no certificate")
    return PersonId(identity.name)


async def _collected(requests: AsyncIterator[governance_pb2.MakeProposalRequest]) -> Submission:
    attachment = Assembly(MAX_GOLDEN, "the attachment")
    first: governance_pb2.MakeProposalRequest | None = None
    try:
        async with asyncio.timeout(_TRANSFER_SECONDS):
            async for request in requests:
                first = first or request
                attachment.add(request.attachment)
    except TimeoutError as error:
        raise OutOfOrder(f"the proposal did not arrive within {_TRANSFER_SECONDS} seconds") from error
    if first is None:
        raise OutOfOrder("a request was expected")
    return Submission(
        document=first.document, signature=first.signature, attachment=attachment.whole(), person=_person()
    )
