"""Messages of the services for people, to values and back; no decisions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from nodeseal.appraisal.kinds.ima import progress_of
from nodeseal.appraisal.outlook import Outlook
from nodeseal.crypto.hpke import Suite
from nodeseal.errors import MalformedInput
from nodeseal.ids import KeyId, NodeId, parse_key_id, parse_node_id
from nodeseal.sealed.model_key import parse_model_key
from nodeseal.sealed.slots import MAX_SLOTS, parse_suite
from nodeseal.v1 import admin_pb2
from nodeseal.verifier.fleet.boot_brief import BootBrief
from nodeseal.verifier.fleet.mandate import Mandate
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.keys.keystore import FILE_PLACE
from nodeseal.verifier.ledger.documents import Document
from nodeseal.verifier.ledger.leaf import leaf_hash, read_entry
from nodeseal.verifier.release.rotation import Rewrap
from nodeseal.verifier.store.acts import ActRow, Filter
from nodeseal.verifier.store.policy import GoldenRecord, KeyRecord, ModelRecord
from nodeseal.verifier.trust.keys import NewKey
from nodeseal.wire.messages import (
    fill_timestamp,
    findings_to_proto,
    shown_text,
    slots_from_proto,
    state_to_proto,
    timestamp,
)
from nodeseal.wire.transfer import in_parts

MAX_PAGE = 4 << 20
"""Bytes of nodes in one message: a node with very many findings has a megabyte, and must not hide the others."""
_MAX_FILTER = 256
"""Characters of a text that acts are looked up by."""
_LAST = 2**63 - 1
"""The highest number that the database can hold."""
_MAX_FORESEEN = 16
"""Findings of one node that a golden which is not active would have."""
DEFAULT_SUITE = Suite.MLKEM768_X25519


def node_to_proto(node: Node, now: float) -> admin_pb2.Node:
    """Return a node as it stands at the steady time ``now``."""
    record, facts, progress = node.record, node.record.facts, progress_of(node.baseline)
    message = admin_pb2.Node(
        node_id=record.node_id,
        state=state_to_proto(node.state_at(now).value),
        findings=findings_to_proto(node.findings),
        hostname=facts.hostname,
        boot_id=node.baseline.boot_id if node.baseline else facts.boot_id,
        tpm_manufacturer=facts.tpm_manufacturer,
        tpm_firmware=facts.tpm_firmware,
        enrolled=timestamp(record.enrolled),
        ek_name=record.ek_name.hex(),
        ak_name=record.ak_name.hex(),
        leases=sorted(node.leases),
        goldens=sorted(golden.digest for golden in node.goldens),
        reason=shown_text(node.reason),
        labels=dict(record.labels),
        boot=_boot(node.boot) if node.boot else None,
        ima_judged_bytes=progress.mark.offset if progress else 0,
        certified_manufacturer=record.tpm.manufacturer,
        ek_algorithm=record.tpm.ek_algorithm,
        unrecorded=[shown_text(restriction.act.sentence()) for restriction, _ in node.overlay],
    )
    if node.trusted(now) and node.trusted_until is not None:
        fill_timestamp(message.trusted_until, node.trusted_until)
    if node.last_seen is not None:
        fill_timestamp(message.last_seen, node.last_seen)
    if node.stream is not None:
        fill_timestamp(message.certificate_expires, node.stream.certificate_end)
    return message


def first_page(nodes: Iterable[admin_pb2.Node]) -> Iterator[admin_pb2.Node]:
    """Yield the first node, and further ones as long as they have room in one message."""
    left = MAX_PAGE
    for node in nodes:
        size = node.ByteSize()
        if size > left < MAX_PAGE:
            return
        left -= size
        yield node


def _boot(boot: BootBrief) -> admin_pb2.Boot:
    return admin_pb2.Boot(
        secure_boot=boot.secure_boot,
        images=map(shown_text, boot.images),
        command_lines=map(shown_text, boot.command_lines),
        firmware_version=shown_text(boot.firmware_version),
        firmware_words=map(shown_text, boot.firmware_words),
    )


def outlook_to_proto(node: Node, outlook: Outlook, now: float) -> admin_pb2.GoldenOutlook:
    """Return what a golden would say of a node; ``now`` is steady time."""
    return admin_pb2.GoldenOutlook(
        node_id=node.record.node_id,
        state=state_to_proto(node.state_at(now).value),
        foreseen=outlook.foreseen.value,
        findings=findings_to_proto(outlook.findings[:_MAX_FORESEEN]),
    )


def evidence_parts(files: Mapping[str, bytes]) -> Iterator[admin_pb2.EvidencePart]:
    """Cut files into messages, at least one for each file."""
    for name, content in files.items():
        for part in in_parts(content):
            yield admin_pb2.EvidencePart(name=name, data=part)


def golden_parts(golden: GoldenRecord) -> Iterator[admin_pb2.Golden]:
    """Cut a golden into messages, each with a part of its document."""
    for part in in_parts(golden.document):
        message = golden_to_proto(golden)
        message.document = part
        yield message


def golden_to_proto(golden: GoldenRecord) -> admin_pb2.Golden:
    """Return a golden's message, without its document."""
    message = admin_pb2.Golden(
        digest=golden.digest,
        name=golden.name,
        active=golden.retired is None,
        activated=timestamp(golden.activated),
    )
    if golden.retired is not None:
        fill_timestamp(message.retired, golden.retired)
    return message


