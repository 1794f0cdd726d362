"""Rewrite the slots of a sealed model, and so the keys that open it, without touching its data.

The new slots come from the verifier, which may open an old one (``nodeseal reslot``). The file is replaced in one step,
so an interruption leaves the old slots, which still open. Rotations of one directory take turns.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from nodeseal.errors import MalformedInput
from nodeseal.files import PUBLIC, naming, replace_file
from nodeseal.ids import KeyId
from nodeseal.loader.folders import LocalFolder, read_document
from nodeseal.sealed.content import MAX_CONTENT, Content, parse_content
from nodeseal.sealed.paths import CONTENT_NAME, SLOTS_NAME
from nodeseal.sealed.slots import MAX_SLOTS_BYTES, Slot, Slots, parse_slots


def read_documents(directory: Path) -> tuple[Content, Slots]:
    """Return both documents of a sealed model. This needs no key and proves nothing.

    Raises:
        MalformedInput: a document does not parse, or the two belong to different models.
        Unavailable: a document cannot be read.
    """
    folder = LocalFolder(directory)
    content = parse_content(read_document(folder, CONTENT_NAME, MAX_CONTENT), str(directory / CONTENT_NAME))
    slots = parse_slots(read_document(folder, SLOTS_NAME, MAX_SLOTS_BYTES), str(directory / SLOTS_NAME))
    if slots.model_digest != content.digest:
        raise MalformedInput(
            f"{directory / SLOTS_NAME}: slots of another model, {slots.model_digest}",
            remedy="copy the sealed model again: its files belong together",
        )
    return content, slots


@contextmanager
def rotating(directory: Path) -> Iterator[Slots]:
    """Return the present slots, and lock them against other rotations until the block ends.

    Another running rotation is waited for: if both started from the same slots, the first result would be lost. The
    lock is the kernel's (flock(2)), so a killed rotation leaves no lock behind.

    Raises:
        MalformedInput: a document does not parse, or the two belong to different models.
        Unavailable: a document cannot be read, or the slots file cannot be written.
    """
    path = directory / SLOTS_NAME
    read_documents(directory)  # what is no sealed model is refused by what it says of that
    while True:
        with naming(path):
            file = path.open("r+b")  # NFS locks nothing that is open for reading only
        with file:
            if _lock(file, path):
                yield read_documents(directory)[1]
                return


def _lock(file: BinaryIO, path: Path) -> bool:
    """Wait for the lock and tell whether the file still has its name: the last holder may have replaced it."""
    with naming(path):
        fcntl.flock(file, fcntl.LOCK_EX)
        return os.path.samestat(os.fstat(file.fileno()), path.stat())


def rotated(old: Slots, new: Sequence[Slot], drop: Collection[KeyId] = ()) -> Slots:
    """Return the slots of ``new``, then those of ``old`` without the keys in ``drop``.

    Raises:
        MalformedInput: a key to drop has no slot; or the result has no slot, too many, or two for one version of a key.
    """
    missing = sorted(set(drop) - {slot.key_id for slot in old.slots})
    if missing:
        raise MalformedInput(f"no slot of {missing[0]} to drop", remedy="nodeseal inspect DIR shows the slots")
    kept = tuple(slot for slot in old.slots if slot.key_id not in drop)
    return parse_slots(Slots(old.model_digest, (*new, *kept)).encode())


def replace_slots(directory: Path, slots: Slots) -> None:
    """Replace the present slots in one durable step. Call it inside :func:`rotating`.

    Raises:
        Unavailable: the disk fails; the old slots are intact.
    """
    draft = directory / f".{SLOTS_NAME}.{secrets.token_hex(4)}"
    replace_file(directory / SLOTS_NAME, slots.encode(), draft, PUBLIC)
