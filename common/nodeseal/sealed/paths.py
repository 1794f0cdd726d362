"""Paths of files in a sealed model: one spelling each, and none leaves the directory.

A path is relative, with ``/`` between its parts, in Unicode NFC, printable, and has no part ``.`` or ``..``. Two paths
of a model may not differ only in case or compatibility forms, and none may be a folder of another: such pairs are one
file on some file systems and two on others.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from nodeseal.errors import MalformedInput

CONTENT_NAME = "nodeseal.model.json"
SLOTS_NAME = "nodeseal.slots.json"
SEALED_SUFFIX = ".sealed"
MAX_MODEL_PATH = 1024
_MAX_PART_BYTES = 255 - len(SEALED_SUFFIX)
_RESERVED = {CONTENT_NAME, SLOTS_NAME}


def parse_path(text: str) -> str:
    """Return ``text`` if it is a path of a file in a sealed model.

    Raises:
        MalformedInput: the path is absolute, not normalised or too long, leaves the directory, has a backslash or a
            character that does not print, or is the name of one of nodeseal's own files.
    """
    parts = text.split("/")
    if (
        len(text) > MAX_MODEL_PATH
        or "\\" in text
        or not text.isprintable()
        or not unicodedata.is_normalized("NFC", text)
        or any(part in ("", ".", "..") or len(part.encode()) > _MAX_PART_BYTES for part in parts)
        or _fold(parts[0]) in _RESERVED
    ):
        raise MalformedInput(f"not a path of a file in a sealed model: {text[:80]!a}")
    return text


def refuse_collisions(stored: Iterable[str]) -> None:
    """Refuse names that are the same file, or file and folder, on some file system.

    Args:
        stored: paths on disk, with their suffixes.

    Raises:
        MalformedInput: two paths collide; the message names the second.
    """
    files: set[str] = set()
    folders: set[str] = set()
    for path in stored:
        name = _fold(path)
        parents = {name[:at] for at, letter in enumerate(name) if letter == "/"}
        if name in files or name in folders or parents & files:
            raise MalformedInput(f"two files of the model collide: {path[:80]!a}")
        files.add(name)
        folders |= parents


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
