"""Slots of sealed models as protobuf messages, which agent, verifier and command all exchange."""

from __future__ import annotations

from nodeseal.crypto.hpke import Wrapped
from nodeseal.errors import MalformedInput
from nodeseal.ids import parse_key_id
from nodeseal.sealed.slots import Slot, parse_suite
from nodeseal.v1 import key_release_pb2


def slot_to_proto(slot: Slot) -> key_release_pb2.Slot:
    """Return a slot's message."""
    return key_release_pb2.Slot(
        key_id=slot.key_id,
        key_version=slot.key_version,
        suite=slot.suite.value,
        enc=slot.sealed.enc,
        wrapped=slot.sealed.wrapped,
    )


def slot_from_proto(message: key_release_pb2.Slot) -> Slot:
    """Return the slot of a message.

    Raises:
        MalformedInput: a bad key id, suite or size.
    """
    suite = parse_suite(message.suite)
    if len(message.enc) != suite.enc_size:
        raise MalformedInput(f"slot: enc has {len(message.enc)} bytes, not {suite.enc_size}")
    return Slot(
        key_id=parse_key_id(message.key_id),
        key_version=message.key_version,
        suite=suite,
        sealed=Wrapped(message.enc, message.wrapped),
    )
