"""Proposals: made, approved, and settled with one outcome, which is recorded.

Every decision is made in the transaction that records it, on the rows of that moment. An approved proposal takes effect
through the calls that one person would use, under a mandate that asks once more, in the transaction of the act itself.
Attempts run one after the other, and each start and each few seconds try again what was interrupted.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

import sqlalchemy as sa
import structlog

from nodeseal.crypto.ssh_signature import MAX_SIGNATURE, verify_ssh_signature
from nodeseal.documents import Fields, decode_json
from nodeseal.errors import (
    MalformedInput,
    NodesealError,
    NotFound,
    OutOfOrder,
    PolicyRefused,
    TooManyRequests,
    Unavailable,
)
from nodeseal.governance.changes import parse_change
from nodeseal.governance.proposal import (
    MAX_LIFETIME_HOURS,
    MAX_PROPOSAL,
    NAMESPACE,
    NONCE_SIZE,
    Proposal,
    decode_proposal,
    proposal_id,
)
from nodeseal.governance.quorum import Approval, Outcome
from nodeseal.ids import Digest, PersonId
from nodeseal.verifier.fleet.admin import parse_reason
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.fleet.mandate import Mandate, Sanction
from nodeseal.verifier.ledger.acts import VERIFIER, ProposalApproved, ProposalSettled
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.ledger.documents import Document, document_of
from nodeseal.verifier.people.bases import base_of
from nodeseal.verifier.people.execution import Executors, Order, execute
from nodeseal.verifier.people.questions import ProposalQuestion, ask, proposal_of
from nodeseal.verifier.people.rulebook import require_usable
from nodeseal.verifier.people.submissions import (
    Submission,
    approval_finding,
    new_record,
    recorded,
    require_attachment,
    require_signed,
)
from nodeseal.verifier.store.governance import (
    ProposalRecord,
    approvals_of,
    current_rules,
    find_proposal,
    list_proposals,
)
from nodeseal.verifier.trust.sanctions import Place

MAX_OPEN: Final = 1000
"""Proposals that may wait at once."""
MAX_OPEN_OF_ONE: Final = 50
"""Those of one person, so that nobody takes the places of all."""
_SETTLE_SECONDS: Final = 2.0
_MAX_WORDS: Final = 500
_TRANSIENT: Final = (Unavailable, TooManyRequests)
"""After these an approved proposal stays open, and is tried again."""
_log: Final = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Standing:
    """A proposal and how it stands.

    Attributes:
        record: the proposal.
        approvals: in the order in which they arrived.
        asked: what may become of it now; None: it has its outcome.
    """

    record: ProposalRecord
    approvals: tuple[Approval, ...]
    asked: ProposalQuestion | None


class Proposals:
    """The proposals of one verifier."""

    def __init__(self, fleet: Fleet, place: Place, executors: Executors) -> None:
        self._fleet: Final = fleet
        self._place: Final = place
        self._executors: Final = executors
        self._one_by_one: Final = asyncio.Lock()

    async def draft(self, change: bytes, reason: str, lifetime_hours: int, person: PersonId) -> bytes:
        """Return the document of a new proposal, for its proposer to sign. Nothing is recorded.

        Raises:
            MalformedInput: change, reason or lifetime do not parse.
            Unavailable: the store cannot be asked now.
        """
        if not 1 <= lifetime_hours <= MAX_LIFETIME_HOURS:
            raise MalformedInput(f"a proposal lasts 1 to {MAX_LIFETIME_HOURS} hours")
        if len(change) > MAX_PROPOSAL:
            raise MalformedInput(f"change: more than {MAX_PROPOSAL} bytes")
        parsed = parse_change(Fields(decode_json(change, "change"), "change"))
        expires = self._fleet.clock.wall().replace(microsecond=0) + timedelta(hours=lifetime_hours)

        def read(connection: sa.Connection) -> Proposal:
            return Proposal(
                trust_domain=self._place.trust_domain,
                origin=self._place.origin,
                change=parsed,
                base=base_of(connection, parsed),
                rules=current_rules(connection).digest,
                proposer=person,
                reason=parse_reason(reason),
                expires=expires,
                nonce=secrets.token_bytes(NONCE_SIZE),
            )

        return (await self._fleet.store.read(read)).encode()

    async def make(self, submission: Submission) -> Standing:
        """Record a proposal, and let it take effect if nobody else need approve it.

        Raises:
            MalformedInput: the document does not parse, or the attachment is not the one that it names.
            OutOfOrder: it is of somebody else, stale or expired, there is one like it, or nobody could meet its rules.
            PolicyRefused: the proposer's signature is needed and does not count.
            TooManyRequests: too many are open.
            Unavailable: it cannot be recorded now.
        """
        proposal = decode_proposal(submission.document, "proposal")
        if proposal.proposer != submission.person:
            raise OutOfOrder(f"the proposal is {proposal.proposer}'s, and you are {submission.person}")
        await asyncio.to_thread(require_attachment, proposal.change, submission.attachment)
        named = proposal_id(submission.document)
        await self._fleet.ledger.commit(
            f"person/{submission.person}", lambda connection: self._making(connection, proposal, submission)
        )
        return await self._attempt(named)

    def _making(self, connection: sa.Connection, proposal: Proposal, submission: Submission) -> Decided[None]:
        named = proposal_id(submission.document)
        if find_proposal(connection, named) is not None:
            raise OutOfOrder(f"proposal {named} was made before")
        _require_place(connection, proposal.proposer)
        asked = self._ask(connection, new_record(proposal, submission, self._fleet.clock.wall()))
        if asked.answer.outcome in {Outcome.STALE, Outcome.EXPIRED}:
            raise OutOfOrder("; ".join(asked.answer.why), remedy="propose it anew")
        require_signed(asked)
        if asked.question.following is not None:
            require_usable(connection, asked.question.following)
        return recorded(proposal, submission)

    async def approve(self, named: Digest, signature: bytes, person: PersonId) -> Standing:
        """Record a person's approval, and let the proposal take effect if it was the last that it lacked.

        Raises:
            NotFound: there is no such proposal.
            OutOfOrder: it has its outcome, or is stale or expired.
            PolicyRefused: ``person.approval``: the signature does not count.
            Unavailable: it cannot be recorded now.
        """
        if len(signature) > MAX_SIGNATURE:
            raise MalformedInput(f"signature: more than {MAX_SIGNATURE} bytes")
        await self._fleet.ledger.commit(
            f"person/{person}", lambda connection: self._approving(connection, named, signature, person)
        )
        return await self._attempt(named)

    def _approving(self, connection: sa.Connection, named: Digest, signature: bytes, person: PersonId) -> Decided[None]:
        record = _require_open(connection, named)
        if person in self._ask(connection, record).answer.everywhere:
            return Decided(None)
        approval = Approval(person=person, signature=signature, at=self._fleet.clock.wall())
        asked = self._ask(connection, record, approval)
        if asked.answer.outcome in {Outcome.STALE, Outcome.EXPIRED}:
            raise OutOfOrder("; ".join(asked.answer.why), remedy="it will be settled so; propose it anew")
        refused = dict(asked.answer.refused).get(person)
        if refused is not None and person not in asked.answer.counted:
            raise PolicyRefused(approval_finding(person, refused))
        proof = verify_ssh_signature(signature, record.document, NAMESPACE)
        signed = document_of(signature)
        act = ProposalApproved(
            proposal=named,
            person=person,
            fingerprint=proof.key.fingerprint,
            user_verified=proof.user_verified,
            signature=signed.digest,
        )
        return Decided(None, (act,), (signed,))

    async def reject(self, named: Digest, reason: str, person: PersonId) -> Standing:
        """Settle a proposal as rejected: one approver is enough.

        Raises:
            NotFound: there is no such proposal.
            OutOfOrder: it has its outcome.
            MalformedInput: the reason does not print or is too long.
            Unavailable: it cannot be recorded now.
        """
        return await self._settle(named, "rejected", f"{person}: {parse_reason(reason)}", f"person/{person}")

    async def withdraw(self, named: Digest, reason: str, person: PersonId) -> Standing:
        """Settle a proposal as withdrawn, by whoever made it.

        Raises:
            NotFound: there is no such proposal.
            OutOfOrder: it has its outcome, or is somebody else's.
            MalformedInput: the reason does not print or is too long.
            Unavailable: it cannot be recorded now.
        """
        record = (await self.get(named)).record
        if proposal_of(record).proposer != person:
            raise OutOfOrder(f"proposal {named} is somebody else's", remedy="nodeseal proposal reject")
        return await self._settle(named, "withdrawn", parse_reason(reason), f"person/{person}")

    async def _settle(self, named: Digest, outcome: str, why: str, actor: str) -> Standing:
        def settle(connection: sa.Connection) -> Decided[None]:
            _require_open(connection, named)
            act = ProposalSettled(proposal=named, outcome=outcome, why=why[:_MAX_WORDS], result=Digest(""))
            return Decided(None, (act,))

        await self._fleet.ledger.commit(actor, settle)
        return await self.get(named)

    async def list(self, *, only_open: bool) -> Sequence[Standing]:
        """Return proposals, the oldest first, without their attachments.

        Raises:
            Unavailable: the store cannot be asked now.
        """
        return await self._fleet.store.read(partial(self._list, only_open=only_open))

    def _list(self, connection: sa.Connection, *, only_open: bool) -> Sequence[Standing]:
        return [self._standing(connection, record) for record in list_proposals(connection, only_open=only_open)]

    async def get(self, named: Digest) -> Standing:
        """Return a proposal with its attachment.

        Raises:
            NotFound: there is none of that id.
            Unavailable: the store cannot be asked now.
        """
        return await self._fleet.store.read(lambda connection: self._standing(connection, _require(connection, named)))

    def _standing(self, connection: sa.Connection, record: ProposalRecord) -> Standing:
        asked = self._ask(connection, record) if record.is_open else None
        return Standing(record, approvals_of(connection, record.proposal), asked)

    def _ask(self, connection: sa.Connection, record: ProposalRecord, *further: Approval) -> ProposalQuestion:
        return ask(connection, self._place, record, self._fleet.clock.wall(), further)

    async def _attempt(self, named: Digest) -> Standing:
        """Settle a proposal if it can be: let it take effect, or note that it cannot any more."""
        async with self._one_by_one:
            standing = await self.get(named)
            if standing.asked is not None:
                await self._decide(standing.record, standing.asked)
        return await self.get(named)

    async def _decide(self, record: ProposalRecord, asked: ProposalQuestion) -> None:
        outcome = asked.answer.outcome
        if outcome is Outcome.APPROVED:
            await self._execute(record, asked)
        elif outcome is not Outcome.OPEN:
            await self._settle(record.proposal, outcome.value, "; ".join(asked.answer.why), VERIFIER)

    async def _execute(self, record: ProposalRecord, asked: ProposalQuestion) -> None:
        actor = f"person/{asked.proposal.proposer}"
        mandate = Mandate(actor=actor, allow=lambda connection, result: self._sanction(connection, record, result))
        order = Order(
            change=asked.proposal.change, attachment=record.attachment, reason=asked.proposal.reason, by=mandate
        )
        try:
            await asyncio.to_thread(require_attachment, asked.proposal.change, record.attachment)
            await execute(self._executors, order)
        except _TRANSIENT as error:
            _log.error("an approved proposal could not take effect yet", proposal=record.proposal, error=str(error))
        except NodesealError as error:
            await self._fail(record.proposal, str(error))

    async def _fail(self, named: Digest, why: str) -> None:
        """Settle an approved proposal that cannot take effect, unless something else has settled it meanwhile."""
        standing = await self.get(named)
        if standing.asked is None:
            return
        outcome = standing.asked.answer.outcome
        words = outcome.value if outcome in {Outcome.STALE, Outcome.EXPIRED} else "failed"
        await self._settle(named, words, why, VERIFIER)

    def _sanction(self, connection: sa.Connection, record: ProposalRecord, result: bytes) -> Sanction:
        """Say on the rows of the moment that a proposal is approved, and settle it as executed.

        Raises:
            OutOfOrder: it is not, or not any more.
            Unavailable: a row on which that rests is not what its acts made.
        """
        self._fleet.ledger.explained.require_quorum(connection, record.proposal)
        current = _require_open(connection, record.proposal)
        asked = self._ask(connection, current)
        if asked.answer.outcome is not Outcome.APPROVED:
            raise OutOfOrder("; ".join(asked.answer.why))
        approvals, made = asked.sanction(), document_of(result) if result else Document(Digest(""), b"")
        settled = ProposalSettled(
            proposal=record.proposal,
            outcome="executed",
            why="approved by " + (", ".join(asked.answer.counted)[:400] or "nobody else: the rule is solo"),
            result=made.digest,
            approvals=approvals.digest,
        )
        return Sanction(approvals.digest, (settled,), (approvals, made))

    async def settle_all(self) -> None:
        """Try every open proposal: what was interrupted, and what time has settled.

        Raises:
            Unavailable: the store cannot be asked now.
        """
        for standing in await self.list(only_open=True):
            if standing.asked is not None and standing.asked.answer.outcome is not Outcome.OPEN:
                await self._attempt(standing.record.proposal)

    async def keep_settling(self) -> None:
        """Settle until cancelled, and let suspensions lapse."""
        while True:
            try:
                await self.settle_all()
                await self._executors.suspensions.lapse()
            except NodesealError as error:
                _log.error("proposals could not be settled yet", error=str(error))
            await asyncio.sleep(_SETTLE_SECONDS)


def _require_place(connection: sa.Connection, proposer: PersonId) -> None:
    waiting = list_proposals(connection, only_open=True)
    if len(waiting) >= MAX_OPEN:
        raise TooManyRequests(f"{MAX_OPEN} proposals are open", remedy="nodeseal proposal list")
    if sum(proposal_of(record).proposer == proposer for record in waiting) >= MAX_OPEN_OF_ONE:
        remedy = "nodeseal proposal withdraw"
        raise TooManyRequests(f"{MAX_OPEN_OF_ONE} proposals of {proposer} are open", remedy=remedy)


def _require(connection: sa.Connection, named: Digest) -> ProposalRecord:
    record = find_proposal(connection, named)
    if record is None:
        raise NotFound(f"there is no proposal {named}", remedy="nodeseal proposal list --all")
    return record


def _require_open(connection: sa.Connection, named: Digest) -> ProposalRecord:
    record = _require(connection, named)
    if not record.is_open:
        raise OutOfOrder(f"proposal {named} is {record.outcome}: {record.why}")
    return record
