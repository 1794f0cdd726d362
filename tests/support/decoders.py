"""Every decoder of bytes that a peer, a file or a TPM hands over, with good examples to start from."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from nodeseal import documents
from nodeseal.agent.egress.netlink import attribute, attributes, messages
from nodeseal.cli.contents_deb import deb_files
from nodeseal.cli.contents_rpm import rpm_files
from nodeseal.crypto import floe
from nodeseal.crypto.ed25519 import Ed25519Signer, new_log_key
from nodeseal.crypto.ima_signatures import read_ima_key
from nodeseal.crypto.ssh_key import decode_ssh_key
from nodeseal.crypto.ssh_signature import verify_ssh_signature
from nodeseal.egress.listing import listed_lines
from nodeseal.evidence.binding import Channel, Purpose
from nodeseal.evidence.claims import Claims, decode_claims, encode_claims
from nodeseal.evidence.folder import EvidenceFolder, decode_evidence_folder
from nodeseal.evidence.release_context import ReleaseContext, decode_release_context, encode_release_context
from nodeseal.evidence.round import Evidence
from nodeseal.golden.document import parse_golden
from nodeseal.governance.proposal import decode_proposal
from nodeseal.governance.reslot import decode_reslot, encode_reslot
from nodeseal.governance.rules import SOLO, decode_rules, parse_rules
from nodeseal.governance.sanction import ApprovedProposal, decode_approved
from nodeseal.ids import KeyId, Nonce, digest_of, lease_id_of, node_id_of
from nodeseal.ima.log import claimed_bank, encode_ima_entry, ima_entries
from nodeseal.ima.signature import decode_ima_signature
from nodeseal.ima.template import encode_template, parse_template
from nodeseal.ima.text import ima_text_entries
from nodeseal.loader.safetensors import decode_header as decode_tensors
from nodeseal.loader.weights import parse_index
from nodeseal.sealed.container import decode_header, header_size, parse_meta
from nodeseal.sealed.content import parse_content
from nodeseal.sealed.model_key import parse_model_key
from nodeseal.sealed.slots import Slots, parse_slots
from nodeseal.settings import parse_yaml
from nodeseal.tlog.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from nodeseal.tlog.checkpoint import log_key as checkpoint_key
from nodeseal.tlog.note import parse_vkey
from nodeseal.tlog.proof_text import AddCheckpoint, LogProof, decode_add_checkpoint, decode_proof
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.attest import Attest, Certified, ClockInfo, Created, Quoted, decode_attest, encode_attest
from nodeseal.tpm.buffer import Reader
from nodeseal.tpm.ek_template import TEMPLATES
from nodeseal.tpm.pcr import PcrSelection, decode_pcr_selection
from nodeseal.tpm.public import decode_public, decode_public_2b, encode_public_2b
from nodeseal.tpm.signature import EccSignature, decode_signature, encode_signature
from nodeseal.tpm.tools import decode_pcr_file
from nodeseal.uefi.boot_strings import decode_boot_string
from nodeseal.uefi.efi_variable import decode_efi_variable
from nodeseal.uefi.event_log import Event, EventLog, EventLogFormat, decode_event_log, encode_event_log
from nodeseal.uefi.event_log_text import describe_event, event_details
from nodeseal.uefi.firmware_blob import decode_firmware_blob2, decode_handoff_tables2
from nodeseal.uefi.gpt import decode_partition_table
from nodeseal.uefi.image_load import decode_image_load
from nodeseal.uefi.load_option import decode_load_option
from nodeseal.uefi.signature_database import decode_signature_data
from nodeseal.uefi.tagged_event import decode_tagged_event
from nodeseal.verifier.keys.token_uri import parse_token_uri
from nodeseal.wire.varlink import Call, Frames, decode_call, decode_reply, encode_call
from nodeseal.x509.certificate import decode_certificate_file, split_certificates
from support import egress, goldens, ima, packages, sealed, ssh, together, uefi
from support.data import ROOT
from support.egress_listing import LISTING
from support.ima import decode_ima_log

SELECTION = PcrSelection.of({HashAlg.SHA256: [0, 4, 7, 15]})


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """A decoder and inputs that it accepts.

    Attributes:
        decode: refuses with :class:`~nodeseal.errors.NodesealError` or returns; nothing else may come out.
        good: inputs that decode.
        exact: every proper prefix and every longer input is refused.
    """

    decode: Callable[[bytes], object]
    good: tuple[bytes, ...] = ()
    exact: bool = True


_NETLINK = struct.pack("=IHHII", 28, 20, 0, 1, 0) + attribute(3, b"eth0\0")


def _netlink(raw: bytes) -> object:
    return [attributes(message.body) for _, _, message in messages(raw)]


def _attest(attested: Quoted | Certified | Created) -> bytes:
    clock = ClockInfo(clock=1, reset_count=2, restart_count=3, safe=True)
    return encode_attest(
        Attest(
            qualified_signer=b"\x00\x0b" + bytes(32),
            extra_data=bytes(32),
            clock_info=clock,
            firmware_version=7,
            attested=attested,
        )
    )


def _selection(raw: bytes) -> PcrSelection | None:
    reader = Reader(raw, "TPML_PCR_SELECTION")
    selection = decode_pcr_selection(reader)
    reader.end()
    return selection


def _header(raw: bytes) -> object:
    size = header_size(raw[:16], "x.sealed")
    return parse_meta(decode_header(raw[:size], "x.sealed").aad[16:], "x.sealed")


def _stored(name: str) -> bytes:
    return (ROOT / "tests" / "vectors" / "sealed-tiny" / name).read_bytes()


def _floe(raw: bytes) -> bytes:
    """Decrypt a FLOE ciphertext whose segments have 64 bytes."""
    params, body = floe.Parameters(64), memoryview(raw)[floe.HEADER_SIZE :]
    decryptor, opened = floe.Decryptor(sealed.DATA_KEY, b"", raw[: floe.HEADER_SIZE], params), bytearray(len(body))
    for position, start in enumerate(range(0, len(body), 64)):
        segment, final = body[start : start + 64], start + 64 >= len(body)
        out = memoryview(opened)[start : start + max(0, len(segment) - floe.SEGMENT_OVERHEAD)]
        decryptor.decrypt_into(position, segment, out, final=final)
    return bytes(opened)


def _floe_example() -> bytes:
    encryptor, body = floe.Encryptor(sealed.DATA_KEY, b"", floe.Parameters(64), random=bytes), bytearray(64 + 40)
    for position, (start, stop) in enumerate(((0, 64), (64, len(body)))):
        plaintext, out = bytes(stop - start - floe.SEGMENT_OVERHEAD), memoryview(body)[start:stop]
        encryptor.encrypt_into(position, memoryview(plaintext), out, final=stop == len(body))
    return encryptor.header + body


def _frames(raw: bytes) -> list[object]:
    return [decode_call(message) for message in Frames().feed(raw)]


def _ima_entries(raw: bytes) -> list[object]:
    entries = [entry for _, entry in ima_entries(raw, claimed_bank(raw))]
    return [parse_template(entry.template, entry.data) for entry in entries]


def _ima_list(raw: bytes) -> list[object]:
    return [parse_template(entry.template, entry.data) for entry in ima_text_entries(raw)]


CLAIMS = Claims(boot_id="b", kernel="6.1", agent_version="0.1.0", leases=(lease_id_of(b""),))
GOLDEN = b'format: nodeseal/golden/1\nname: rack-a\npcrs:\n  sha256:\n    "4": ["' + b"ab" * 32 + b'"]\n'
LOG = EventLog((HashAlg.SHA256,), (Event(pcr=4, claimed_type=13, digests={HashAlg.SHA256: bytes(32)}, data=b"boot"),))
SHA1_LOG = EventLog(
    (HashAlg.SHA1,),
    (Event(pcr=4, claimed_type=0x80000003, digests={HashAlg.SHA1: bytes(20)}, data=bytes(24) + b"\x08" + bytes(7)),),
    EventLogFormat.SHA1,
)
CCEL = EventLog(
    (HashAlg.SHA384,),
    (Event(pcr=1, claimed_type=0x80000001, digests={HashAlg.SHA384: bytes(48)}, data=bytes(40)),),
    EventLogFormat.CCEL,
)
NAME = b"\x00\x0b" + bytes(32)
EVIDENCE = EvidenceFolder(
    evidence=Evidence(claims=b"{}", attest=b"a", signature=b"s", pcr_values=(bytes(32),) * SELECTION.size),
    nonce=Nonce(bytes(32)),
    purpose=Purpose.ATTEST,
    selection=SELECTION,
    channel=Channel(trust_domain="example.org", node_id=node_id_of(b"ek"), certificate_sha256=bytes(32)),
    issued=datetime(2026, 1, 2, tzinfo=UTC),
    received=datetime(2026, 1, 2, tzinfo=UTC),
    ak_public=b"p",
    labels={"rack": "a"},
    manufacturer="IFX",
    ek_algorithm="rsa2048",
).encode()

CONTEXT = ReleaseContext(
    audit_leaf=digest_of(b"leaf"),
    goldens=(digest_of(b"golden"),),
    key_id=KeyId("llama"),
    key_version=1,
    lease_id=lease_id_of(b""),
    model_digest=digest_of(b"model"),
    node_id=node_id_of(b"ek"),
)
_, MODEL_KEY = sealed.model_key()
SLOTS = Slots(digest_of(b"model"), (MODEL_KEY.slot(digest_of(b"model"), sealed.DATA_KEY),))

LOG_SIGNER = Ed25519Signer(new_log_key(), "log")
NOTE = sign_checkpoint(Checkpoint(origin="a.example/log", size=3, root=bytes(32)), LOG_SIGNER).raw
SIGNERS = (ssh.ed25519_signer(), ssh.token(), ssh.token(ssh.SK_P256))

DECODERS = {
    "attest": Decoder(
        decode=decode_attest,
        good=(
            _attest(Quoted(SELECTION, bytes(32))),
            _attest(Quoted(None, bytes(32))),
            _attest(Certified(NAME, NAME)),
            _attest(Created(NAME, bytes(32))),
        ),
    ),
    "public": Decoder(decode=decode_public, good=tuple(each.public.encode() for each in TEMPLATES)),
    "public-2b": Decoder(decode=decode_public_2b, good=(encode_public_2b(TEMPLATES[0].public),)),
    "signature": Decoder(decode=decode_signature, good=(encode_signature(EccSignature(HashAlg.SHA256, 1, 2)),)),
    "pcr-selection": Decoder(decode=_selection, good=(SELECTION.encode(),)),
    "pcr-file": Decoder(decode=lambda raw: decode_pcr_file(raw, SELECTION), exact=False),
    "certificates": Decoder(
        decode=lambda raw: (split_certificates(raw), decode_certificate_file(raw, "nv")), exact=False
    ),
    "event-log": Decoder(
        decode=lambda raw: [(describe_event(event), event_details(event)) for event in decode_event_log(raw).events],
        good=tuple(encode_event_log(log) for log in (LOG, SHA1_LOG, CCEL)),
        exact=False,
    ),
    "efi-variable": Decoder(decode=decode_efi_variable, good=(uefi.variable("db", b"content"),), exact=False),
    "signature-database": Decoder(
        decode=uefi.decode_signature_database,
        good=(
            uefi.signature_list(uefi.SHA256_KIND, bytes(32), bytes(32)) + uefi.signature_list(uefi.X509_KIND, b"0\0"),
        ),
        exact=False,
    ),
    "signature-data": Decoder(decode=decode_signature_data, good=(uefi.guid(uefi.OWNER) + b"0\3\2\1\5",), exact=False),
    "partition-table": Decoder(
        decode=decode_partition_table, good=(uefi.partition_table(uefi.partition("ESP"), uefi.partition("")),)
    ),
    "load-option": Decoder(
        decode=decode_load_option, good=(uefi.load_option("Debian", uefi.file_path("\\a.efi")),), exact=False
    ),
    "boot-string": Decoder(decode=decode_boot_string, good=(b"grub_cmd: ls\0", b"q\0u\0\0\0"), exact=False),
    "tagged-event": Decoder(decode=decode_tagged_event, good=(b"\1\0\1\0\2\0\0\0ab",)),
    "firmware-blob": Decoder(decode=decode_firmware_blob2, good=(b"\5Fv(A)" + bytes(16),)),
    "handoff-tables": Decoder(decode=decode_handoff_tables2, good=(b"\0\1" + bytes(7 + 24),)),
    "image-load": Decoder(decode=decode_image_load, good=(uefi.image_load(uefi.file_path("\\a.efi")),), exact=False),
    "ima-log": Decoder(
        decode=lambda raw: decode_ima_log(raw, claimed_bank(raw)),
        good=tuple(map(encode_ima_entry, (*ima.examples(), *ima.examples(HashAlg.SHA512)))),
    ),
    "ima-entries": Decoder(decode=_ima_entries, good=tuple(map(ima.log, map(ima.examples, HashAlg))), exact=False),
    "ima-list": Decoder(decode=_ima_list, good=(ima.text(ima.examples()),), exact=False),
    **{
        f"ima-template-{template.replace('|', '-')}": Decoder(
            decode=partial(parse_template, template), good=(encode_template(template, fields),)
        )
        for template, fields in ima.EXAMPLES.items()
    },
    "ima-signature": Decoder(decode=decode_ima_signature, good=(ima.EXAMPLES["ima-sig"].signature,)),
    "ima-key": Decoder(decode=read_ima_key, exact=False),
    "json": Decoder(decode=lambda raw: documents.decode_json(raw, "x"), good=(b'{"a":[1,{"b":null}]}',)),
    "yaml": Decoder(decode=lambda raw: parse_yaml(raw, "x"), good=(b"a: [1, {b: 'x'}]\n",), exact=False),
    "golden": Decoder(decode=lambda raw: parse_golden(raw, "x"), good=(GOLDEN, goldens.FULL.encode()), exact=False),
    "deb": Decoder(
        decode=lambda raw: list(deb_files(io.BytesIO(raw), "x", HashAlg.SHA256)),
        good=(packages.deb(packages.tar([packages.member("opt/x", b"hi")])),),
        exact=False,
    ),
    "rpm": Decoder(
        decode=lambda raw: list(rpm_files(io.BytesIO(raw), "x", HashAlg.SHA256)),
        good=(packages.rpm(packages.cpio(b"opt/x", b"hi") + packages.TRAILER),),
        exact=False,
    ),
    "evidence-head": Decoder(
        decode=lambda raw: decode_evidence_folder({**EVIDENCE, "evidence.json": raw}),
        good=(EVIDENCE["evidence.json"],),
    ),
    "evidence-values": Decoder(
        decode=lambda raw: decode_evidence_folder({**EVIDENCE, "pcr-values.json": raw}),
        good=(EVIDENCE["pcr-values.json"],),
        exact=False,
    ),
    "claims": Decoder(
        decode=decode_claims, good=(encode_claims(CLAIMS), encode_claims(replace(CLAIMS, egress=egress.claims_of())))
    ),
    "egress-listing": Decoder(decode=listed_lines, good=(LISTING.read_bytes(),), exact=False),
    "netlink": Decoder(decode=_netlink, good=(_NETLINK,), exact=False),
    "ssh-key": Decoder(decode=decode_ssh_key, good=tuple(signer.blob for signer in SIGNERS)),
    "ssh-signature": Decoder(
        decode=lambda raw: verify_ssh_signature(raw, b"message", "n"),
        good=tuple(signer.signature(b"message", "n") for signer in SIGNERS),
    ),
    "checkpoint": Decoder(
        decode=lambda raw: open_checkpoint(raw, checkpoint_key("a.example/log", LOG_SIGNER.public)), good=(NOTE,)
    ),
    "log-proof": Decoder(
        decode=decode_proof, good=(LogProof(index=2, path=(bytes(32),), note=NOTE, extra=b"x").encode(),), exact=False
    ),
    "add-checkpoint": Decoder(
        decode=decode_add_checkpoint, good=(AddCheckpoint(old=1, path=(bytes(32),), note=NOTE).encode(),), exact=False
    ),
    "verifier-key": Decoder(
        decode=lambda raw: parse_vkey(raw.decode(errors="replace")),
        good=(checkpoint_key("a.example/log", LOG_SIGNER.public).text.encode(),),
    ),
    "rules": Decoder(
        decode=lambda raw: decode_rules(raw, "rules"), good=(together.quorum_rules().encode(), SOLO.encode())
    ),
    "rules-file": Decoder(
        decode=lambda raw: parse_rules(raw, "rules.yaml"),
        good=(b'format: "nodeseal/rules/1"\nversion: 1\nrule: "solo"\n',),
        exact=False,
    ),
    "proposal": Decoder(decode=lambda raw: decode_proposal(raw, "proposal"), good=(together.PROPOSAL.encode(),)),
    "approvals": Decoder(
        decode=lambda raw: decode_approved(raw, "approvals"),
        good=(ApprovedProposal(document=b"document", signature=b"", approvals=()).encode(),),
    ),
    "reslot": Decoder(decode=decode_reslot, good=(encode_reslot(SLOTS, (MODEL_KEY,)),)),
    "release-context": Decoder(decode=decode_release_context, good=(encode_release_context(CONTEXT),)),
    "content": Decoder(decode=parse_content, good=(sealed.CONTENT.encode(), _stored("nodeseal.model.json"))),
    "slots": Decoder(decode=parse_slots, good=(SLOTS.encode(), _stored("nodeseal.slots.json"))),
    "token-uri": Decoder(
        decode=lambda raw: parse_token_uri(raw.decode(errors="replace")),
        good=(b"pkcs11:token=a%20b;object=c;id=%01",),
        exact=False,
    ),
    "model-key": Decoder(decode=lambda raw: parse_model_key(raw, "x"), good=(MODEL_KEY.encode(),)),
    "sealed-header": Decoder(decode=_header, good=(_stored("tiny.gguf.sealed"),), exact=False),
    "floe": Decoder(decode=_floe, good=(_floe_example(),), exact=False),
    "safetensors": Decoder(
        decode=lambda raw: decode_tensors(memoryview(raw), len(raw), "x"),
        good=(sealed.safetensors_bytes({"a": ("U8", [2], b"12"), "b": ("F32", [1, 1], b"1234")}),),
    ),
    "weights-index": Decoder(decode=parse_index, good=(b'{"weight_map":{"a":"1.safetensors"}}',), exact=False),
    "varlink-call": Decoder(decode=_frames, good=(encode_call(Call(method="io.nodeseal.Keys.Status")),), exact=False),
    "varlink-reply": Decoder(decode=decode_reply, good=(b'{"parameters":{}}',), exact=False),
}
