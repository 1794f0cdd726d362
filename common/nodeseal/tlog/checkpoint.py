"""Checkpoints (C2SP tlog-checkpoint 1.0.0) and cosignatures of witnesses (tlog-cosignature 1.0.1, Ed25519).

A log signs nothing but origin, size and root: cosignatures make no statement about extension lines, so ours has none.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from nodeseal.crypto.ed25519 import SIGNATURE_SIZE, Ed25519Signer, verify_ed25519
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.findings import Finding, FindingId
from nodeseal.tlog.note import Note, NoteSignature, SignatureType, VerifierKey, decode_note
from nodeseal.tlog.tree import HASH_SIZE, MAX_TREE

_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,15}")
_TIME_SIZE: Final = 8
_LATEST: Final = 2**40
"""Seconds since 1970 that a cosignature may name at most: this keeps them within what dates can hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a log commits to.

    Attributes:
        origin: name of the log.
        size: number of leaves.
        root: RFC 6962 root over them.
        extensions: lines that other logs add; a witness carries them.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The text that is signed."""
        lines = (self.origin, str(self.size), base64.b64encode(self.root).decode(), *self.extensions)
        return "".join(f"{line}\n" for line in lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCheckpoint:
    """A checkpoint that its log has signed. Only this module builds it.

    Attributes:
        checkpoint: what is signed.
        note: with all signatures, those of witnesses too.
    """

    checkpoint: Checkpoint
    note: Note

    @property
    def raw(self) -> bytes:
        """The note as bytes."""
        return self.note.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosigned:
    """A cosignature that holds.

    Attributes:
        witness: whose it is.
        at: when the witness made it, to the second.
    """

    witness: str
    at: datetime


def parse_checkpoint(text: str) -> Checkpoint:
    """Return the checkpoint of a note's text.

    Raises:
        MalformedInput: it is none, or not in its one spelling.
    """
    lines = text.removesuffix("\n").split("\n")
    if len(lines) < 3 or not all(lines):  # noqa: PLR2004  # origin, size, root
        raise MalformedInput("checkpoint: not origin, size and root in three lines")
    origin, size, root, *extensions = lines
    if not _SIZE.fullmatch(size) or int(size) > MAX_TREE:
        raise MalformedInput(f"checkpoint: not a tree size: {size[:40]!a}")
    return Checkpoint(origin=origin, size=int(size), root=parse_hash(root, "root"), extensions=tuple(extensions))


def parse_hash(text: str, what: str) -> bytes:
    """Return a hash from its one spelling in Base64.

    Raises:
        MalformedInput: it is not 32 bytes in canonical Base64.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedInput(f"{what}: not Base64: {text[:60]!a}") from error
    if len(raw) != HASH_SIZE or base64.b64encode(raw).decode() != text:
        raise MalformedInput(f"{what}: not a SHA-256 in Base64: {text[:60]!a}")
    return raw


def log_key(origin: str, public: bytes) -> VerifierKey:
    """Return the key of a log, whose name is its origin."""
    return VerifierKey(name=origin, type=SignatureType.ED25519, public=public)


def sign_checkpoint(checkpoint: Checkpoint, signer: Ed25519Signer) -> SignedCheckpoint:
    """Sign a checkpoint as its log."""
    key = log_key(checkpoint.origin, signer.public)
    signature = NoteSignature(name=key.name, key_id=key.key_id, signature=signer.sign(checkpoint.text.encode()))
    return SignedCheckpoint(checkpoint=checkpoint, note=Note(text=checkpoint.text, signatures=(signature,)))


def open_checkpoint(raw: bytes, key: VerifierKey) -> SignedCheckpoint:
    """Return the checkpoint of a note that the log with this key signed.

    Raises:
        MalformedInput: it does not parse.
        ProofFailed: ``log.signature``: the log did not sign it.
    """
    note = decode_note(raw)
    checkpoint = parse_checkpoint(note.text)
    found = list(note.by(key))
    if not found or checkpoint.origin != key.name:
        seen = f"a checkpoint of {checkpoint.origin[:80]!a}"
        raise ProofFailed(Finding(id=FindingId.LOG_SIGNATURE, expected=f"a signature by {key.name}", seen=seen))
    for signature in found:
        verify_ed25519(key.public, signature.signature, note.text.encode(), key.name)
    return SignedCheckpoint(checkpoint=checkpoint, note=note)


def cosign(signed: SignedCheckpoint, name: str, signer: Ed25519Signer, at: datetime) -> NoteSignature:
    """Return a witness's cosignature, made at a time; fractions of its second are dropped."""
    seconds = int(at.timestamp())
    key = VerifierKey(name=name, type=SignatureType.COSIGNATURE, public=signer.public)
    made = signer.sign(_cosigned_message(signed.note, seconds))
    return NoteSignature(name=name, key_id=key.key_id, signature=seconds.to_bytes(_TIME_SIZE, "big") + made)


def verify_cosignature(note: Note, key: VerifierKey) -> Cosigned:
    """Verify that a witness cosigned a note, and return when it did last.

    Raises:
        ProofFailed: ``log.signature``: it did not, or one of its signatures does not hold.
    """
    found = [_opened(note, signature, key) for signature in note.by(key)]
    if not found:
        seen = "none by this key"
        raise ProofFailed(Finding(id=FindingId.LOG_SIGNATURE, expected=f"a cosignature by {key.name}", seen=seen))
    return max(found, key=lambda cosigned: cosigned.at)


def with_signatures(signed: SignedCheckpoint, added: tuple[NoteSignature, ...]) -> SignedCheckpoint:
    """Return a signed checkpoint with more signatures; those that it has already are not repeated."""
    fresh = tuple(signature for signature in added if signature not in signed.note.signatures)
    return replace(signed, note=replace(signed.note, signatures=(*signed.note.signatures, *fresh)))


def _opened(note: Note, signature: NoteSignature, key: VerifierKey) -> Cosigned:
    raw = signature.signature
    seconds = int.from_bytes(raw[:_TIME_SIZE], "big")
    if len(raw) != _TIME_SIZE + SIGNATURE_SIZE or seconds > _LATEST:
        seen = f"{len(raw)} bytes"
        raise ProofFailed(Finding(id=FindingId.LOG_SIGNATURE, expected="a time and a signature", seen=seen))
    verify_ed25519(key.public, raw[_TIME_SIZE:], _cosigned_message(note, seconds), key.name)
    return Cosigned(witness=key.name, at=datetime.fromtimestamp(seconds, UTC))


def _cosigned_message(note: Note, seconds: int) -> bytes:
    return f"cosignature/v1\ntime {seconds}\n{note.text}".encode()
