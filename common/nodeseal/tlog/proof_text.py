"""Text of proofs (C2SP tlog-proof) and of what is sent to a witness (C2SP tlog-witness 1.0.0, add-checkpoint)."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nodeseal.errors import MalformedInput
from nodeseal.tlog.checkpoint import parse_hash
from nodeseal.tlog.note import MAX_NOTE
from nodeseal.tlog.tree import MAX_TREE

MAX_PATH: Final = 63
"""Hashes of a proof."""
MAX_PROOF: Final = MAX_NOTE + 64 * 1024
"""Bytes of a proof's text."""
_MAGIC: Final = "c2sp.org/tlog-proof@v1"
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,15}")
_EXTRA: Final = re.compile(r"extra ([A-Za-z0-9+/]+={0,2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogProof:
    """A proof that a leaf is in a log, of which nothing is verified.

    Attributes:
        index: of the leaf, from 0.
        path: RFC 6962 inclusion proof.
        note: the checkpoint, with its signatures.
        extra: data that nobody signed; empty: none.
    """

    index: int
    path: tuple[bytes, ...]
    note: bytes
    extra: bytes = b""

    def encode(self) -> bytes:
        """Return the proof as text."""
        extra = f"extra {base64.b64encode(self.extra).decode()}\n" if self.extra else ""
        return f"{_MAGIC}\n{extra}index {self.index}\n{_path_text(self.path)}\n".encode() + self.note


@dataclass(frozen=True, slots=True, kw_only=True)
class AddCheckpoint:
    """What a witness is asked to cosign.

    Attributes:
        old: size of the checkpoint that it cosigned last.
        path: RFC 6962 consistency proof from there.
        note: the new checkpoint.
    """

    old: int
    path: tuple[bytes, ...]
    note: bytes

    def encode(self) -> bytes:
        """Return the body of the request."""
        return f"old {self.old}\n{_path_text(self.path)}\n".encode() + self.note


def decode_proof(raw: bytes) -> LogProof:
    """Decode the text of a proof; what its checkpoint says is not looked at.

    Raises:
        MalformedInput: it does not parse, or is longer than :data:`MAX_PROOF`.
    """
    head, note = _parted(raw, "proof")
    if head[:1] != [_MAGIC]:
        raise MalformedInput(f"proof: does not begin with {_MAGIC}")
    extra = _EXTRA.fullmatch(head[1]) if len(head) > 1 else None
    rest = head[2:] if extra else head[1:]
    index = _number(rest, "index", "proof")
    found = _extra(extra[1]) if extra else b""
    return LogProof(index=index, path=_path(rest[1:], "proof"), note=note, extra=found)


def decode_add_checkpoint(raw: bytes) -> AddCheckpoint:
    """Decode what a witness is asked to cosign.

    Raises:
        MalformedInput: it does not parse, or is longer than :data:`MAX_PROOF`.
    """
    head, note = _parted(raw, "request")
    return AddCheckpoint(old=_number(head, "old", "request"), path=_path(head[1:], "request"), note=note)


def _parted(raw: bytes, what: str) -> tuple[list[str], bytes]:
    if len(raw) > MAX_PROOF:
        raise MalformedInput(f"{what}: {len(raw)} bytes, at most {MAX_PROOF}")
    head, separator, note = raw.partition(b"\n\n")
    if not separator or not note:
        raise MalformedInput(f"{what}: no checkpoint behind an empty line")
    try:
        return head.decode("ascii").split("\n"), note
    except UnicodeDecodeError as error:
        raise MalformedInput(f"{what}: not ASCII before its checkpoint") from error


def _number(lines: Sequence[str], word: str, what: str) -> int:
    first, _, number = lines[0].partition(" ") if lines else ("", "", "")
    if first != word or not _NUMBER.fullmatch(number) or int(number) > MAX_TREE:
        raise MalformedInput(f"{what}: no line '{word} NUMBER'")
    return int(number)


def _path(lines: Sequence[str], what: str) -> tuple[bytes, ...]:
    if len(lines) > MAX_PATH:
        raise MalformedInput(f"{what}: {len(lines)} hashes, at most {MAX_PATH}")
    return tuple(parse_hash(line, what) for line in lines)


def _extra(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise MalformedInput("proof: extra: not Base64") from error
    if base64.b64encode(raw).decode() != text:
        raise MalformedInput("proof: extra: not the one Base64 spelling of its bytes")
    return raw


def _path_text(path: Sequence[bytes]) -> str:
    return "".join(f"{base64.b64encode(each).decode()}\n" for each in path)
