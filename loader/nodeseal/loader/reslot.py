"""Who can open a sealed model, rewritten without touching its data.

The new slots come from whoever may open an old one: the verifier (``nodeseal reslot``). The file is replaced in one
step, so an interruption leaves the old slots, which still open.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from pathlib import Path

from nodeseal.errors import MalformedInput
from nodeseal.ids import KeyId
from nodeseal.loader.files import naming, read_small
from nodeseal.loader.staging import sync_folder, write_file
from nodeseal.sealed.content import MAX_CONTENT, Content, parse_content
from nodeseal.sealed.paths import CONTENT_NAME, SLOTS_NAME
from nodeseal.sealed.slots import MAX_SLOTS_BYTES, Slot, Slots, parse_slots


def read_documents(directory: Path) -> tuple[Content, Slots]:
    """Return what a sealed model says of itself, which needs no key and proves nothing.

    Raises:
        MalformedInput: one of the two documents does not parse, or they are of different models.
        Unavailable: one cannot be read.
    """
    content_path, slots_path = directory / CONTENT_NAME, directory / SLOTS_NAME
    content = parse_content(read_small(content_path, MAX_CONTENT), str(content_path))
    slots = parse_slots(read_small(slots_path, MAX_SLOTS_BYTES), str(slots_path))
    if slots.model_digest != content.digest:
        raise MalformedInput(f"{slots_path}: slots of another model, {slots.model_digest}")
    return content, slots


def rotated(old: Slots, new: Sequence[Slot], drop: Collection[KeyId] = ()) -> Slots:
    """Return ``old`` with the slots of ``new`` first and those of the keys in ``drop`` left out.

    Raises:
        MalformedInput: a key to drop has no slot, or the result is no slots file: too many, or two for one key.
    """
    missing = sorted(set(drop) - {slot.key_id for slot in old.slots})
    if missing:
        raise MalformedInput(f"no slot of {missing[0]} to drop", remedy="nodeseal inspect DIR shows the slots")
    kept = tuple(slot for slot in old.slots if slot.key_id not in drop)
    return parse_slots(Slots(old.model_digest, (*new, *kept)).encode())


def replace_slots(directory: Path, slots: Slots) -> None:
    """Put ``slots`` in the place of those that are there, at once and durably.

    Raises:
        Unavailable: the disk refuses; the old slots are intact.
    """
    draft = directory / f".{SLOTS_NAME}.{secrets.token_hex(4)}"
    try:
        write_file(draft, slots.encode())
        with naming(directory / SLOTS_NAME):
            draft.replace(directory / SLOTS_NAME)
            sync_folder(directory)
    finally:
        draft.unlink(missing_ok=True)
