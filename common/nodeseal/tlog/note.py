"""Signed notes (C2SP signed-note 1.0.0) with Ed25519 signatures, and the keys that verify them.

A note is text, an empty line, and signature lines. Signatures by unknown keys are ignored; one by a known key that does
not hold refuses the whole note.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Final

from nodeseal.crypto.ed25519 import PUBLIC_SIZE
from nodeseal.errors import MalformedInput

MAX_NOTE: Final = 64 * 1024
"""Bytes of a note with all its signatures."""
MAX_SIGNATURES: Final = 64
_KEY_ID_SIZE: Final = 4
_LINE: Final = re.compile(r"\u2014 (\S+) ([A-Za-z0-9+/]+={0,2})")
_NAME: Final = re.compile(r"[^\s+]{1,255}")
_VKEY: Final = re.compile(r"([^\s+]{1,255})\+([0-9a-f]{8})\+([A-Za-z0-9+/]+={0,2})")


class SignatureType(IntEnum):
    """Types of signatures that this version makes and verifies."""

    ED25519 = 0x01
    COSIGNATURE = 0x04


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """A public key that signs notes.

    Attributes:
        name: of the signer.
        type: what its signatures are.
        public: 32 bytes of the Ed25519 key.
    """

    name: str
    type: SignatureType
    public: bytes

    @property
    def key_id(self) -> bytes:
        """The four bytes by which a signature line names the key."""
        content = self.name.encode() + b"\n" + bytes([self.type]) + self.public
        return sha256(content).digest()[:_KEY_ID_SIZE]

    @property
    def text(self) -> str:
        """The key in the form that verifiers are configured with (a *vkey*)."""
        material = base64.b64encode(bytes([self.type]) + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{material}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteSignature:
    """A signature line, of which nothing is proved.

    Attributes:
        name: of the signer.
        key_id: of its key.
        signature: by the key.
    """

    name: str
    key_id: bytes
    signature: bytes

    @property
    def line(self) -> str:
        """The line of a note, with its newline."""
        return f"\u2014 {self.name} {base64.b64encode(self.key_id + self.signature).decode()}\n"

    def is_by(self, key: VerifierKey) -> bool:
        """Tell whether the line claims to be by a key."""
        return (self.name, self.key_id) == (key.name, key.key_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A note, of which nothing is proved.

    Attributes:
        text: what is signed, with its last newline.
        signatures: its signature lines.
    """

    text: str
    signatures: tuple[NoteSignature, ...]

    def encode(self) -> bytes:
        """Return the note."""
        return f"{self.text}\n{''.join(signature.line for signature in self.signatures)}".encode()

    def by(self, key: VerifierKey) -> Iterator[NoteSignature]:
        """Yield the signatures that claim to be by a key."""
        return (signature for signature in self.signatures if signature.is_by(key))


def decode_note(raw: bytes) -> Note:
    """Decode a note.

    Raises:
        MalformedInput: it is longer than :data:`MAX_NOTE`, no UTF-8, holds control characters, or has no signatures.
    """
    text = _printable(raw)
    body, separator, lines = text.rpartition("\n\n")
    if not separator or not body:
        raise MalformedInput("note: no empty line between text and signatures")
    return Note(text=body + "\n", signatures=parse_signatures(lines))


def parse_signatures(lines: str) -> tuple[NoteSignature, ...]:
    """Return the signatures of lines that each end in a newline.

    Raises:
        MalformedInput: there is none, a line is no signature, or there are more than :data:`MAX_SIGNATURES`.
    """
    split = lines.split("\n")
    if split.pop() != "" or not 1 <= len(split) <= MAX_SIGNATURES:
        raise MalformedInput(f"note: not 1 to {MAX_SIGNATURES} signature lines, each with a newline")
    return tuple(map(_parse_signature, split))


def parse_vkey(text: str) -> VerifierKey:
    """Return the key of a vkey, ``NAME+ID+BASE64``.

    Raises:
        MalformedInput: not one, of a type that is not supported, or its id is another key's.
    """
    match = _VKEY.fullmatch(text)
    if match is None:
        raise MalformedInput(f"not a verifier key, NAME+ID+BASE64: {text[:80]!a}")
    material = _base64(match[3], "verifier key")
    if material[0] not in set(SignatureType) or len(material) != 1 + PUBLIC_SIZE:
        raise MalformedInput(f"verifier key {match[1][:80]!a}: not Ed25519, for checkpoints or cosignatures")
    key = VerifierKey(name=match[1], type=SignatureType(material[0]), public=material[1:])
    if key.key_id.hex() != match[2]:
        raise MalformedInput(f"verifier key {match[1][:80]!a}: its id does not belong to it")
    return key


def parse_key_name(text: str) -> str:
    """Return the name of a signer.

    Raises:
        MalformedInput: empty, too long, or with spaces, plus signs or characters that do not print.
    """
    if not _NAME.fullmatch(text) or not text.isprintable():
        raise MalformedInput(f"not a name of a log or witness (no spaces, no plus signs): {text[:80]!a}")
    return text


def _printable(raw: bytes) -> str:
    if len(raw) > MAX_NOTE:
        raise MalformedInput(f"note: {len(raw)} bytes, at most {MAX_NOTE}")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise MalformedInput("note: not UTF-8") from error
    if any(character < " " and character != "\n" for character in text):
        raise MalformedInput("note: holds control characters")
    return text


def _parse_signature(line: str) -> NoteSignature:
    match = _LINE.fullmatch(line)
    if match is None:
        raise MalformedInput(f"note: not a signature line: {line[:80]!a}")
    raw = _base64(match[2], "note: signature")
    if len(raw) <= _KEY_ID_SIZE:
        raise MalformedInput("note: an empty signature")
    return NoteSignature(name=parse_key_name(match[1]), key_id=raw[:_KEY_ID_SIZE], signature=raw[_KEY_ID_SIZE:])


def _base64(text: str, what: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise MalformedInput(f"{what}: not Base64") from error
    if base64.b64encode(raw).decode() != text:
        raise MalformedInput(f"{what}: not the one Base64 spelling of its bytes")
    return raw
