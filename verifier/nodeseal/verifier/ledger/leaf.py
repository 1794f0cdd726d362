"""Leaves of the log: an *envelope* that stays public, a salted *body* that an export may withhold, and a MAC.

The envelope holds kind, time, subjects with their versions, and the digest of the body. The body holds actor and fields
of the act, and 16 random bytes, so that nobody guesses a body that was withheld. Both are canonical JSON (RFC 8785).
The leaf hash is RFC 6962 §2.1's, SHA-256 over 0x00 and the envelope.

The MAC (HMAC-SHA-256, RFC 2104) covers both parts under a key that is not in the database, so who can only write to the
database adds no history.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Final

from nodeseal.documents import Fields, decode_json, encode_json
from nodeseal.errors import MalformedInput
from nodeseal.ids import Digest
from nodeseal.verifier.ledger.acts import Act
from nodeseal.verifier.ledger.codec import act_from_plain, act_to_plain, read_time, spell_time

SALT_SIZE: Final = 16
MAX_BODY: Final = 4096
"""Bytes of a body."""
_MAX_VERSION: Final = 2**53 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MacKey:
    """The key of act rows; its bytes are in no repr.

    Attributes:
        raw: 32 bytes.
    """

    raw: bytes = field(repr=False)

    def mac(self, envelope: bytes, body: bytes) -> bytes:
        """Return the MAC of a leaf."""
        length = len(envelope).to_bytes(8, "big")
        return hmac.digest(self.raw, b"nodeseal act\0" + length + envelope + body, "sha256")

    def holds(self, envelope: bytes, body: bytes, mac: bytes) -> bool:
        """Tell whether ``mac`` is the MAC of a leaf."""
        return hmac.compare_digest(self.mac(envelope, body), mac)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An act as it was recorded.

    Attributes:
        act: what was decided.
        actor: who decided: ``person/NAME``, ``node/ID``, ``local/USER`` or ``verifier``.
        at: when.
        versions: of each subject that the act raises or rests on.
        salt: 16 random bytes; no other act has them.
    """

    act: Act
    actor: str
    at: datetime
    versions: Mapping[str, int]
    salt: bytes = field(repr=False)

    def body(self) -> bytes:
        """Return the body.

        Raises:
            MalformedInput: the act is larger than its bounds allow.
        """
        body = encode_json({"actor": self.actor, "fields": act_to_plain(self.act), "salt": self.salt.hex()})
        if len(body) > MAX_BODY:
            raise MalformedInput(f"{self.act.kind}: a body of {len(body)} bytes, at most {MAX_BODY}")
        return body

    def envelope(self, body: bytes) -> bytes:
        """Return the envelope around a body."""
        return encode_json(
            {
                "at": spell_time(self.at),
                "body": sha256(body).hexdigest(),
                "kind": self.act.kind,
                "subjects": dict(self.versions),
            }
        )


def leaf_hash(leaf: bytes) -> Digest:
    """Return the leaf hash of an envelope (RFC 6962 §2.1)."""
    return Digest(sha256(b"\0" + leaf).hexdigest())


def read_entry(envelope: bytes, body: bytes) -> Entry:
    """Return the entry of a leaf.

    Raises:
        MalformedInput: a part does not parse, or the body is not the envelope's.
    """
    outer, inner = Fields(decode_json(envelope, "envelope"), "envelope"), Fields(decode_json(body, "body"), "body")
    if outer.hex("body", size=32) != sha256(body).digest():
        raise MalformedInput("the body is not the one that the envelope names")
    kind, subjects = outer.text("kind"), outer.fields("subjects")
    names = subjects.keys()
    entry = Entry(
        act=act_from_plain(kind, inner.take("fields")),
        actor=inner.text("actor"),
        at=parse_time(outer, "at"),
        versions={name: subjects.integer(name, low=0, high=_MAX_VERSION) for name in names},
        salt=inner.hex("salt", size=SALT_SIZE),
    )
    inner.done()
    outer.done()
    return entry


def parse_time(fields: Fields, key: str) -> datetime:
    """Return the time that a mapping has under a key.

    Raises:
        MalformedInput: it is no time in the log's spelling.
    """
    text = fields.text(key)
    try:
        return read_time(text)
    except ValueError as error:
        raise fields.wrong(key, "a time in UTC with microseconds (ISO 8601)") from error
