"""The attachment of a proposal to seal a model's data key to other keys: its slots, and the keys' public files."""

from __future__ import annotations

from collections.abc import Sequence

from nodeseal.documents import Fields, decode_json, encode_base64, encode_json
from nodeseal.errors import MalformedInput
from nodeseal.sealed.model_key import MAX_MODEL_KEY_FILE, ModelKey, parse_model_key
from nodeseal.sealed.slots import MAX_SLOTS, MAX_SLOTS_BYTES, Slots, parse_slots


def encode_reslot(slots: Slots, keys: Sequence[ModelKey]) -> bytes:
    """Return the attachment."""
    return encode_json({"slots": encode_base64(slots.encode()), "keys": [encode_base64(key.encode()) for key in keys]})


def decode_reslot(raw: bytes) -> tuple[Slots, tuple[ModelKey, ...]]:
    """Parse the attachment.

    Raises:
        MalformedInput: it does not parse, names no key, or one twice.
    """
    fields = Fields(decode_json(raw, "reslot"), "reslot")
    slots = parse_slots(fields.base64("slots", max_size=MAX_SLOTS_BYTES), "slots")
    keys = tuple(
        parse_model_key(Fields({"key": item}, "keys").base64("key", max_size=MAX_MODEL_KEY_FILE), "key")
        for item in fields.items("keys", max_items=MAX_SLOTS)
    )
    fields.done()
    if not keys or len({named(key) for key in keys}) != len(keys):
        raise MalformedInput("reslot: names no key, or one twice")
    return slots, keys


def named(key: ModelKey) -> str:
    """Return a model key as proposals spell it."""
    return f"{key.key_id} version {key.key_version}"
