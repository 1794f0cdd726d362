"""Acts: everything that can change in a verifier, as frozen values of one closed union.

An act says what was decided, never how to do it: projectors (:mod:`nodeseal.verifier.ledger.projectors`) write its
rows, the fleet folds it into memory. Each has bounded fields and one canonical JSON form
(:mod:`nodeseal.verifier.ledger.codec`); ``docs/acts.md`` is generated from this module.

An act *raises* the version of the subjects that it changes, and *rests on* others: it was decided on their versions.
Large data (findings, labels) is a document, stored once, and named here by its digest.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from enum import Enum
from typing import Annotated, ClassVar, Final, NamedTuple, TypeAlias

from nodeseal.causes import EndCause
from nodeseal.ids import Digest, KeyId, LeaseId, ModelId, NodeId, PersonId
from nodeseal.verifier.states import NodeState

VERIFIER: Final = "verifier"
"""The actor of what no person and no node asked for."""


class Bound(NamedTuple):
    """The most that a field holds: characters of a text, bytes, or items of a list.

    Attributes:
        limit: the most.
        left_out: whether an empty field has no place in the JSON form, as in acts of releases that did not know it.
    """

    limit: int
    left_out: bool = False


Name: TypeAlias = Annotated[str, Bound(128)]
"""A name or spelling of at most 128 characters."""
Origin: TypeAlias = Annotated[str, Bound(320)]
"""The name of a log: trust domain and 32 hex digits."""
Reason: TypeAlias = Annotated[str, Bound(500)]
"""What a person wrote, or a short text of the verifier."""
Hash: TypeAlias = Annotated[bytes, Bound(34)]
"""A SHA-256 digest or a TPM name; empty: none."""
Codes: TypeAlias = Annotated[tuple[str, ...], Bound(16)]
"""Ids of findings, each once; the first sixteen."""
Digests: TypeAlias = Annotated[tuple[Digest, ...], Bound(32)]
"""Digests of goldens; the first 32."""
Slots: TypeAlias = Annotated[tuple[str, ...], Bound(16)]
"""Slots of a model, each as ``KEY version N``."""
Approvals: TypeAlias = Annotated[Digest, Bound(64, left_out=True)]
"""The document with the proposal that led to an act and its approvals; empty: one person decided alone."""
ALONE: Final = Digest("")
RULES_SUBJECT: Final = "rules"


def node_subject(node_id: NodeId) -> str:
    """Return the subject of what is believed of a node."""
    return f"node/{node_id}"


def identity_subject(node_id: NodeId) -> str:
    """Return the subject of a node's attestation key."""
    return f"node/{node_id}/identity"


def certificate_subject(node_id: NodeId) -> str:
    """Return the subject of the certificates that speak for a node."""
    return f"node/{node_id}/certificate"


def labels_subject(node_id: NodeId) -> str:
    """Return the subject of a node's labels."""
    return f"node/{node_id}/labels"


def key_subject(key_id: KeyId) -> str:
    """Return the subject of a model key."""
    return f"key/{key_id}"


def grant_subject(key_id: KeyId, node_id: NodeId) -> str:
    """Return the subject of a node's grant of a key."""
    return f"grant/{key_id}/{node_id}"


def model_subject(digest: Digest) -> str:
    """Return the subject of a model."""
    return f"model/{digest}"


def golden_subject(digest: Digest) -> str:
    """Return the subject of a golden."""
    return f"golden/{digest}"


def lease_subject(lease_id: LeaseId) -> str:
    """Return the subject of a lease."""
    return f"lease/{lease_id}"


def person_subject(name: PersonId) -> str:
    """Return the subject of a person."""
    return f"person/{name}"


def person_keys_subject(name: PersonId) -> str:
    """Return the subject of the SSH keys of a person."""
    return f"person/{name}/keys"


