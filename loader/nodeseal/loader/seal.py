"""Seal a model: from a folder with files to a directory that opens only on attested nodes.

Sealing needs no secret and no network, only the public half of a model key. The data key is made here, wrapped into the
slots and forgotten. See ``docs/sealed-format.md``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from nodeseal.crypto import floe
from nodeseal.crypto.secret import wipe
from nodeseal.errors import MalformedInput
from nodeseal.files import naming, new_file, write_exactly, write_file
from nodeseal.ids import Digest, ModelId
from nodeseal.loader.crew import MAX_THREADS, Crew
from nodeseal.loader.source import Read
from nodeseal.loader.staging import check_space, pass_cache_by, staged
from nodeseal.sealed import container
from nodeseal.sealed.container import Layout, Meta
from nodeseal.sealed.content import DEFAULT_SEGMENT_SIZE, FILE_ID_SIZE, SEGMENT_SIZES, Content, PlainFile, SealedFile
from nodeseal.sealed.model_key import ModelKey
from nodeseal.sealed.paths import CONTENT_NAME, SEALED_SUFFIX, SLOTS_NAME, refuse_collisions
from nodeseal.sealed.slots import MAX_SLOTS, Slots

Progress = Callable[[int], None]
"""Called with the number of newly sealed bytes of plaintext, from several threads."""
_COPY_SIZE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """The facts of a content file besides its files.

    Attributes:
        model_id: name that all versions share.
        version: counter, from 1.
        created: time of sealing by the sealer's clock.
        segment_size: bytes of a full segment, one of :data:`~nodeseal.sealed.content.SEGMENT_SIZES`.
    """

    model_id: ModelId
    version: int
    created: datetime
    segment_size: int = DEFAULT_SEGMENT_SIZE


class Original(Protocol):
    """Interface of a file to seal or copy."""

    @property
    def path(self) -> str:
        """Path in the model."""
        ...

    @property
    def size(self) -> int:
        """Bytes of plaintext."""
        ...

    @property
    def sealed(self) -> bool:
        """Whether it becomes ciphertext."""
        ...

    def reading(self) -> AbstractContextManager[Read]:
        """Open the file and return the function that reads it. A block without an error has read the right bytes."""
        ...


def seal_model(
    files: Sequence[Original],
    destination: Path,
    keys: Sequence[ModelKey],
    label: Label,
    *,
    progress: Progress = lambda _: None,
) -> Content:
    """Seal ``files`` into the new directory ``destination``, which appears when all files are on the disk.

    Args:
        files: from :func:`nodeseal.loader.source.survey`, in the order of the content file.
        destination: the new directory; must not exist.
        keys: public keys; each of them alone can open the model.
        label: the facts of the content file besides its files.
        progress: called with the number of newly sealed bytes.

    Returns:
        The content; register its digest with the verifier.

    Raises:
        MalformedInput: no key, two keys of one id and version, names that collide, or ``destination`` exists.
        Unavailable: a file cannot be read or changes during the work, or the disk is full or too small; nothing is
            left behind.
    """
    _check(files, keys, label)
    check_space(destination.parent, sum(_stored_size(file, label) for file in files))
    data_key = bytearray(os.urandom(floe.KEY_SIZE))
    try:
        with staged(destination) as folder, Crew(_threads()) as crew:
            job = _Job(folder=folder, data_key=data_key, label=label, progress=progress, crew=crew)
            sealed = tuple(_add_all(files, job))
            created = label.created.astimezone(UTC).replace(microsecond=0)
            content = Content(model_id=label.model_id, version=label.version, created=created, files=sealed)
            slots = Slots(content.digest, tuple(key.slot(content.digest, data_key) for key in keys))
            write_file(folder / SLOTS_NAME, slots.encode())
            write_file(folder / CONTENT_NAME, content.encode())
    finally:
        wipe(data_key)
    return content


def _check(files: Sequence[Original], keys: Sequence[ModelKey], label: Label) -> None:
    if not 1 <= len(keys) <= MAX_SLOTS or len({(key.key_id, key.key_version) for key in keys}) != len(keys):
        raise MalformedInput(f"sealing needs 1 to {MAX_SLOTS} different keys")
    if label.segment_size not in SEGMENT_SIZES:
        raise MalformedInput(f"segment size {label.segment_size} is not one of {', '.join(map(str, SEGMENT_SIZES))}")
    refuse_collisions([file.path + SEALED_SUFFIX * file.sealed for file in files])
    refuse_collisions([file.path for file in files])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """The facts that all files of a model share while they are sealed."""

    folder: Path
    data_key: bytearray = field(repr=False)
    label: Label
    progress: Progress
    crew: Crew


def _stored_size(file: Original, label: Label) -> int:
    """Return the least bytes that the file takes on the disk."""
    return container.SEGMENT_ALIGNMENT + Layout(file.size, label.segment_size).body_size if file.sealed else file.size


def _threads() -> int:
    """Return two threads for each processor: while one waits for the disk, the other encrypts."""
    return min(MAX_THREADS, 2 * len(os.sched_getaffinity(0)))


def _add_all(files: Sequence[Original], job: _Job) -> Iterator[SealedFile | PlainFile]:
    """Add files of one segment side by side, because each waits for the disk. Add others one by one, by all threads."""
    small = [file for file in files if not file.sealed or Layout(file.size, job.label.segment_size).count == 1]
    added: dict[str, SealedFile | PlainFile] = {}

    def add(number: int, _: memoryview) -> None:
        added[small[number].path] = _add(small[number], job)

    job.crew.for_each(range(len(small)), 1, add)
    for file in files:
        yield added.get(file.path) or _add(file, job)


def _add(file: Original, job: _Job) -> SealedFile | PlainFile:
    parent = (job.folder / file.path).parent
    with naming(parent):
        parent.mkdir(parents=True, exist_ok=True)
    with file.reading() as read:
        return _Sealer(file, read, job).write() if file.sealed else _copy(file, read, job)


def _copy(file: Original, read: Read, job: _Job) -> PlainFile:
    digest, buffer = hashlib.sha256(), memoryview(bytearray(min(_COPY_SIZE, file.size)))
    with new_file(job.folder / file.path) as target:
        for offset in range(0, file.size, _COPY_SIZE):
            chunk = buffer[: min(_COPY_SIZE, file.size - offset)]
            read(chunk, offset)
            digest.update(chunk)
            write_exactly(target, chunk, offset, job.folder / file.path)
            job.progress(len(chunk))
    return PlainFile(path=file.path, size=file.size, sha256=Digest(digest.hexdigest()))


class _Sealer:
    """Seals one file. Each thread encrypts and writes its own segments."""

    def __init__(self, file: Original, read: Read, job: _Job) -> None:
        self._file = file
        self._read = read
        self._job = job
        self._layout = Layout(file.size, job.label.segment_size)
        self._tags = bytearray(self._layout.count * floe.TAG_SIZE)
        self._meta = Meta(
            file_id=os.urandom(FILE_ID_SIZE),
            path=file.path,
            model_id=job.label.model_id,
            size=file.size,
            segment_size=job.label.segment_size,
            media_type=_media_type(file.path),
        )
        self._aad = container.associated_data(self._meta)
        self._floe = floe.Encryptor(job.data_key, self._aad, floe.Parameters(job.label.segment_size))

    def write(self) -> SealedFile:
        """Write the container into the job's folder and return its entry for the content file."""
        path = self._job.folder / (self._file.path + SEALED_SUFFIX)
        header = container.encode_header(self._aad, self._floe.header)
        size = len(header) + self._layout.body_size
        try:
            with new_file(path) as target:
                with naming(path):
                    os.posix_fallocate(target, 0, _padded(size))
                write_exactly(target, memoryview(header), 0, path)
                pass_cache_by(target)
                self._write_segments(target, path, len(header))
                with naming(path):
                    os.ftruncate(target, size)
        finally:
            self._floe.close()
        return SealedFile(
            path=self._meta.path,
            size=self._meta.size,
            file_id=self._meta.file_id,
            segment_size=self._meta.segment_size,
            header_tag=self._floe.header[-floe.HEADER_TAG_SIZE :],
            tags_digest=Digest(hashlib.sha256(self._tags).hexdigest()),
        )

    def _write_segments(self, target: int, path: Path, start: int) -> None:
        segment_size, capacity, last = self._layout.segment_size, self._layout.capacity, self._layout.count - 1

        def seal(position: int, buffer: memoryview) -> None:
            offset = position * capacity
            size = min(capacity, self._file.size - offset)
            out, chunk = buffer[: size + floe.SEGMENT_OVERHEAD], buffer[segment_size : segment_size + size]
            self._read(chunk, offset)
            self._floe.encrypt_into(position, chunk, out, final=position == last)
            self._tags[position * floe.TAG_SIZE : (position + 1) * floe.TAG_SIZE] = out[-floe.TAG_SIZE :]
            # what is behind a short segment is older ciphertext, and cut off in the end
            write_exactly(target, buffer[: _padded(len(out))], start + position * segment_size, path)
            self._job.progress(size)

        self._job.crew.for_each(range(self._layout.count), segment_size + capacity, seal)


def _padded(size: int) -> int:
    return size + -size % container.SEGMENT_ALIGNMENT


def _media_type(path: str) -> str:
    return "application/x-safetensors" if path.endswith(".safetensors") else "application/octet-stream"
