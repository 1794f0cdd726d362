"""``nodeseal.slots.json``: the keys that open a sealed model. A key rotation rewrites it and leaves the data as it is.

The slots need not be trusted: a slot opens only with its model key, for its model and its key id
(:mod:`nodeseal.crypto.hpke`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nodeseal import documents
from nodeseal.crypto.hpke import WRAPPED_SIZE, Suite, Wrapped
from nodeseal.documents import Fields
from nodeseal.errors import MalformedInput
from nodeseal.ids import MAX_KEY_VERSION, Digest, KeyId, parse_digest, parse_key_id

SLOTS_FORMAT = "nodeseal/slots/1"
MAX_SLOTS = 64
MAX_SLOTS_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """The data key, sealed to one version of one model key.

    Attributes:
        key_id: name of the model key.
        key_version: counter of the key's rotations, from 1.
        suite: HPKE suite of the model key.
        sealed: encapsulated key and wrapped data key.
    """

    key_id: KeyId
    key_version: int
    suite: Suite
    sealed: Wrapped = field(repr=False)

    def to_json(self) -> dict[str, object]:
        """Return the entry of ``slots``; ``Slot`` of ``io.nodeseal.Keys`` has the same form."""
        return {
            "enc": documents.encode_base64(self.sealed.enc),
            "key_id": self.key_id,
            "key_version": self.key_version,
            "suite": self.suite.value,
            "wrapped": documents.encode_base64(self.sealed.wrapped),
        }


@dataclass(frozen=True, slots=True)
class Slots:
    """All slots of one model."""

    model_digest: Digest
    slots: tuple[Slot, ...]

    def encode(self) -> bytes:
        """Return the bytes of ``nodeseal.slots.json``."""
        return documents.encode_json(
            {
                "format": SLOTS_FORMAT,
                "model_digest": self.model_digest,
                "slots": [slot.to_json() for slot in self.slots],
            }
        )


def parse_slots(raw: bytes, source: str = "nodeseal.slots.json") -> Slots:
    """Parse the bytes of ``nodeseal.slots.json``.

    Raises:
        MalformedInput: not canonical JSON, an unknown key or suite, a length that does not fit the suite, no slot, too
            many, or two for one version of a key.
    """
    if len(raw) > MAX_SLOTS_BYTES:
        raise MalformedInput(f"{source}: {len(raw)} bytes, at most {MAX_SLOTS_BYTES}")
    fields = Fields(documents.decode_json(raw, source), source)
    fields.constant("format", SLOTS_FORMAT)
    digest = parse_digest(fields.text("model_digest"), "model_digest")
    slots = parse_slot_list(fields.items("slots", max_items=MAX_SLOTS), source)
    fields.done()
    return Slots(digest, slots)


def parse_slot_list(items: tuple[object, ...], source: str) -> tuple[Slot, ...]:
    """Parse the list under ``slots``, in a file or in a call of ``io.nodeseal.Keys.Open``.

    Raises:
        MalformedInput: an unknown key or suite, a length that does not fit the suite, no slot, too many, or two for one
            version of a key.
    """
    slots = tuple(parse_slot(item, f"{source}, slots") for item in items)
    if not 1 <= len(slots) <= MAX_SLOTS:
        raise MalformedInput(f"{source}: {len(slots)} slots, from 1 to {MAX_SLOTS}")
    if len({(slot.key_id, slot.key_version) for slot in slots}) != len(slots):
        raise MalformedInput(f"{source}: two slots for one version of a key")
    return slots


def parse_slot(value: object, source: str) -> Slot:
    """Parse one slot from the JSON value of :meth:`Slot.to_json`.

    Raises:
        MalformedInput: an unknown key or suite, or a length that does not fit the suite.
    """
    fields = Fields(value, source)
    suite = parse_suite(fields.text("suite"))
    slot = Slot(
        key_id=parse_key_id(fields.text("key_id")),
        key_version=fields.integer("key_version", low=1, high=MAX_KEY_VERSION),
        suite=suite,
        sealed=Wrapped(
            _exactly(fields, "enc", suite.enc_size),
            _exactly(fields, "wrapped", WRAPPED_SIZE),
        ),
    )
    fields.done()
    return slot


def parse_suite(text: str) -> Suite:
    """Return the suite with the name ``text``.

    Raises:
        MalformedInput: no suite has this name.
    """
    try:
        return Suite(text)
    except ValueError as error:
        remedy = f"it is one of {'; '.join(suite.value for suite in Suite)}"
        raise MalformedInput(f"unknown suite: {text[:80]!a}", remedy=remedy) from error


def _exactly(fields: Fields, key: str, size: int) -> bytes:
    raw = fields.base64(key, max_size=size)
    if len(raw) != size:
        raise fields.wrong(key, f"{size} bytes in base64")
    return raw
