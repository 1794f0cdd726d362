"""The document that a widening act carries: the proposal that led to it, with the approvals that counted.

With the rules and people of that moment, anybody can decide again whether the proposal was approved. It is canonical
JSON: what was signed, the proposer's signature, and each signature that counted, with its time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from nodeseal.crypto.ssh_signature import MAX_SIGNATURE
from nodeseal.documents import EPOCH, Fields, decode_json, encode_base64, encode_json
from nodeseal.governance.proposal import MAX_PROPOSAL
from nodeseal.governance.quorum import Approval
from nodeseal.ids import parse_person_id

FORMAT: Final = "nodeseal/approvals/1"
_MAX_APPROVALS: Final = 1024
_MICROSECONDS: Final = 1_000_000
_LATEST: Final = 2**53 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovedProposal:
    """A proposal that was approved.

    Attributes:
        document: of the proposal.
        signature: of the proposer; empty: none.
        approvals: those that counted.
    """

    document: bytes
    signature: bytes
    approvals: tuple[Approval, ...]

    def encode(self) -> bytes:
        """Return the document."""
        return encode_json(
            {
                "format": FORMAT,
                "proposal": encode_base64(self.document),
                "signature": encode_base64(self.signature),
                "approvals": [
                    {
                        "person": approval.person,
                        "at": _microseconds(approval.at),
                        "signature": encode_base64(approval.signature),
                    }
                    for approval in self.approvals
                ],
            }
        )


def decode_approved(raw: bytes, source: str) -> ApprovedProposal:
    """Parse the document.

    Raises:
        MalformedInput: it does not parse, or is not in its one spelling.
    """
    fields = Fields(decode_json(raw, source), source)
    fields.constant("format", FORMAT)
    approved = ApprovedProposal(
        document=fields.base64("proposal", max_size=MAX_PROPOSAL),
        signature=fields.base64("signature", max_size=MAX_SIGNATURE),
        approvals=tuple(
            _approval(Fields(item, f"{source}: approvals"))
            for item in fields.items("approvals", max_items=_MAX_APPROVALS)
        ),
    )
    fields.done()
    return approved


def _approval(fields: Fields) -> Approval:
    approval = Approval(
        person=parse_person_id(fields.text("person")),
        signature=fields.base64("signature", max_size=MAX_SIGNATURE),
        at=_time(fields),
    )
    fields.done()
    return approval


def _microseconds(at: datetime) -> int:
    spent = at - EPOCH
    return (spent.days * 86_400 + spent.seconds) * _MICROSECONDS + spent.microseconds


def _time(fields: Fields) -> datetime:
    count = fields.integer("at", low=0, high=_LATEST)
    return datetime.fromtimestamp(count // _MICROSECONDS, UTC).replace(microsecond=count % _MICROSECONDS)