def proposal_subject(proposal: Digest) -> str:
    """Return the subject of a proposal."""
    return f"proposal/{proposal}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Act:
    """Base of all acts.

    Attributes:
        kind: stable name, such as ``lease.issued``.
        words: the act as a sentence for people, with its fields in braces.
    """

    kind: ClassVar[str]
    words: ClassVar[str]

    @property
    def raises(self) -> tuple[str, ...]:
        """Subjects whose version it raises."""
        return ()

    @property
    def rests_on(self) -> tuple[str, ...]:
        """Subjects on whose versions it was decided."""
        return ()

    def sentence(self) -> str:
        """Return the act in plain words."""
        return self.words.format_map({field.name: _spoken(getattr(self, field.name)) for field in fields(self)})


def _spoken(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_spoken, value)) or "none"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, bytes):
        return value.hex() or "none"
    return "none" if value in {"", None} else str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOpened(_Act):
    """The log begins. It names the log of the releases before 0.2, which is closed.

    Attributes:
        closed_size: records of the closed log; 0: there is none.
        closed_root: RFC 6962 tree head over its records.
    """

    kind: ClassVar[str] = "log.opened"
    words: ClassVar[str] = "The log begins. The closed log before it: {closed_size} records, root {closed_root}."
    closed_size: int
    closed_root: Hash

    @property
    def raises(self) -> tuple[str, ...]:
        """The log."""
        return ("log",)


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginChanged(_Act):
    """A new log begins, since the database was put back to an earlier state and cannot go on in the old one.

    Attributes:
        origin: of the log before.
        signed_size: acts under its last known checkpoint.
        signed_root: root of that checkpoint.
        kept_size: acts of it that this database has.
        kept_root: root over those.
        reason: what a person wrote.
    """

    kind: ClassVar[str] = "log.origin-changed"
    words: ClassVar[str] = (
        "A new log begins: {reason}. Of {origin}, {signed_size} acts were signed (root {signed_root}); "
        "{kept_size} are kept (root {kept_root})."
    )
    origin: Origin
    signed_size: int
    signed_root: Hash
    kept_size: int
    kept_root: Hash
    reason: Reason

    @property
    def raises(self) -> tuple[str, ...]:
        """The log."""
        return ("log",)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEnrolled(_Act):
    """A node proved its endorsement key and got a certificate, for the first time or again.

    Attributes:
        node_id: derived from the endorsement key.
        ek_name: TPM name of the endorsement key.
        ek_template: template of the TCG EK credential profile that the key was made by.
        ek_oddities: what was tolerated in the chain of its certificate.
        ek_algorithm: algorithm of the endorsement key.
        ak_name: TPM name of the attestation key.
        ak_public: its public area (TPMT_PUBLIC).
        previous_ak_name: of the attestation key that it replaces; empty: there was none.
        certificate_sha256: the TLS certificate that speaks for the node.
        hostname: claimed.
        boot_id: claimed.
        tpm_manufacturer: claimed.
        tpm_firmware: claimed.
        certified_manufacturer: of the endorsement certificate.
        state: the node's state after it.
        reason: of that state.
    """

    kind: ClassVar[str] = "node.enrolled"
    words: ClassVar[str] = (
        "Node {node_id} ({hostname}) enrolled with attestation key {ak_name} (before: {previous_ak_name}), is {state}."
    )
    node_id: NodeId
    ek_name: Hash
    ek_template: Name
    ek_oddities: Annotated[tuple[str, ...], Bound(8)]
    ek_algorithm: Name
    ak_name: Hash
    ak_public: Annotated[bytes, Bound(640)]
    previous_ak_name: Hash
    certificate_sha256: Hash
    hostname: Annotated[str, Bound(253)]
    boot_id: Name
    tpm_manufacturer: Name
    tpm_firmware: Name
    certified_manufacturer: Name
    state: NodeState
    reason: Reason

    @property
    def raises(self) -> tuple[str, ...]:
        """The node, its attestation key and its certificates."""
        return node_subject(self.node_id), identity_subject(self.node_id), certificate_subject(self.node_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfNode(_Act):
    node_id: NodeId

    @property
    def raises(self) -> tuple[str, ...]:
        """The node."""
        return (node_subject(self.node_id),)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeJudged(_OfNode):
    """A round, or the lack of one, changed what is believed of a node.

    Attributes:
        node_id: the node.
        before: its state before.
        state: its state now.
        reason: why, where no finding says it.
        codes: ids of the findings.
        findings: the document that holds them; empty: there are none.
        goldens: the goldens that it matched.
        trusted_until: end of trust, also one that has passed; None: not trusted.
    """

    kind: ClassVar[str] = "node.judged"
    words: ClassVar[str] = "Node {node_id} is {state} (before: {before}). Findings: {codes}. Reason: {reason}."
    before: NodeState
    state: NodeState
    reason: Reason
    codes: Codes
    findings: Digest
    goldens: Digests
    trusted_until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAdmitted(_OfNode):
    """A person admitted a pending node or lifted its quarantine.

    Attributes:
        node_id: the node.
        before: its state before.
        forget_clock: whether the next round starts without the clock of the last one, as after a quarantine.
        approvals: the proposal that led to it, with its approvals; empty: one person decided alone.
    """

    kind: ClassVar[str] = "node.admitted"
    words: ClassVar[str] = "Node {node_id} was admitted (before: {before})."
    before: NodeState
    forget_clock: bool
    approvals: Approvals = ALONE


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeQuarantined(_OfNode):
    """A person took trust from a node until somebody admits it again.

    Attributes:
        node_id: the node.
        reason: what the person said.
    """

    kind: ClassVar[str] = "node.quarantined"
    words: ClassVar[str] = "Node {node_id} was quarantined: {reason}."
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRetired(_OfNode):
    """A person took a node out of service for good.

    Attributes:
        node_id: the node.
        reason: what the person said.
    """

    kind: ClassVar[str] = "node.retired"
    words: ClassVar[str] = "Node {node_id} was retired: {reason}."
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLabelled(_Act):
    """A person changed labels of a node.

    Attributes:
        node_id: the node.
        labels: the document of all its labels.
        previous: the document of its labels before.
        approvals: the proposal that led to it, with its approvals; empty: one person decided alone.
    """

    kind: ClassVar[str] = "node.labelled"
    words: ClassVar[str] = "The labels of node {node_id} are those of document {labels} (before: {previous})."
    node_id: NodeId
    labels: Digest
    previous: Digest
    approvals: Approvals = ALONE

    @property
    def raises(self) -> tuple[str, ...]:
        """The node's labels."""
        return (labels_subject(self.node_id),)


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfCertificate(_Act):
    node_id: NodeId
    ak_name: Hash
    certificate_sha256: Hash
    next_certificate_sha256: Hash

    @property
    def raises(self) -> tuple[str, ...]:
        """The node's certificates."""
        return (certificate_subject(self.node_id),)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRenewed(_OfCertificate):
    """A trusted node proved itself for a request and got a fresh certificate, which counts from its first use on.

    Attributes:
        node_id: the node.
        ak_name: TPM name of its attestation key.
        certificate_sha256: the certificate that counts.
        next_certificate_sha256: the fresh one.
        request_sha256: digest of the request for it, which the quote is bound to.
        quote_sha256: digest of the quote.
    """

    kind: ClassVar[str] = "node.renewed"
    words: ClassVar[str] = (
        "Node {node_id} got a fresh certificate, {next_certificate_sha256}, which counts from its first use. "
        "It asked with quote {quote_sha256} by attestation key {ak_name}."
    )
    request_sha256: Hash
    quote_sha256: Hash


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateReplaced(_OfCertificate):
    """A node used its fresh certificate for the first time, which ends the one before.

    Attributes:
        node_id: the node.
        ak_name: TPM name of its attestation key.
        certificate_sha256: the certificate that counts.
        next_certificate_sha256: empty.
    """

    kind: ClassVar[str] = "node.certificate-replaced"
    words: ClassVar[str] = "Node {node_id} used its fresh certificate, {certificate_sha256}, which ends the one before."


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceExported(_Act):
    """A person fetched a node's whole evidence.

    Attributes:
        node_id: the node.
        quote_sha256: digest of the quote.
        codes: ids of the findings.
        findings: the document that holds them; empty: there are none.
    """

    kind: ClassVar[str] = "node.evidence-exported"
    words: ClassVar[str] = "The whole evidence of node {node_id} was fetched. Quote: {quote_sha256}. Findings: {codes}."
    node_id: NodeId
    quote_sha256: Hash
    codes: Codes
    findings: Digest

    @property
    def rests_on(self) -> tuple[str, ...]:
        """The node."""
        return (node_subject(self.node_id),)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseIssued(_Act):
    """A data key was released to a node.

    Attributes:
        lease_id: random.
        node_id: the node.
        ak_name: TPM name of the attestation key that proved the release key.
        model_digest: the model.
        key_id: the model key that opened the slot.
        key_version: its version.
        goldens: the goldens that the node matched.
        release_key_name: TPM name of the release key.
        quote_sha256: digest of the quote.
        trusted_until: end of the node's trust.
        silence_seconds: how long it survives silence of the verifier.
    """

    kind: ClassVar[str] = "lease.issued"
    words: ClassVar[str] = (
        "Node {node_id} got the data key of model {model_digest}, opened by key {key_id}. Lease: {lease_id}."
    )
    lease_id: LeaseId
    node_id: NodeId
    ak_name: Hash
    model_digest: Digest
    key_id: KeyId
    key_version: int
    goldens: Digests
    release_key_name: Hash
    quote_sha256: Hash
    trusted_until: datetime | None
    silence_seconds: int

    @property
    def raises(self) -> tuple[str, ...]:
        """The lease."""
        return (lease_subject(self.lease_id),)

    @property
    def rests_on(self) -> tuple[str, ...]:
        """Node, key, grant and model."""
        return (
            node_subject(self.node_id),
            key_subject(self.key_id),
            grant_subject(self.key_id, self.node_id),
            model_subject(self.model_digest),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseEnded(_Act):
    """A lease ended.

    Attributes:
        lease_id: the lease.
        node_id: the node that held it.
        key_id: the model key.
        model_digest: the model.
        cause: of a forced end; None: the node gave it back, or does not hold it any more.
        reason: the reason itself.
    """

    kind: ClassVar[str] = "lease.ended"
    words: ClassVar[str] = "Lease {lease_id} of node {node_id} ended (cause: {cause}): {reason}."
    lease_id: LeaseId
    node_id: NodeId
    key_id: KeyId
    model_digest: Digest
    cause: EndCause | None
    reason: Reason

    @property
    def raises(self) -> tuple[str, ...]:
        """The lease."""
        return (lease_subject(self.lease_id),)

    @property
    def rests_on(self) -> tuple[str, ...]:
        """The node and the key, so that who looks for either finds it."""
        return node_subject(self.node_id), key_subject(self.key_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseDenied(_Act):
    """A node asked for a data key and was refused.

    Attributes:
        node_id: the node.
        model_digest: the model that it named.
        codes: ids of the findings.
        findings: the document that holds them.
        unrecorded: denials of this node before it that were not recorded, because its share of the log was used up.
    """

    kind: ClassVar[str] = "release.denied"
    words: ClassVar[str] = (
        "Node {node_id} was denied model {model_digest}. Findings: {codes}. Not recorded before it: {unrecorded}."
    )
    node_id: NodeId
    model_digest: Digest
    codes: Codes
    findings: Digest
    unrecorded: int = 0

    @property
    def rests_on(self) -> tuple[str, ...]:
        """The node and the model."""
        return node_subject(self.node_id), model_subject(self.model_digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfGolden(_Act):
    digest: Digest
    name: Name

    @property
    def raises(self) -> tuple[str, ...]:
        """The golden."""
        return (golden_subject(self.digest),)


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenActivated(_OfGolden):
    """A golden counts from now on. Its document is stored beside it.

    Attributes:
        digest: of its content.
        name: for people.
        document: SHA-256 of the document.
        approvals: the proposal that led to it, with its approvals; empty: one person decided alone.
    """

    kind: ClassVar[str] = "golden.activated"
    words: ClassVar[str] = "Golden {name} ({digest}) was activated."
    document: Digest
    approvals: Approvals = ALONE


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenRetired(_OfGolden):
    """A golden counts no longer.

    Attributes:
        digest: of its content.
        name: for people.
    """

    kind: ClassVar[str] = "golden.retired"
    words: ClassVar[str] = "Golden {name} ({digest}) was retired."


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfKey(_Act):
    key_id: KeyId

    @property
    def raises(self) -> tuple[str, ...]:
        """The key."""
        return (key_subject(self.key_id),)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCreated(_OfKey):
    """A model key was made; nobody is granted it yet.

    Attributes:
        key_id: its name.
        key_version: counts rotations.
        suite: spelling of the HPKE suite.
        public: the public half.
        place: where the private half is.
        silence_seconds: how long its leases survive silence of the verifier.
        approvals: the proposal that led to it, with its approvals; empty: one person decided alone.
    """

    kind: ClassVar[str] = "key.created"
    words: ClassVar[str] = (
        "Key {key_id} ({suite}) was created in store {place}. Its leases survive {silence_seconds} seconds of silence."
    )
    key_version: int
    suite: Name
    public: Annotated[bytes, Bound(1280)]
    place: Annotated[str, Bound(512)]
    silence_seconds: int
    approvals: Approvals = ALONE


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPolicySet(_OfKey):
    """What holds for leases of a key was set.

    Attributes:
        key_id: the key.
        silence_seconds: how long its leases survive silence of the verifier.
        approvals: the proposal that led to it, with its approvals; empty: one person decided alone.
    """

    kind: ClassVar[str] = "key.policy-set"
    words: ClassVar[str] = "Leases of key {key_id} that start from now on survive {silence_seconds} seconds of silence."
    silence_seconds: int
    approvals: Approvals = ALONE


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRevoked(_OfKey):
    """A key was taken from all nodes for good; its grants are gone.

    Attributes:
        key_id: the key.
        reason: what the person said.
        approvals: the proposal that led to it, with its approvals; empty: one person decided alone.
    """

    kind: ClassVar[str] = "key.revoked"
    words: ClassVar[str] = "Key {key_id} was revoked: {reason}."
    reason: Reason
    approvals: Approvals = ALONE


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfGrant(_Act):
    key_id: KeyId
    node_id: NodeId

    @property
    def raises(self) -> tuple[str, ...]:
        """The grant."""
        return (grant_subject(self.key_id, self.node_id),)

    @property
    def rests_on(self) -> tuple[str, ...]:
        """The key."""
        return (key_subject(self.key_id),)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyGranted(_OfGrant):
    """A node may hold leases of a key.

    Attributes:
        key_id: the key.
        node_id: the node.
        max_leases: how many at once.
        approvals: the proposal that led to it, with its approvals; empty: one person decided alone.
    """

    kind: ClassVar[str] = "key.granted"
    words: ClassVar[str] = "Key {key_id} was granted to node {node_id}. Leases at once: {max_leases}."
    max_leases: int
    approvals: Approvals = ALONE


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantWithdrawn(_OfGrant):
    """A key was taken from one node.

    Attributes:
        key_id: the key.
        node_id: the node.
        reason: what the person said.
    """

    kind: ClassVar[str] = "key.withdrawn"
    words: ClassVar[str] = "Key {key_id} was taken from node {node_id}: {reason}."
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfModel(_Act):
    digest: Digest
    model_id: ModelId
    model_version: int

    @property
    def raises(self) -> tuple[str, ...]:
        """The model."""
        return (model_subject(self.digest),)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRegistered(_OfModel):
    """Keys may be released for a model. Its content document is stored beside it.

    Attributes:
        digest: of its content document.
        model_id: its name.
        model_version: its version.
        size: bytes of its files.
        files: how many.
        again: whether it had been retired.
        approvals: the proposal that led to it, with its approvals; empty: one person decided alone.
    """

    kind: ClassVar[str] = "model.registered"
    words: ClassVar[str] = "Model {model_id} version {model_version} ({digest}) was registered."
    size: int
    files: int
    again: bool
    approvals: Approvals = ALONE


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRetired(_OfModel):
    """No key is released for a model any more.

    Attributes:
        digest: of its content document.
        model_id: its name.
        model_version: its version.
        reason: what the person said.
    """

    kind: ClassVar[str] = "model.retired"
    words: ClassVar[str] = "Model {model_id} version {model_version} ({digest}) was retired: {reason}."
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfRewrap(_Act):
    digest: Digest

    @property
    def rests_on(self) -> tuple[str, ...]:
        """The model."""
        return (model_subject(self.digest),)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotsRewrapped(_OfRewrap):
    """A model's data key was sealed to other keys of this verifier.

    Attributes:
        digest: of the model.
        opened: the slot that was opened.
        made: the slots that were made.
        approvals: the proposal that led to it, with its approvals; empty: one person decided alone.
    """

    kind: ClassVar[str] = "model.rewrapped"
    words: ClassVar[str] = "The data key of model {digest} was sealed to {made}. Slot that was opened: {opened}."
    opened: Name
    made: Slots
    approvals: Approvals = ALONE


@dataclass(frozen=True, slots=True, kw_only=True)
class RewrapDenied(_OfRewrap):
    """Sealing a model's data key to other keys was refused.

    Attributes:
        digest: of the model.
        codes: ids of the findings.
        findings: the document that holds them.
    """

    kind: ClassVar[str] = "model.rewrap-denied"
    words: ClassVar[str] = "New slots for model {digest} were denied. Findings: {codes}."
    codes: Codes
    findings: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfPerson(_Act):
    name: PersonId
    roles: Annotated[tuple[str, ...], Bound(8)]
    certificate_sha256: Hash

    @property
    def raises(self) -> tuple[str, ...]:
        """The person."""
        return (person_subject(self.name),)


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonAdded(_OfPerson):
    """A person may operate the verifier.

    Attributes:
        name: as in the certificate's SPIFFE ID.
        roles: what they may do.
        certificate_sha256: the certificate that speaks for them.
        approvals: the proposal that led to it, with its approvals; empty: one person decided alone.
    """

    kind: ClassVar[str] = "person.added"
    words: ClassVar[str] = "Person {name} was added with the roles {roles}."
    approvals: Approvals = ALONE


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonRemoved(_OfPerson):
    """A person may not operate the verifier any more.

    Attributes:
        name: as in the certificate's SPIFFE ID.
        roles: what they could do.
        certificate_sha256: the certificate that spoke for them.
        approvals: the proposal that led to it, with its approvals; empty: one person decided alone, or on the host.
    """

    kind: ClassVar[str] = "person.removed"
    words: ClassVar[str] = "Person {name} was removed."
    approvals: Approvals = ALONE


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonRenewed(_Act):
    """A person got a fresh certificate, which counts alone from its first use on.

    Attributes:
        name: as in the certificate's SPIFFE ID.
        certificate_sha256: the certificate that they renewed.
        next_certificate_sha256: the fresh one.
        expires: when the fresh one ends.
    """

    kind: ClassVar[str] = "person.renewed"
    words: ClassVar[str] = (
        "Person {name} got a fresh certificate, {next_certificate_sha256}, which counts from its first use."
    )
    name: PersonId
    certificate_sha256: Hash
    next_certificate_sha256: Hash
    expires: datetime

    @property
    def raises(self) -> tuple[str, ...]:
        """The person."""
        return (person_subject(self.name),)


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonCertificateReplaced(_Act):
    """A person used a fresh certificate for the first time, or got it on the verifier's host; others of theirs ended.

    Attributes:
        name: as in the certificate's SPIFFE ID.
        certificate_sha256: the certificate that speaks for them.
        expires: when it ends.
    """

    kind: ClassVar[str] = "person.certificate-replaced"
    words: ClassVar[str] = "Certificate {certificate_sha256} alone speaks for person {name}, until {expires}."
    name: PersonId
    certificate_sha256: Hash
    expires: datetime

    @property
    def raises(self) -> tuple[str, ...]:
        """The person."""
        return (person_subject(self.name),)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySuspended(_OfKey):
    """A person took a key from all nodes for a while. It lapses unless a second person confirms it.

    Attributes:
        key_id: the key.
        reason: what the person said.
        until: when it lapses.
    """

    kind: ClassVar[str] = "key.suspended"
    words: ClassVar[str] = (
        "Key {key_id} was suspended until {until}, or for good if a second person confirms: {reason}."
    )
    reason: Reason
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySuspensionConfirmed(_OfKey):
    """A second person confirmed the suspension of a key: it does not lapse any more.

    Attributes:
        key_id: the key.
        reason: what the person said.
    """

    kind: ClassVar[str] = "key.suspension-confirmed"
    words: ClassVar[str] = "The suspension of key {key_id} was confirmed by a second person: {reason}."
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyResumed(_OfKey):
    """The suspension of a key ended.

    Attributes:
        key_id: the key.
        lapsed: whether its time had passed; otherwise people decided it.
        approvals: the proposal that led to it, with its approvals; empty: one person decided alone, or it lapsed.
    """

    kind: ClassVar[str] = "key.resumed"
    words: ClassVar[str] = "The suspension of key {key_id} ended (lapsed: {lapsed})."
    lapsed: bool
    approvals: Approvals = ALONE


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfPersonOnly(_Act):
    name: PersonId

    @property
    def raises(self) -> tuple[str, ...]:
        """The person."""
        return (person_subject(self.name),)


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonSuspended(_OfPersonOnly):
    """A person was locked out for a while by another. It lapses unless a second person confirms it.

    Attributes:
        name: who.
        reason: what the other person said.
        until: when it lapses.
    """

    kind: ClassVar[str] = "person.suspended"
    words: ClassVar[str] = (
        "Person {name} was suspended until {until}, or for good if a second person confirms: {reason}."
    )
    reason: Reason
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonSuspensionConfirmed(_OfPersonOnly):
    """A second person confirmed the suspension of a person: it does not lapse any more.

    Attributes:
        name: who.
        reason: what the second person said.
    """

    kind: ClassVar[str] = "person.suspension-confirmed"
    words: ClassVar[str] = "The suspension of person {name} was confirmed by a second person: {reason}."
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonResumed(_OfPersonOnly):
    """The suspension of a person ended.

    Attributes:
        name: who.
        lapsed: whether its time had passed; otherwise people decided it.
        approvals: the proposal that led to it, with its approvals; empty: one person decided alone, or it lapsed.
    """

    kind: ClassVar[str] = "person.resumed"
    words: ClassVar[str] = "The suspension of person {name} ended (lapsed: {lapsed})."
    lapsed: bool
    approvals: Approvals = ALONE


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfPersonKey(_Act):
    name: PersonId
    fingerprint: Name

    @property
    def raises(self) -> tuple[str, ...]:
        """The person's SSH keys."""
        return (person_keys_subject(self.name),)


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonKeyAdded(_OfPersonKey):
    """Signatures of an SSH key count as a person's approvals.

    Attributes:
        name: whose key it is.
        fingerprint: as ``ssh-keygen -l`` prints it.
        blob: the public key as SSH encodes it.
        in_token: whether a FIDO2 token holds the private half.
        approvals: the proposal that led to it, with its approvals; empty: one person decided alone.
    """

    kind: ClassVar[str] = "person.key-added"
    words: ClassVar[str] = "Person {name} approves with SSH key {fingerprint} (in a FIDO2 token: {in_token})."
    blob: Annotated[bytes, Bound(1200)]
    in_token: bool
    approvals: Approvals = ALONE


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonKeyRemoved(_OfPersonKey):
    """Signatures of an SSH key do not count any more.

    Attributes:
        name: whose key it was.
        fingerprint: as ``ssh-keygen -l`` prints it.
        approvals: the proposal that led to it, with its approvals; empty: one person decided alone.
    """

    kind: ClassVar[str] = "person.key-removed"
    words: ClassVar[str] = "Person {name} does not approve with SSH key {fingerprint} any more."
    approvals: Approvals = ALONE


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesSet(_Act):
    """Rules are in force: which acts need a proposal, and who must approve it.

    Attributes:
        version: of the rules.
        rules: their document.
        summary: the rules in one sentence.
        recovery: whether a command on the stopped host set them, past every quorum.
        approvals: the proposal that led to it, with its approvals; empty: one person decided alone, or recovery.
    """

    kind: ClassVar[str] = "rules.set"
    words: ClassVar[str] = "Rules are in force: {summary}. By a command on the stopped host: {recovery}."
    version: int
    rules: Digest
    summary: Reason
    recovery: bool
    approvals: Approvals = ALONE

    @property
    def raises(self) -> tuple[str, ...]:
        """The rules."""
        return (RULES_SUBJECT,)


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfProposal(_Act):
    proposal: Digest

    @property
    def raises(self) -> tuple[str, ...]:
        """The proposal."""
        return (proposal_subject(self.proposal),)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalMade(_OfProposal):
    """Somebody proposed what needs more than one person.

    Attributes:
        proposal: its id, which is the digest of its document.
        change: kind of what would change.
        proposer: who proposed it.
        expires: when it ends by itself.
        summary: what would change, in one sentence.
        signature: the document with the proposer's signature; empty: there is none.
        attachment: digest of what is proposed with it, such as a golden; empty: nothing.
    """

    kind: ClassVar[str] = "proposal.made"
    words: ClassVar[str] = "Proposal {proposal} was made by {proposer}, until {expires}. {summary}"
    change: Name
    proposer: PersonId
    expires: datetime
    summary: Reason
    signature: Digest
    attachment: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalApproved(_OfProposal):
    """Somebody signed a proposal.

    Attributes:
        proposal: its id.
        person: who approved.
        fingerprint: of the SSH key that signed.
        user_verified: whether a FIDO2 token knew who signed.
        signature: the document with the signature.
    """

    kind: ClassVar[str] = "proposal.approved"
    words: ClassVar[str] = "Person {person} approved proposal {proposal} with SSH key {fingerprint}."
    person: PersonId
    fingerprint: Name
    user_verified: bool
    signature: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalSettled(_OfProposal):
    """A proposal is over: it has its one outcome.

    Attributes:
        proposal: its id.
        outcome: executed, rejected, withdrawn, stale, expired or failed.
        why: what a person said, or what prevented it.
        result: what came of it, for whoever proposed it; empty: nothing more than other acts tell.
        approvals: of one that was executed.
    """

    kind: ClassVar[str] = "proposal.settled"
    words: ClassVar[str] = "Proposal {proposal} was settled: {outcome}. Reason: {why}."
    outcome: Name
    why: Reason
    result: Digest
    approvals: Approvals = ALONE


DecidesNode: TypeAlias = NodeJudged | NodeAdmitted | NodeQuarantined | NodeRetired
"""Acts that decide how a node stands."""

Act: TypeAlias = (
    LogOpened
    | OriginChanged
    | NodeEnrolled
    | NodeJudged
    | NodeAdmitted
    | NodeQuarantined
    | NodeRetired
    | NodeLabelled
    | CertificateRenewed
    | CertificateReplaced
    | EvidenceExported
    | LeaseIssued
    | LeaseEnded
    | ReleaseDenied
    | GoldenActivated
    | GoldenRetired
    | KeyCreated
    | KeyPolicySet
    | KeyRevoked
    | KeyGranted
    | GrantWithdrawn
    | ModelRegistered
    | ModelRetired
    | SlotsRewrapped
    | RewrapDenied
    | PersonAdded
    | PersonRemoved
    | PersonRenewed
    | PersonCertificateReplaced
    | KeySuspended
    | KeySuspensionConfirmed
    | KeyResumed
    | PersonSuspended
    | PersonSuspensionConfirmed
    | PersonResumed
    | PersonKeyAdded
    | PersonKeyRemoved
    | RulesSet
    | ProposalMade
    | ProposalApproved
    | ProposalSettled
)
"""Every act."""

Widening: TypeAlias = (
    NodeAdmitted
    | NodeLabelled
    | GoldenActivated
    | KeyCreated
    | KeyPolicySet
    | KeyRevoked
    | KeyGranted
    | KeyResumed
    | ModelRegistered
    | SlotsRewrapped
    | PersonAdded
    | PersonKeyAdded
    | PersonKeyRemoved
    | PersonRemoved
    | PersonResumed
    | RulesSet
)
"""Acts that widen trust or cannot be undone. They carry the approvals that led to them."""

KINDS: Final[dict[str, type[Act]]] = {kind.kind: kind for kind in Act.__args__}
"""Every act by its kind."""
