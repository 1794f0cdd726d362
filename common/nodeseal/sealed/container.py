"""The layout of a ``*.sealed`` file: fixed bytes, META, FLOE header, padding, then segments from a 4 KiB boundary.

This module computes and parses; it reads no file and decrypts nothing. A container is believed only where it equals the
content file. META is parsed only after the FLOE header's tag is verified over its raw bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from nodeseal import documents
from nodeseal.crypto import floe
from nodeseal.documents import Fields
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import ModelId
from nodeseal.sealed.content import FILE_ID_SIZE, MAX_FILE_SIZE, SEGMENT_SIZES, SealedFile

MAGIC = b"NODESEAL"
CONTAINER_VERSION = 1
PREFIX_SIZE = 16
MAX_META = 64 * 1024
SEGMENT_ALIGNMENT = 4096
_PREFIX = struct.Struct(">8sHHI")


@dataclass(frozen=True, slots=True)
class Layout:
    """Position of the segments in a file of known size.

    Attributes:
        size: bytes of plaintext.
        segment_size: bytes of a full segment.
    """

    size: int
    segment_size: int

    @property
    def capacity(self) -> int:
        """Bytes of plaintext in a full segment."""
        return self.segment_size - floe.SEGMENT_OVERHEAD

    @property
    def count(self) -> int:
        """Number of segments, at least one; a full last segment is not followed by an empty one."""
        return max(1, -(-self.size // self.capacity))

    @property
    def body_size(self) -> int:
        """Bytes of all segments."""
        return self.size + self.count * floe.SEGMENT_OVERHEAD

    def plaintext_size(self, position: int) -> int:
        """Bytes of plaintext in the segment at ``position``."""
        return min(self.capacity, self.size - position * self.capacity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """META: what a container says of itself.

    Attributes:
        file_id: 16 random bytes, as in the content file.
        path: path of the plaintext.
        model_id: name of the model, as in the content file.
        size: bytes of plaintext.
        segment_size: bytes of a full FLOE segment.
        media_type: for people and tools; nothing depends on it.
    """

    file_id: bytes
    path: str
    model_id: ModelId
    size: int
    segment_size: int
    media_type: str

    def encode(self) -> bytes:
        """Return META's bytes, canonical JSON."""
        return documents.encode_json(
            {
                "file_id": self.file_id.hex(),
                "media_type": self.media_type,
                "model_id": self.model_id,
                "path": self.path,
                "segment_size": self.segment_size,
                "size": self.size,
            }
        )

    def check(self, file: SealedFile, model_id: ModelId) -> None:
        """Compare with the content file.

        Raises:
            ProofFailed: ``sealed.header``: the container is authentic, but of another file or model.
        """
        expected = (file.file_id, file.path, model_id, file.size, file.segment_size)
        if (self.file_id, self.path, self.model_id, self.size, self.segment_size) != expected:
            raise header_failed(file, "META that says what the content file says", "META of another file")


@dataclass(frozen=True, slots=True)
class RawHeader:
    """The parts of a container before its first segment, not yet believed.

    Attributes:
        aad: fixed bytes and META, as stored.
        floe_header: parameters, IV and header tag.
        size: bytes up to the first segment.
    """

    aad: bytes
    floe_header: bytes
    size: int

    @property
    def raw_meta(self) -> bytes:
        """META's bytes."""
        return self.aad[PREFIX_SIZE:]

    @property
    def header_tag(self) -> bytes:
        """The header tag in the file."""
        return self.floe_header[-floe.HEADER_TAG_SIZE :]


def associated_data(meta: Meta) -> bytes:
    """Return fixed bytes and META: FLOE's AAD and the beginning of the file.

    Raises:
        MalformedInput: META is longer than :data:`MAX_META`.
    """
    raw = meta.encode()
    if len(raw) > MAX_META:
        raise MalformedInput(f"META: {len(raw)} bytes, at most {MAX_META}")
    return _PREFIX.pack(MAGIC, CONTAINER_VERSION, 0, len(raw)) + raw


def encode_header(aad: bytes, floe_header: bytes) -> bytes:
    """Return everything before the first segment, padded with zeros to :data:`SEGMENT_ALIGNMENT`."""
    header = aad + floe_header
    return header + bytes(-len(header) % SEGMENT_ALIGNMENT)


def header_size(prefix: bytes, name: str) -> int:
    """Return how many bytes come before the first segment, from the first 16 bytes of a file.

    Raises:
        MalformedInput: not a sealed file, an unknown version or flag, or META longer than :data:`MAX_META`.
    """
    if len(prefix) != PREFIX_SIZE:
        raise MalformedInput(f"{name}: shorter than a header")
    magic, version, flags, meta_size = _PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise MalformedInput(f"{name}: not a sealed file")
    if version != CONTAINER_VERSION or flags != 0:
        raise MalformedInput(f"{name}: format version {version} with flags {flags:#x} is not known here")
    if meta_size > MAX_META:
        raise MalformedInput(f"{name}: META of {meta_size} bytes, at most {MAX_META}")
    size = PREFIX_SIZE + int(meta_size) + floe.HEADER_SIZE
    return size + -size % SEGMENT_ALIGNMENT


def decode_header(raw: bytes, name: str) -> RawHeader:
    """Split the bytes before the first segment into their parts.

    Raises:
        MalformedInput: not a sealed file, an unknown version or flag, META longer than :data:`MAX_META`, cut off, or
            padding that is not zero.
    """
    size = header_size(raw[:PREFIX_SIZE], name)
    if len(raw) != size:
        raise MalformedInput(f"{name}: header of {len(raw)} bytes, expected {size}")
    meta_size = int.from_bytes(raw[12:PREFIX_SIZE], "big")
    start = PREFIX_SIZE + meta_size
    end = start + floe.HEADER_SIZE
    if any(raw[end:]):
        raise MalformedInput(f"{name}: padding is not zero")
    return RawHeader(aad=raw[:start], floe_header=raw[start:end], size=size)


def parse_meta(raw: bytes, name: str) -> Meta:
    """Parse META, after the header's tag was verified.

    Raises:
        MalformedInput: not canonical JSON, an unknown key or a value out of range.
    """
    fields = Fields(documents.decode_json(raw, name), name)
    meta = Meta(
        file_id=fields.hex("file_id", size=FILE_ID_SIZE),
        path=fields.text("path"),
        model_id=ModelId(fields.text("model_id")),
        size=fields.integer("size", low=0, high=MAX_FILE_SIZE),
        segment_size=fields.integer("segment_size", low=SEGMENT_SIZES[0], high=SEGMENT_SIZES[-1]),
        media_type=fields.text("media_type", max_length=128),
    )
    fields.done()
    return meta


def header_failed(file: SealedFile, expected: str, seen: str) -> ProofFailed:
    """Return the error for a header that does not belong to ``file``."""
    return ProofFailed(Finding(id=FindingId.SEALED_HEADER, expected=expected, seen=seen, where=file.stored_path))
