"""Files that must be whole or absent: written under a temporary name, synchronised, then linked into place."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from nodeseal.errors import MalformedInput, Unavailable

PRIVATE = 0o600
PUBLIC = 0o644


def write_new(path: Path, content: bytes, mode: int = PRIVATE) -> None:
    """Make ``path`` with ``content``, durably.

    Raises:
        MalformedInput: it exists already; nothing is overwritten.
        Unavailable: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _write(draft, content, mode)
        try:
            os.link(draft, path)
        finally:
            draft.unlink()
        sync_folder(path.parent)
    except FileExistsError as error:
        raise MalformedInput(f"{path}: exists already") from error
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}") from error


def _write(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_file(path: Path, what: str) -> bytes:
    """Return the content of a file.

    Raises:
        MalformedInput: it cannot be read; the message says what it was for.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise MalformedInput(f"{what}: {path}: {error.strerror}") from error


def read_private(path: Path, what: str) -> bytes:
    """Return the content of a secret file that nobody but its owner can read.

    Raises:
        MalformedInput: it cannot be read, or others may read or change it.
    """
    content = read_file(path, what)
    if path.stat().st_mode & 0o077:
        raise MalformedInput(f"{what}: {path}: others than its owner may use it", remedy=f"chmod 600 {path}")
    return content