def new_key_from_proto(message: admin_pb2.CreateKeyRequest) -> NewKey:
    """Return the key to make. The default place is the file store, the default suite the store's.

    Raises:
        MalformedInput: a bad key id, or no such suite.
    """
    place = message.store or FILE_PLACE
    preferred = DEFAULT_SUITE if place == FILE_PLACE else Suite.P384
    return NewKey(
        key_id=parse_key_id(message.key_id),
        suite=parse_suite(message.suite) if message.suite else preferred,
        place=place,
        silence_seconds=message.silence_seconds,
    )


def rewrap_from_proto(message: admin_pb2.RewrapSlotsRequest, by: Mandate) -> Rewrap:
    """Return the slots to open and the keys to seal to.

    Raises:
        MalformedInput: no slots, as from commands of the first release, slots or a public key file that do not parse,
            two keys of one version, no key, or more than 64.
    """
    keys = tuple(parse_model_key(raw, f"key {number}") for number, raw in enumerate(message.keys[: MAX_SLOTS + 1], 1))
    if not 1 <= len(keys) <= MAX_SLOTS or len({(key.key_id, key.key_version) for key in keys}) != len(keys):
        raise MalformedInput(f"rewrapping needs 1 to {MAX_SLOTS} different keys")
    slots = slots_from_proto(message.slots, "nodeseal")
    return Rewrap(model_digest=slots.model_digest, slots=slots.slots, keys=keys, by=by)


def grant_from_proto(message: admin_pb2.GrantKeyRequest) -> tuple[KeyId, NodeId, int]:
    """Return key, node and number of leases of a grant.

    Raises:
        MalformedInput: a bad key or node id.
    """
    return parse_key_id(message.key_id), parse_node_id(message.grant.node_id), message.grant.max_leases


def key_to_proto(key: KeyRecord) -> admin_pb2.Key:
    """Return a key's message; ``public`` is the file that sealing takes."""
    message = admin_pb2.Key(
        key_id=key.key_id,
        version=key.version,
        suite=key.suite,
        public=key.model_key.encode(),
        created=timestamp(key.created),
        revoked=key.revoked is not None,
        grants=[admin_pb2.Grant(node_id=node, max_leases=limit) for node, limit in key.grants],
        store=key.place,
        silence_seconds=key.silence_seconds,
        suspended_by=key.suspended_by or "",
    )
    if key.suspended is not None:
        fill_timestamp(message.suspended, key.suspended)
    if key.suspended_until is not None:
        fill_timestamp(message.suspended_until, key.suspended_until)
    return message


def model_to_proto(model: ModelRecord, *, with_content: bool) -> admin_pb2.Model:
    """Return a model's message."""
    message = admin_pb2.Model(
        digest=model.digest,
        model_id=model.model_id,
        version=model.version,
        size=model.size,
        files=model.files,
        registered=timestamp(model.registered),
        content=model.content if with_content else b"",
    )
    if model.retired is not None:
        fill_timestamp(message.retired, model.retired)
    return message


def filter_from_proto(message: admin_pb2.ListRecordsRequest) -> Filter:
    """Return which acts are wanted.

    Raises:
        MalformedInput: a text that is longer than any that an act has; names the field.
    """
    for field in ("subject", "actor", "kind"):
        if len(getattr(message, field)) > _MAX_FILTER:
            raise MalformedInput(f"{field}: longer than {_MAX_FILTER} characters")
    return Filter(after=min(message.after, _LAST), subject=message.subject, actor=message.actor, kind=message.kind)


def act_to_proto(row: ActRow, documents: Iterable[Document] = ()) -> admin_pb2.AuditRecord:
    """Return an act's message, with documents that it names.

    Raises:
        MalformedInput: the row does not parse.
    """
    return admin_pb2.AuditRecord(
        sequence=(row.leaf_index or 0) + 1,
        leaf_hash=bytes.fromhex(leaf_hash(row.envelope)),
        content=row.envelope,
        body=row.body,
        text=shown_text(read_entry(row.envelope, row.body).act.sentence()),
        documents=[admin_pb2.RecordDocument(digest=digest, content=content) for digest, content in documents],
    )
