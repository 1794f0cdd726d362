"""People who decide together: each with a client, an SSH key, and calls to propose and to approve."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from nodeseal.documents import Fields, encode_json
from nodeseal.governance.changes import parse_change
from nodeseal.governance.proposal import NAMESPACE, Proposal
from nodeseal.governance.rules import Rules, parse_rules
from nodeseal.ids import Digest, PersonId, digest_of
from nodeseal.v1 import governance_pb2 as pb
from nodeseal.v1 import people_pb2
from nodeseal.verifier.states import Role
from support.ssh import Signer, ed25519_signer
from support.verifier import RunningVerifier, Stubs

PROPOSAL = Proposal(
    trust_domain="test.example",
    origin="log",
    change=parse_change(Fields({"kind": "key.revoke", "key": "llama"}, "change")),
    base=Digest("a" * 64),
    rules=Digest("b" * 64),
    proposer=PersonId("kim"),
    reason="leaked",
    expires=datetime(2027, 1, 2, tzinfo=UTC),
    nonce=bytes(16),
)
"""A proposal that is nobody's."""
PEOPLE = ("kim", "lee", "ann")
QUORUM = """\
format: "nodeseal/rules/1"
version: {version}
rule: "quorum"
approvals: {approvals}
user_verification: {verified}
approvals_last_hours: {hours}
needs_proposal: {kinds}
"""


def quorum_rules(
    version: int = 2, approvals: int = 1, hours: int = 72, kinds: str = '["all"]', *, verified: bool = False
) -> Rules:
    """Return rules under which some others must approve."""
    text = QUORUM.format(version=version, approvals=approvals, hours=hours, kinds=kinds, verified=str(verified).lower())
    return parse_rules(text.encode(), "rules.yaml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Somebody:
    """A person who proposes and approves.

    Attributes:
        name: of the person.
        signer: their SSH key.
        calls: over their connection.
    """

    name: str
    signer: Signer
    calls: Stubs

    async def draft(self, change: Mapping[str, Any], hours: int = 24) -> bytes:
        """Return the document of a proposal."""
        request = pb.DraftProposalRequest(change=encode_json(dict(change)), reason="a test", lifetime_hours=hours)
        return (await self.calls.proposals.DraftProposal(request)).document

    async def make(self, document: bytes, attachment: bytes = b"", signature: bytes | None = None) -> pb.ProposalState:
        """Make the proposal with a document."""
        signed = self.sign(document) if signature is None else signature
        parts = [pb.MakeProposalRequest(document=document, signature=signed, attachment=attachment)]
        return await self.calls.proposals.MakeProposal(iter(parts))

    async def propose(self, change: Mapping[str, Any], attachment: bytes = b"") -> pb.ProposalState:
        """Draft, sign and make a proposal."""
        return await self.make(await self.draft(change), attachment)

    async def approve(self, proposal: pb.ProposalState, signature: bytes | None = None) -> pb.ProposalState:
        """Approve a proposal by a signature over its document."""
        signed = self.sign(proposal.document) if signature is None else signature
        request = pb.ApproveProposalRequest(proposal=proposal.proposal, signature=signed)
        return await self.calls.proposals.ApproveProposal(request)

    def sign(self, document: bytes) -> bytes:
        """Return this person's signature over a document."""
        return self.signer.signature(document, NAMESPACE)

    async def settled(self, proposal: str) -> pb.ProposalState:
        """Return a proposal once it has its outcome."""
        for _ in range(1200):
            state = await self.calls.proposals.GetProposal(pb.GetProposalRequest(proposal=proposal))
            if state.outcome != "open":
                return state
            await asyncio.sleep(0.05)
        raise AssertionError(f"{proposal} is open")

    async def seen(self, proposal: pb.ProposalState) -> pb.ProposalState:
        """Return how a proposal stands now."""
        return await self.calls.proposals.GetProposal(pb.GetProposalRequest(proposal=proposal.proposal))


def rules_change(rules: Rules) -> tuple[dict[str, Any], bytes]:
    """Return the change to some rules, and its attachment."""
    document = rules.encode()
    return {"kind": "rules.set", "document": digest_of(document)}, document


@asynccontextmanager
async def somebody(verifier: RunningVerifier, name: str, *roles: Role) -> AsyncIterator[Somebody]:
    """Add a person, unless there is one, and connect as them."""
    if roles:
        verifier.add_person(name, *roles)
    async with verifier.person(name) as calls:
        yield Somebody(name=name, signer=ed25519_signer(), calls=calls)


@asynccontextmanager
async def several(
    verifier: RunningVerifier, rules: Rules | None = None, names: tuple[str, ...] = PEOPLE
) -> AsyncIterator[Mapping[str, Somebody]]:
    """Add people with SSH keys, and put rules in force that they approve; None: the rule stays solo."""
    async with AsyncExitStack() as stack:
        people = {
            name: await stack.enter_async_context(somebody(verifier, name, Role.APPROVER, Role.AUDITOR, Role.OPERATOR))
            for name in names
        }
        admin = await stack.enter_async_context(verifier.person())
        for name, person in people.items():
            await admin.people.AddPersonKey(people_pb2.AddPersonKeyRequest(person=name, key=person.signer.line))
        if rules is not None:
            await put_in_force(people, rules)
        yield people


async def put_in_force(people: Mapping[str, Somebody], rules: Rules) -> None:
    """Have the first person propose rules, and all others approve until they are in force."""
    first, *others = people.values()
    proposal = await first.propose(*rules_change(rules))
    for other in others:
        if proposal.outcome == "open":
            proposal = await other.approve(proposal)
    assert proposal.outcome == "executed", (proposal.why, list(proposal.missing))
