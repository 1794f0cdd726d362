"""Check a sealed model without a key: are its files present, with the right size and name?

This finds accidents (a broken download, shards of two versions in one folder), not attacks: segments are not read, and
an attacker who can change a file can also change the content file that it is compared with.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from nodeseal.errors import MalformedInput, ProofFailed, Unavailable
from nodeseal.files import opened, read_exactly
from nodeseal.ids import ModelId
from nodeseal.sealed import container
from nodeseal.sealed.container import Layout
from nodeseal.sealed.content import Content, PlainFile, SealedFile

_CHUNK = 1 << 20


def glance(directory: Path, content: Content) -> Iterator[str]:
    """Yield for each file of a model, in order, what is wrong with it; an empty text if nothing is."""
    for file in content.files:
        try:
            with opened(directory / file.stored_path) as descriptor:
                path = directory / file.stored_path
                if isinstance(file, PlainFile):
                    yield _plain(file, descriptor, path)
                else:
                    yield _sealed(file, content.model_id, descriptor, path)
        except Unavailable:
            yield "absent, or not readable"
        except (MalformedInput, ProofFailed):
            yield "another file than was sealed"


def _plain(file: PlainFile, descriptor: int, path: Path) -> str:
    seen = os.fstat(descriptor).st_size
    if seen != file.size:
        return f"{seen:,} bytes, not {file.size:,}"
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_CHUNK))
    for offset in range(0, seen, _CHUNK):
        chunk = buffer[: min(_CHUNK, seen - offset)]
        read_exactly(descriptor, chunk, offset, path)
        digest.update(chunk)
    return "" if digest.hexdigest() == file.sha256 else "another content"


def _sealed(file: SealedFile, model_id: ModelId, descriptor: int, path: Path) -> str:
    seen = os.fstat(descriptor).st_size
    prefix = bytearray(min(container.PREFIX_SIZE, seen))
    read_exactly(descriptor, memoryview(prefix), 0, path)
    raw = bytearray(container.header_size(bytes(prefix), file.stored_path))
    expected = len(raw) + Layout(file.size, file.segment_size).body_size
    if seen != expected:
        return f"{seen:,} bytes, not {expected:,}"
    read_exactly(descriptor, memoryview(raw), 0, path)
    header = container.decode_header(bytes(raw), file.stored_path)
    container.parse_meta(header.raw_meta, file.stored_path).check(file, model_id)
    return "" if header.header_tag == file.header_tag else "another sealing of this file"
