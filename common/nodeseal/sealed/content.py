"""``nodeseal.model.json``: the files of a sealed model. Its SHA-256 is the *model digest*.

It is canonical JSON (RFC 8785), so that a content has one digest. It alone decides which files must be ciphertext. It
says nothing about its author: a verifier releases keys only for digests that were registered with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from nodeseal import documents
from nodeseal.crypto import floe
from nodeseal.documents import Fields
from nodeseal.errors import MalformedInput
from nodeseal.ids import Digest, ModelId, digest_of, parse_digest, parse_model_id
from nodeseal.sealed.paths import MAX_MODEL_PATH, SEALED_SUFFIX, parse_path, refuse_collisions

CONTENT_FORMAT = "nodeseal/model/1"
MAX_CONTENT = 3 << 20
"""Bytes; below the 4 MiB that gRPC accepts by default."""
MAX_FILES = 8192
MAX_FILE_SIZE = 1 << 50
MAX_MODEL_VERSION = (1 << 31) - 1
SEGMENT_SIZES = (1 << 18, 1 << 20, 1 << 22, 1 << 24)
DEFAULT_SEGMENT_SIZE = 1 << 20
FILE_ID_SIZE = 16
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedFile:
    """A file that is stored as ciphertext under ``path`` plus :data:`~nodeseal.sealed.paths.SEALED_SUFFIX`.

    Attributes:
        path: path of the plaintext.
        size: bytes of plaintext.
        file_id: 16 random bytes.
        segment_size: bytes of a full FLOE segment, one of :data:`SEGMENT_SIZES`.
        header_tag: tag of the FLOE header.
        tags_digest: SHA-256 over the tags of all segments, in order.
    """

    path: str
    size: int
    file_id: bytes
    segment_size: int
    header_tag: bytes
    tags_digest: Digest

    @property
    def stored_path(self) -> str:
        """Path of the ciphertext."""
        return self.path + SEALED_SUFFIX

    def to_json(self) -> dict[str, object]:
        """Return the entry of ``files``."""
        return {
            "file_id": self.file_id.hex(),
            "header_tag": self.header_tag.hex(),
            "kind": "sealed",
            "path": self.path,
            "segment_size": self.segment_size,
            "size": self.size,
            "tags_digest": self.tags_digest,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainFile:
    """A file that stays readable. Its SHA-256 protects it from changes."""

    path: str
    size: int
    sha256: Digest

    @property
    def stored_path(self) -> str:
        """Path of the file."""
        return self.path

    def to_json(self) -> dict[str, object]:
        """Return the entry of ``files``."""
        return {"kind": "plain", "path": self.path, "sha256": self.sha256, "size": self.size}


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A model as it was sealed.

    Attributes:
        model_id: name that all versions share.
        version: counter; a verifier may refuse a lower one.
        created: time of sealing by the sealer's clock, in whole seconds of UTC.
        files: files in ascending order of their paths; at least one is sealed.
    """

    model_id: ModelId
    version: int
    created: datetime
    files: tuple[SealedFile | PlainFile, ...]

    def encode(self) -> bytes:
        """Return the bytes of ``nodeseal.model.json``."""
        return documents.encode_json(
            {
                "created": self.created.astimezone(UTC).strftime(_TIME),
                "files": [file.to_json() for file in self.files],
                "format": CONTENT_FORMAT,
                "model_id": self.model_id,
                "version": self.version,
            }
        )

    @property
    def digest(self) -> Digest:
        """The model digest: SHA-256 of :meth:`encode`, which returns the bytes that were parsed."""
        return digest_of(self.encode())

    @property
    def size(self) -> int:
        """Bytes of plaintext in all files."""
        return sum(file.size for file in self.files)

    def sealed(self) -> Iterator[SealedFile]:
        """Yield the files that are stored as ciphertext."""
        return (file for file in self.files if isinstance(file, SealedFile))


def parse_content(raw: bytes, source: str = "nodeseal.model.json") -> Content:
    """Parse the bytes of ``nodeseal.model.json``.

    Raises:
        MalformedInput: not canonical JSON, an unknown key, a wrong path, files out of order or colliding, a count or
            size out of range, or no sealed file.
    """
    if len(raw) > MAX_CONTENT:
        raise MalformedInput(f"{source}: {len(raw)} bytes, at most {MAX_CONTENT}")
    fields = Fields(documents.decode_json(raw, source), source)
    fields.constant("format", CONTENT_FORMAT)
    content = Content(
        model_id=parse_model_id(fields.text("model_id")),
        version=fields.integer("version", low=1, high=MAX_MODEL_VERSION),
        created=_parse_time(fields, "created"),
        files=tuple(_parse_file(item, source) for item in fields.items("files", max_items=MAX_FILES)),
    )
    fields.done()
    _check_files(content, source)
    return content


def _check_files(content: Content, source: str) -> None:
    paths = [file.path for file in content.files]
    if paths != sorted(paths):
        raise MalformedInput(f"{source}: files are not in ascending order of their paths")
    refuse_collisions([file.stored_path for file in content.files])
    refuse_collisions(paths)
    if not any(content.sealed()):
        raise MalformedInput(f"{source}: no file is sealed")


def _parse_file(item: object, source: str) -> SealedFile | PlainFile:
    fields = Fields(item, f"{source}, files")
    kind = fields.text("kind")
    path = parse_path(fields.text("path", max_length=MAX_MODEL_PATH))
    size = fields.integer("size", low=0, high=MAX_FILE_SIZE)
    file: SealedFile | PlainFile
    if kind == "sealed":
        file = SealedFile(
            path=path,
            size=size,
            file_id=fields.hex("file_id", size=FILE_ID_SIZE),
            segment_size=_parse_segment_size(fields),
            header_tag=fields.hex("header_tag", size=floe.HEADER_TAG_SIZE),
            tags_digest=parse_digest(fields.text("tags_digest"), "tags_digest"),
        )
    elif kind == "plain":
        file = PlainFile(path=path, size=size, sha256=parse_digest(fields.text("sha256"), "sha256"))
    else:
        raise fields.wrong("kind", "'sealed' or 'plain'")
    fields.done()
    return file


def _parse_segment_size(fields: Fields) -> int:
    size = fields.integer("segment_size", low=SEGMENT_SIZES[0], high=SEGMENT_SIZES[-1])
    if size not in SEGMENT_SIZES:
        raise fields.wrong("segment_size", f"one of {', '.join(map(str, SEGMENT_SIZES))}")
    return size


def _parse_time(fields: Fields, key: str) -> datetime:
    text = fields.text(key, max_length=20)
    try:
        when = datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError as error:
        raise fields.wrong(key, "a time such as 2026-01-31T00:00:00Z") from error
    if when.strftime(_TIME) != text:
        raise fields.wrong(key, "a time such as 2026-01-31T00:00:00Z")
    return when
