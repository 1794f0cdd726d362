"""The release context: the facts that a released data key is bound to, besides the TPM key that it is wrapped for.

Its canonical JSON is the HPKE ``info`` of the release, so a reply opens only for this node, key, model, lease, goldens
and act. Verifier and agent share this module, and both decode the other's bytes with it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from nodeseal.documents import Fields, decode_json, encode_json
from nodeseal.errors import MalformedInput
from nodeseal.ids import (
    MAX_KEY_VERSION,
    Digest,
    KeyId,
    LeaseId,
    NodeId,
    parse_digest,
    parse_key_id,
    parse_lease_id,
    parse_node_id,
)

MAX_RELEASE_CONTEXT = 64 * 1024
MAX_GOLDENS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseContext:
    """The facts of one release.

    Attributes:
        audit_leaf: leaf hash of the act that was recorded before the release.
        goldens: digests of the goldens that the node matches, ascending.
        key_id: the model key that opened the slot.
        key_version: its version.
        lease_id: the lease that the release starts.
        model_digest: the model that the data key opens.
        node_id: the node that may open it.
    """

    audit_leaf: Digest
    goldens: tuple[Digest, ...]
    key_id: KeyId
    key_version: int
    lease_id: LeaseId
    model_digest: Digest
    node_id: NodeId


def encode_release_context(context: ReleaseContext) -> bytes:
    """Return the canonical JSON of ``context``."""
    return encode_json({**asdict(context), "goldens": sorted(context.goldens)})


def decode_release_context(raw: bytes) -> ReleaseContext:
    """Parse a release context.

    Raises:
        MalformedInput: too large, not canonical JSON, a missing, unknown or malformed field, or no golden.
    """
    if len(raw) > MAX_RELEASE_CONTEXT:
        raise MalformedInput(f"release context: {len(raw)} bytes, at most {MAX_RELEASE_CONTEXT}")
    fields = Fields(decode_json(raw, "release context"), "release context")
    context = ReleaseContext(
        audit_leaf=parse_digest(fields.text("audit_leaf"), "audit leaf"),
        goldens=_parse_goldens(fields),
        key_id=parse_key_id(fields.text("key_id")),
        key_version=fields.integer("key_version", low=1, high=MAX_KEY_VERSION),
        lease_id=parse_lease_id(fields.text("lease_id")),
        model_digest=parse_digest(fields.text("model_digest"), "model digest"),
        node_id=parse_node_id(fields.text("node_id")),
    )
    fields.done()
    return context


def _parse_goldens(fields: Fields) -> tuple[Digest, ...]:
    goldens = tuple(parse_digest(text, "golden") for text in fields.texts("goldens", max_items=MAX_GOLDENS))
    if not goldens or list(goldens) != sorted(set(goldens)):
        raise fields.wrong("goldens", "a list of at least one golden, ascending, each once")
    return goldens
