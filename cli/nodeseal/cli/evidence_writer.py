"""Takes the files of an evidence folder from the verifier and writes them, whole or not at all."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.evidence_folder import SIZES
from nodeseal.v1 import admin_pb2


def collect_files(parts: Iterable[admin_pb2.EvidencePart]) -> dict[str, bytes]:
    """Put files together.

    Raises:
        MalformedInput: a file that no evidence folder has, or one that is larger than it may be.
    """
    files: dict[str, bytearray] = {}
    for part in parts:
        content = files.setdefault(part.name, bytearray())
        content += part.data
        if len(content) > SIZES.get(part.name, -1):
            raise MalformedInput(f"evidence: {part.name[:80]!a} is no file of an evidence folder, or too large")
    return {name: bytes(content) for name, content in files.items()}


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make ``folder`` with ``files``, readable by its owner alone.

    Raises:
        Unavailable: it exists, or cannot be written; then nothing is left behind.
    """
    draft = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
    try:
        draft.mkdir(mode=0o700, parents=True)
        try:
            for name, content in files.items():
                (draft / name).write_bytes(content)
            draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise Unavailable(f"{folder}: {error.strerror}") from error
