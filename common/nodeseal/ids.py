"""Identifiers: a type for each kind, and the function that makes it from outside text.

Every identifier is safe to print and to use as a file name: lower-case letters, digits, ``-``, ``_`` and ``.``, and no
dot or dash at its start. Everything else is refused here, so no control character, path separator or terminal escape
gets further in.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import NewType

from nodeseal.errors import MalformedInput

NodeId = NewType("NodeId", str)
KeyId = NewType("KeyId", str)
ModelId = NewType("ModelId", str)
PersonId = NewType("PersonId", str)
LeaseId = NewType("LeaseId", str)
Digest = NewType("Digest", str)
"""SHA-256 in 64 lower-case hex digits: a model digest, a golden digest, an audit leaf."""
Nonce = NewType("Nonce", bytes)

MAX_KEY_VERSION = (1 << 31) - 1
"""Highest version of a model key."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_NODE = re.compile(r"n-[a-z2-7]{26}")
_LEASE = re.compile(r"l-[a-z2-7]{26}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MAX_LABELS = 64
_TRUST_DOMAIN = re.compile(r"[a-z0-9][a-z0-9.-]{0,252}")


def _match(pattern: re.Pattern[str], text: str, what: str, shape: str, remedy: str = "") -> str:
    if not pattern.fullmatch(text):
        raise MalformedInput(f"{what} is not {shape}: {text[:80]!a}", remedy=remedy)
    return text


def parse_name(text: str, what: str) -> str:
    """Return ``text`` if it is a name: 1 to 63 of ``a-z 0-9 . _ -``, with a letter or digit first.

    Raises:
        MalformedInput: not a name.
    """
    return _match(_NAME, text, what, "1 to 63 of a-z 0-9 . _ - (starting with a letter or digit)")


def parse_node_id(text: str) -> NodeId:
    """Return ``text`` as a node id, ``n-`` and 26 base32 letters.

    Raises:
        MalformedInput: not a node id.
    """
    return NodeId(_match(_NODE, text, "node id", "n- and 26 base32 letters", "nodeseal node list shows the ids"))


def parse_lease_id(text: str) -> LeaseId:
    """Return ``text`` as a lease id, ``l-`` and 26 base32 letters.

    Raises:
        MalformedInput: not a lease id.
    """
    return LeaseId(_match(_LEASE, text, "lease id", "l- and 26 base32 letters"))


def parse_key_id(text: str) -> KeyId:
    """Return ``text`` as the name of a model key.

    Raises:
        MalformedInput: not a name.
    """
    return KeyId(parse_name(text, "key id"))


def parse_model_id(text: str) -> ModelId:
    """Return ``text`` as the name of a model.

    Raises:
        MalformedInput: not a name.
    """
    return ModelId(parse_name(text, "model id"))


def parse_person_id(text: str) -> PersonId:
    """Return ``text`` as the name of a person who operates the verifier.

    Raises:
        MalformedInput: not a name.
    """
    return PersonId(parse_name(text, "person"))


def parse_digest(text: str, what: str = "digest") -> Digest:
    """Return ``text`` as a SHA-256 in 64 lower-case hex digits.

    Raises:
        MalformedInput: not such a digest.
    """
    return Digest(_match(_DIGEST, text, what, "64 lower-case hex digits"))


def parse_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return a node's labels.

    Raises:
        MalformedInput: a key or value is not a name, or there are more than 64 labels.
    """
    if len(labels) > _MAX_LABELS:
        raise MalformedInput(f"{len(labels)} labels, at most {_MAX_LABELS}")
    return {parse_name(key, "label"): parse_name(value, f"label {key}") for key, value in labels.items()}


def parse_trust_domain(text: str) -> str:
    """Return ``text`` as the name of a SPIFFE trust domain.

    Raises:
        MalformedInput: not a lower-case DNS name.
    """
    return _match(_TRUST_DOMAIN, text, "trust domain", "a lower-case DNS name")


def node_id_of(ek_name: bytes) -> NodeId:
    """Derive the node id from the name of the endorsement key (:func:`nodeseal.tpm.ek_template.identity_name`).

    The id is ``n-`` and the first 130 bits of SHA-256 over the name, in lower-case base32. So another endorsement
    key is another node.
    """
    return NodeId("n-" + _base32(hashlib.sha256(b"nodeseal node id v1\0" + ek_name).digest()))


def lease_id_of(random: bytes) -> LeaseId:
    """Return the lease id for 32 random bytes."""
    return LeaseId("l-" + _base32(hashlib.sha256(b"nodeseal lease id v1\0" + random).digest()))


def digest_of(content: bytes) -> Digest:
    """Return the SHA-256 of ``content`` as a :data:`Digest`."""
    return Digest(hashlib.sha256(content).hexdigest())


def _base32(raw: bytes) -> str:
    return base64.b32encode(raw).decode().lower()[:26]
