"""An example of every act, and the largest act of every kind that its bounds allow."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from nodeseal.causes import EndCause
from nodeseal.findings import FindingId
from nodeseal.ids import Digest, KeyId, LeaseId, ModelId, NodeId, PersonId
from nodeseal.verifier.ledger import acts
from nodeseal.verifier.ledger.acts import KINDS, Act, Bound
from nodeseal.verifier.states import NodeState, Role

NODE = NodeId("n-" + "a" * 26)
OTHER_NODE = NodeId("n-" + "b" * 26)
LEASE = LeaseId("l-" + "a" * 26)
KEY = KeyId("llama")
MODEL = Digest("1" * 64)
GOLDEN = Digest("2" * 64)
DOCUMENT = Digest("3" * 64)
PROPOSAL = Digest("4" * 64)
FINGERPRINT = "SHA256:" + "A" * 43
AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
AK, CERTIFICATE, QUOTE = b"\x00\x0b" + bytes(32), b"c" * 32, b"q" * 32

EXAMPLES: dict[str, Any] = {
    act.kind: act
    for act in (
        acts.LogOpened(closed_size=3, closed_root=bytes(32)),
        acts.OriginChanged(
            origin="example.org/nodeseal/0123456789abcdef0123456789abcdef",
            signed_size=9,
            signed_root=bytes(32),
            kept_size=7,
            kept_root=bytes(32),
            reason="restored",
        ),
        acts.NodeEnrolled(
            node_id=NODE,
            ek_name=AK,
            ek_template="L-2",
            ek_oddities=("names",),
            ek_algorithm="ecc256",
            ak_name=AK,
            ak_public=b"public",
            previous_ak_name=b"",
            certificate_sha256=CERTIFICATE,
            hostname="rack1-node7",
            boot_id="3f0c7c9e-0000-4000-8000-000000000001",
            tpm_manufacturer="IFX",
            tpm_firmware="7.85",
            certified_manufacturer="IFX",
            state=NodeState.PENDING,
            reason="",
        ),
        acts.NodeJudged(
            node_id=NODE,
            before=NodeState.STALE,
            state=NodeState.TRUSTED,
            reason="",
            codes=("clock.unsafe",),
            findings=DOCUMENT,
            goldens=(GOLDEN,),
            trusted_until=AT,
        ),
        acts.NodeAdmitted(node_id=NODE, before=NodeState.QUARANTINED, forget_clock=True),
        acts.NodeQuarantined(node_id=NODE, reason="looks odd"),
        acts.NodeRetired(node_id=NODE, reason="sold"),
        acts.NodeLabelled(node_id=NODE, labels=DOCUMENT, previous=GOLDEN),
        acts.CertificateRenewed(
            node_id=NODE,
            ak_name=AK,
            certificate_sha256=CERTIFICATE,
            next_certificate_sha256=bytes(32),
            request_sha256=bytes(32),
            quote_sha256=QUOTE,
        ),
        acts.CertificateReplaced(node_id=NODE, ak_name=AK, certificate_sha256=CERTIFICATE, next_certificate_sha256=b""),
        acts.EvidenceExported(node_id=NODE, quote_sha256=QUOTE, codes=(), findings=Digest("")),
        acts.LeaseIssued(
            lease_id=LEASE,
            node_id=NODE,
            ak_name=AK,
            model_digest=MODEL,
            key_id=KEY,
            key_version=1,
            goldens=(GOLDEN,),
            release_key_name=AK,
            quote_sha256=QUOTE,
            trusted_until=None,
            silence_seconds=0,
        ),
        acts.LeaseEnded(
            lease_id=LEASE, node_id=NODE, key_id=KEY, model_digest=MODEL, cause=EndCause.SILENCE, reason="stale"
        ),
        acts.ReleaseDenied(node_id=NODE, model_digest=MODEL, codes=("release.grant",), findings=DOCUMENT, unrecorded=2),
        acts.GoldenActivated(digest=GOLDEN, name="rack-a", document=DOCUMENT),
        acts.GoldenRetired(digest=GOLDEN, name="rack-a"),
        acts.KeyCreated(
            key_id=KEY, key_version=1, suite="x25519", public=b"public", place="file:llama", silence_seconds=0
        ),
        acts.KeyPolicySet(key_id=KEY, silence_seconds=600),
        acts.KeyRevoked(key_id=KEY, reason="leaked"),
        acts.KeyGranted(key_id=KEY, node_id=NODE, max_leases=2),
        acts.GrantWithdrawn(key_id=KEY, node_id=NODE, reason="moved"),
        acts.ModelRegistered(
            digest=MODEL, model_id=ModelId("llama"), model_version=3, size=2**40, files=7, again=False
        ),
        acts.ModelRetired(digest=MODEL, model_id=ModelId("llama"), model_version=3, reason="old"),
        acts.SlotsRewrapped(digest=MODEL, opened="llama version 1", made=("llama version 2", "other version 1")),
        acts.RewrapDenied(digest=MODEL, codes=("release.slot",), findings=DOCUMENT),
        acts.PersonAdded(name=PersonId("kim"), roles=("operator", "viewer"), certificate_sha256=CERTIFICATE),
        acts.PersonRenewed(
            name=PersonId("kim"), certificate_sha256=CERTIFICATE, next_certificate_sha256=CERTIFICATE, expires=AT
        ),
        acts.PersonCertificateReplaced(name=PersonId("kim"), certificate_sha256=CERTIFICATE, expires=AT),
        acts.PersonRemoved(name=PersonId("kim"), roles=("viewer",), certificate_sha256=CERTIFICATE),
        acts.KeySuspended(key_id=KEY, reason="leaked?", until=AT),
        acts.KeySuspensionConfirmed(key_id=KEY, reason="so it seems"),
        acts.KeyResumed(key_id=KEY, lapsed=False, approvals=DOCUMENT),
        acts.PersonSuspended(name=PersonId("kim"), reason="laptop stolen", until=AT),
        acts.PersonSuspensionConfirmed(name=PersonId("kim"), reason="so it seems"),
        acts.PersonResumed(name=PersonId("kim"), lapsed=True),
        acts.PersonKeyAdded(name=PersonId("kim"), fingerprint=FINGERPRINT, blob=b"blob", in_token=False),
        acts.PersonKeyRemoved(name=PersonId("kim"), fingerprint=FINGERPRINT, approvals=DOCUMENT),
        acts.RulesSet(version=2, rules=DOCUMENT, summary="quorum", recovery=False, approvals=DOCUMENT),
        acts.ProposalMade(
            proposal=PROPOSAL,
            change="key.grant",
            proposer=PersonId("kim"),
            expires=AT,
            summary="Grant key llama.",
            signature=DOCUMENT,
            attachment=Digest(""),
        ),
        acts.ProposalApproved(
            proposal=PROPOSAL,
            person=PersonId("lee"),
            fingerprint=FINGERPRINT,
            user_verified=True,
            signature=DOCUMENT,
        ),
        acts.ProposalSettled(
            proposal=PROPOSAL, outcome="executed", why="approved by lee", result=Digest(""), approvals=DOCUMENT
        ),
    )
}
"""One act of each kind."""


def largest(kind: str) -> Act:
    """Return the act of a kind that has the most in every field."""
    made: Any = KINDS[kind]
    hints = get_type_hints(made, include_extras=True)
    act: Act = made(**{field.name: _most(field.name, hints[field.name]) for field in fields(made)})
    return act


_LONGEST: dict[Any, object] = {
    NodeId: NODE,
    LeaseId: LEASE,
    Digest: MODEL,
    KeyId: KeyId("k" * 63),
    ModelId: ModelId("m" * 63),
    PersonId: PersonId("p" * 63),
    int: 2**53 - 1,
    bool: False,
    datetime: AT,
    datetime | None: AT,
    NodeState: NodeState.QUARANTINED,
    EndCause | None: EndCause.REVOCATION,
}
_ITEMS: dict[str, list[str]] = {
    "ek_oddities": ["cloud-instance"] * 8,
    "codes": sorted((finding.code for finding in FindingId), key=len, reverse=True),
    "made": ["k" * 63 + f" version {number}" for number in range(2**53 - 16, 2**53)],
    "goldens": [MODEL] * 32,
    "roles": [role.value for role in Role] * 8,
}
"""What fills lists, by the name of the field."""


def _most(name: str, hint: Any) -> object:
    if get_origin(hint) is not Annotated:
        return _LONGEST[hint]
    limit = bound_of(hint)
    if get_args(hint)[0] is Digest:
        return MODEL
    if name in _ITEMS:
        return tuple(_ITEMS[name][:limit])
    return b"\xff" * limit if get_args(hint)[0] is bytes else "x" * limit


def bound_of(hint: Any) -> int:
    """Return the bound in the type of a field; 0: it has none."""
    return next((extra.limit for extra in get_args(hint)[1:] if isinstance(extra, Bound)), 0)
