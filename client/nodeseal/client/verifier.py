"""The verifier's services for people, one method a call: values in, generated messages or values out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import grpc

from nodeseal.client.together import Together
from nodeseal.errors import MalformedInput
from nodeseal.evidence.folder import SIZES
from nodeseal.golden.document import MAX_GOLDEN
from nodeseal.sealed.model_key import ModelKey
from nodeseal.sealed.slots import Slots
from nodeseal.v1 import admin_pb2, admin_pb2_grpc, log_pb2, log_pb2_grpc, people_pb2, people_pb2_grpc
from nodeseal.wire.messages import slots_from_proto
from nodeseal.wire.transfer import Assembly, in_parts

_CALL_SECONDS: Final = 30.0
_TRANSFER_SECONDS: Final = 300.0
"""For calls that move whole evidence or goldens: a node with a long log takes its time."""
_EXPORT_SECONDS: Final = 660.0
_PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordQuery:
    """Which acts are wanted.

    Attributes:
        after: the first ones behind this sequence number; None: the newest.
        limit: at most so many.
        subject: only about this subject; empty: all.
        actor: only by this actor; empty: all.
        kind: only of this kind; empty: all.
        closed: those of the log of the releases before 0.2, which knows no filters.
    """

    after: int | None
    limit: int
    subject: str = ""
    actor: str = ""
    kind: str = ""
    closed: bool = False


class Verifier(Together):
    """The verifier at the other end of a channel.

    Every call has a deadline. Its failures become nodeseal's errors in :func:`nodeseal.client.connection.connect`.

    Args:
        channel: a channel that proves who calls.
        call_seconds: deadline of each call that moves little.
    """

    def __init__(self, channel: grpc.Channel, call_seconds: float = _CALL_SECONDS) -> None:
        super().__init__(channel, call_seconds)
        self._call_seconds: Final = call_seconds
        self._nodes: Final = admin_pb2_grpc.NodesStub(channel)
        self._goldens: Final = admin_pb2_grpc.GoldensStub(channel)
        self._keys: Final = admin_pb2_grpc.KeysStub(channel)
        self._models: Final = admin_pb2_grpc.ModelsStub(channel)
        self._audit: Final = admin_pb2_grpc.AuditStub(channel)
        self._log: Final = log_pb2_grpc.LogStub(channel)
        self._people: Final = people_pb2_grpc.PeopleStub(channel)

    def get_self(self) -> people_pb2.Self:
        """Return who the verifier takes the caller for."""
        return self._people.GetSelf(people_pb2.GetSelfRequest(), timeout=self._call_seconds)

    def renew_certificate(self, request: bytes) -> tuple[bytes, ...]:
        """Return a fresh certificate for the caller, leaf first, in DER.

        Args:
            request: PKCS #10 in DER.
        """
        message = people_pb2.RenewCertificateRequest(certificate_request=request)
        return tuple(self._people.RenewCertificate(message, timeout=self._call_seconds).certificate_chain)

    def list_people(self) -> people_pb2.ListPeopleResponse:
        """Return the people who operate the verifier, and the rules in one sentence."""
        return self._people.ListPeople(people_pb2.ListPeopleRequest(), timeout=self._call_seconds)

    def invite_person(self, person: str, roles: Iterable[str], request: bytes) -> bytes:
        """Let a person operate the verifier; return their certificate in PEM.

        Args:
            person: their name.
            roles: what they may do.
            request: PKCS #10 in DER.
        """
        message = people_pb2.InvitePersonRequest(person=person, roles=roles, certificate_request=request)
        return self._people.InvitePerson(message, timeout=self._call_seconds).certificate

    def remove_person(self, person: str) -> None:
        """Remove a person."""
        self._people.RemovePerson(people_pb2.RemovePersonRequest(person=person), timeout=self._call_seconds)

    def add_person_key(self, person: str, key: str) -> people_pb2.PersonFacts:
        """Let signatures of an SSH key count as a person's approvals."""
        request = people_pb2.AddPersonKeyRequest(person=person, key=key)
        return self._people.AddPersonKey(request, timeout=self._call_seconds)

    def remove_person_key(self, person: str, fingerprint: str) -> people_pb2.PersonFacts:
        """Let signatures of an SSH key not count any more."""
        request = people_pb2.RemovePersonKeyRequest(person=person, fingerprint=fingerprint)
        return self._people.RemovePersonKey(request, timeout=self._call_seconds)

    def suspend_person(self, person: str, reason: str) -> people_pb2.PersonFacts:
        """Lock a person out for 72 hours, or confirm that somebody else did."""
        request = people_pb2.SuspendPersonRequest(person=person, reason=reason)
        return self._people.SuspendPerson(request, timeout=self._call_seconds)

    def resume_person(self, person: str) -> people_pb2.PersonFacts:
        """Let a suspended person in again."""
        return self._people.ResumePerson(people_pb2.ResumePersonRequest(person=person), timeout=self._call_seconds)

    def list_nodes(self) -> list[admin_pb2.Node]:
        """Return all nodes, by id."""
        nodes: list[admin_pb2.Node] = []
        while True:
            request = admin_pb2.ListNodesRequest(after=nodes[-1].node_id if nodes else "", limit=_PAGE)
            page = self._nodes.ListNodes(request, timeout=self._call_seconds).nodes
            if not page:
                return nodes
            nodes += page

    def get_node(self, node_id: str) -> admin_pb2.Node:
        """Return one node."""
        return self._nodes.GetNode(admin_pb2.GetNodeRequest(node_id=node_id), timeout=self._call_seconds)

    def admit_node(self, node_id: str) -> admin_pb2.Node:
        """Let a pending node be attested, or lift a quarantine."""
        return self._nodes.AdmitNode(admin_pb2.AdmitNodeRequest(node_id=node_id), timeout=self._call_seconds)

    def quarantine_node(self, node_id: str, reason: str) -> admin_pb2.Node:
        """Take a node's trust away until a person admits it again."""
        request = admin_pb2.QuarantineNodeRequest(node_id=node_id, reason=reason)
        return self._nodes.QuarantineNode(request, timeout=self._call_seconds)

    def retire_node(self, node_id: str, reason: str) -> admin_pb2.Node:
        """Take a node out of service for good."""
        request = admin_pb2.RetireNodeRequest(node_id=node_id, reason=reason)
        return self._nodes.RetireNode(request, timeout=self._call_seconds)

    def label_node(self, node_id: str, labels: Mapping[str, str]) -> admin_pb2.Node:
        """Set a node's labels; an empty value takes a label away."""
        request = admin_pb2.LabelNodeRequest(node_id=node_id, labels=labels)
        return self._nodes.LabelNode(request, timeout=self._call_seconds)

    def get_evidence(self, node_id: str) -> dict[str, bytes]:
        """Ask a connected node for whole and fresh evidence; return the files of an evidence folder.

        Raises:
            MalformedInput: the verifier sends a file that no evidence folder has, or one that is too large.
        """
        request = admin_pb2.GetEvidenceRequest(node_id=node_id)
        return _files(self._nodes.GetEvidence(request, timeout=_TRANSFER_SECONDS))

    def get_token(self, node_id: str, nonce: bytes) -> admin_pb2.Token:
        """Return the attestation result of a node as a signed token."""
        request = admin_pb2.GetTokenRequest(node_id=node_id, nonce=nonce)
        return self._nodes.GetToken(request, timeout=self._call_seconds)

    def list_goldens(self, *, include_retired: bool = False) -> list[admin_pb2.Golden]:
        """Return the goldens that are active, and on request those that were."""
        request = admin_pb2.ListGoldensRequest(include_retired=include_retired)
        return list(self._goldens.ListGoldens(request, timeout=self._call_seconds).goldens)

    def get_golden(self, digest: str) -> admin_pb2.Golden:
        """Return a golden with its whole document.

        Raises:
            MalformedInput: it is larger than goldens are.
        """
        golden, document = admin_pb2.Golden(), Assembly(MAX_GOLDEN, f"golden {digest}:")
        request = admin_pb2.GetGoldenRequest(digest=digest)
        for golden in self._goldens.GetGolden(request, timeout=_TRANSFER_SECONDS):
            document.add(golden.document)
        golden.document = document.whole()
        return golden

    def activate_golden(self, document: bytes) -> admin_pb2.Golden:
        """Let a golden count from now on."""
        parts = (admin_pb2.ActivateGoldenRequest(document=part) for part in in_parts(document))
        return self._goldens.ActivateGolden(parts, timeout=_TRANSFER_SECONDS)

    def foresee_golden(self, document: bytes) -> list[admin_pb2.GoldenOutlook]:
        """Return what a golden would say of each node. Nothing is changed."""
        parts = (admin_pb2.ActivateGoldenRequest(document=part) for part in in_parts(document))
        return list(self._goldens.ForeseeGolden(parts, timeout=_TRANSFER_SECONDS))

    def retire_golden(self, digest: str) -> admin_pb2.Golden:
        """Stop trusting nodes because of a golden."""
        return self._goldens.RetireGolden(admin_pb2.RetireGoldenRequest(digest=digest), timeout=self._call_seconds)

    def create_key(self, key_id: str, suite: str, store: str, silence_seconds: int = 0) -> admin_pb2.Key:
        """Create a model key.

        Args:
            key_id: its name.
            suite: HPKE suite; empty: what the store prefers.
            store: ``file``, or a PKCS#11 URI.
            silence_seconds: how long its leases survive silence of the verifier.
        """
        request = admin_pb2.CreateKeyRequest(key_id=key_id, suite=suite, store=store, silence_seconds=silence_seconds)
        return self._keys.CreateKey(request, timeout=self._call_seconds)

    def set_key_policy(self, key_id: str, silence_seconds: int) -> admin_pb2.Key:
        """Set how long leases of a key that start from now on survive silence of the verifier."""
        request = admin_pb2.SetKeyPolicyRequest(key_id=key_id, silence_seconds=silence_seconds)
        return self._keys.SetKeyPolicy(request, timeout=self._call_seconds)

    def list_keys(self) -> list[admin_pb2.Key]:
        """Return all model keys."""
        return list(self._keys.ListKeys(admin_pb2.ListKeysRequest(), timeout=self._call_seconds).keys)

    def get_key(self, key_id: str) -> admin_pb2.Key:
        """Return one model key."""
        return self._keys.GetKey(admin_pb2.GetKeyRequest(key_id=key_id), timeout=self._call_seconds)

    def grant_key(self, key_id: str, node_id: str, max_leases: int) -> admin_pb2.Key:
        """Allow a node so many leases of a key at once."""
        grant = admin_pb2.Grant(node_id=node_id, max_leases=max_leases)
        return self._keys.GrantKey(admin_pb2.GrantKeyRequest(key_id=key_id, grant=grant), timeout=self._call_seconds)

    def revoke_key(self, key_id: str, node_id: str, reason: str) -> admin_pb2.Key:
        """Take a key away from one node, or from all if ``node_id`` is empty."""
        request = admin_pb2.RevokeKeyRequest(key_id=key_id, node_id=node_id, reason=reason)
        return self._keys.RevokeKey(request, timeout=self._call_seconds)

    def suspend_key(self, key_id: str, reason: str) -> admin_pb2.Key:
        """Take a key from all nodes for 72 hours, or confirm that somebody else did."""
        request = admin_pb2.SuspendKeyRequest(key_id=key_id, reason=reason)
        return self._keys.SuspendKey(request, timeout=self._call_seconds)

    def resume_key(self, key_id: str) -> admin_pb2.Key:
        """End the suspension of a key."""
        return self._keys.ResumeKey(admin_pb2.ResumeKeyRequest(key_id=key_id), timeout=self._call_seconds)

    def rewrap_slots(self, slots: Slots, keys: Iterable[ModelKey]) -> Slots:
        """Let the verifier open one of a model's slots and seal the data key to other model keys.

        Raises:
            MalformedInput: the answer has no slots, as from an older verifier, or slots that do not parse.
        """
        request = admin_pb2.RewrapSlotsRequest(slots=slots.encode(), keys=[key.encode() for key in keys])
        answer = self._keys.RewrapSlots(request, timeout=self._call_seconds)
        return slots_from_proto(answer.slots, "nodeseal-verifier")

    def register_model(self, content: bytes, *, again: bool) -> admin_pb2.Model:
        """Let keys be released for a model; one that was retired only if ``again`` is set."""
        request = admin_pb2.RegisterModelRequest(content=content, again=again)
        return self._models.RegisterModel(request, timeout=self._call_seconds)

    def retire_model(self, digest: str, reason: str) -> admin_pb2.Model:
        """Release no more keys for a model."""
        request = admin_pb2.RetireModelRequest(digest=digest, reason=reason)
        return self._models.RetireModel(request, timeout=self._call_seconds)

    def list_models(self) -> list[admin_pb2.Model]:
        """Return all models that were registered."""
        return list(self._models.ListModels(admin_pb2.ListModelsRequest(), timeout=self._call_seconds).models)

    def get_model(self, digest: str) -> admin_pb2.Model:
        """Return one model."""
        return self._models.GetModel(admin_pb2.GetModelRequest(digest=digest), timeout=self._call_seconds)

    def list_records(self, wanted: RecordQuery) -> list[admin_pb2.AuditRecord]:
        """Return acts of the log, or records of the closed log."""
        request = admin_pb2.ListRecordsRequest(
            after=wanted.after or 0,
            limit=wanted.limit,
            newest=wanted.after is None,
            subject=wanted.subject,
            actor=wanted.actor,
            kind=wanted.kind,
            closed=wanted.closed,
        )
        return list(self._audit.ListRecords(request, timeout=self._call_seconds))

    def get_record(self, sequence: int) -> admin_pb2.AuditRecord:
        """Return one act of the log with the documents that it names."""
        return self._audit.GetRecord(admin_pb2.GetRecordRequest(sequence=sequence), timeout=self._call_seconds)

    def get_checkpoint(self) -> log_pb2.Checkpoint:
        """Return the last checkpoint of the log."""
        return self._log.GetCheckpoint(log_pb2.GetCheckpointRequest(), timeout=self._call_seconds)

    def prove_record(self, sequence: int, size: int) -> log_pb2.RecordProof:
        """Return the proof that an act is in the tree of ``size`` leaves."""
        request = log_pb2.ProveRecordRequest(sequence=sequence, size=size)
        return self._log.ProveRecord(request, timeout=self._call_seconds)

    def prove_consistency(self, old: int, size: int) -> tuple[bytes, ...]:
        """Return the proof that the tree of ``old`` leaves is the beginning of the one of ``size`` leaves."""
        request = log_pb2.ProveConsistencyRequest(old_size=old, size=size)
        return tuple(self._log.ProveConsistency(request, timeout=self._call_seconds).path)

    def export_log(self) -> Iterator[log_pb2.ExportPart]:
        """Return the parts of an export; the first is its checkpoint."""
        return iter(self._log.ExportLog(log_pb2.ExportLogRequest(), timeout=_EXPORT_SECONDS))


def _files(parts: Iterable[admin_pb2.EvidencePart]) -> dict[str, bytes]:
    files: dict[str, bytearray] = {}
    for part in parts:
        content = files.setdefault(part.name, bytearray())
        content += part.data
        if len(content) > SIZES.get(part.name, -1):
            raise MalformedInput(f"evidence: {part.name[:80]!a} does not belong to an evidence folder, or is too large")
    return {name: bytes(content) for name, content in files.items()}
