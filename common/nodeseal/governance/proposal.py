"""Proposals: canonical documents that people sign, each on any machine, with ``ssh-keygen -Y sign``.

A proposal is canonical JSON (RFC 8785) with a line feed neither inside nor behind it. Its id is the SHA-256 of exactly
these bytes. It binds what would change (``change``) to the trust domain, to the log of one verifier (``origin``), to
the object as it stood (``base``) and to the rules in force (``rules``), so an approval of it is worth nothing elsewhere
and not after any of them has changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from nodeseal.documents import Fields, decode_json, encode_json
from nodeseal.errors import MalformedInput
from nodeseal.governance.changes import Change, parse_change
from nodeseal.ids import Digest, PersonId, digest_of, parse_digest, parse_person_id, parse_trust_domain

FORMAT: Final = "nodeseal/proposal/1"
NAMESPACE: Final = "proposal@nodeseal"
"""Namespace of signatures over proposals (PROTOCOL.sshsig)."""
MAX_PROPOSAL: Final = 64 * 1024
"""Bytes of a proposal."""
NONCE_SIZE: Final = 16
MAX_REASON: Final = 500
MAX_LIFETIME_HOURS: Final = 30 * 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A proposal. Only the bytes of its document are signed and hashed.

    Attributes:
        trust_domain: where it holds.
        origin: the log of the verifier where it holds.
        change: what would change.
        base: digest of the state of what it changes.
        rules: digest of the rules in force.
        proposer: who proposes it; their approval does not count.
        reason: why, for people.
        expires: after this it has no effect.
        nonce: random, so that no two proposals are the same.
    """

    trust_domain: str
    origin: str
    change: Change
    base: Digest
    rules: Digest
    proposer: PersonId
    reason: str
    expires: datetime
    nonce: bytes

    def encode(self) -> bytes:
        """Return the document."""
        return encode_json(
            {
                "format": FORMAT,
                "trust_domain": self.trust_domain,
                "origin": self.origin,
                "change": self.change.to_plain(),
                "base": self.base,
                "rules": self.rules,
                "proposer": self.proposer,
                "reason": self.reason,
                "expires": self.expires.astimezone(UTC).strftime(_TIME),
                "nonce": self.nonce.hex(),
            }
        )


_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


def proposal_id(document: bytes) -> Digest:
    """Return the id of the proposal with this document."""
    return digest_of(document)


def decode_proposal(raw: bytes, source: str) -> Proposal:
    """Parse a proposal.

    Args:
        raw: the document.
        source: its name, for errors.

    Raises:
        MalformedInput: too large, not canonical, an unknown or missing key, or a value that does not parse.
    """
    if len(raw) > MAX_PROPOSAL:
        raise MalformedInput(f"{source}: more than {MAX_PROPOSAL} bytes")
    fields = Fields(decode_json(raw, source), source)
    fields.constant("format", FORMAT)
    proposal = Proposal(
        trust_domain=parse_trust_domain(fields.text("trust_domain")),
        origin=fields.text("origin", max_length=256),
        change=parse_change(fields.fields("change")),
        base=parse_digest(fields.text("base"), "base"),
        rules=parse_digest(fields.text("rules"), "rules"),
        proposer=parse_person_id(fields.text("proposer")),
        reason=fields.text("reason", max_length=MAX_REASON),
        expires=_time(fields, "expires"),
        nonce=fields.hex("nonce", size=NONCE_SIZE),
    )
    fields.done()
    if proposal.encode() != raw:
        raise MalformedInput(f"{source}: not in its one spelling")
    return proposal


def _time(fields: Fields, key: str) -> datetime:
    text = fields.text(key, max_length=32)
    try:
        at = datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError as error:
        raise fields.wrong(key, "a time like 2027-01-31T12:00:00Z") from error
    if at.strftime(_TIME) != text:
        raise fields.wrong(key, "a time like 2027-01-31T12:00:00Z")
    return at
