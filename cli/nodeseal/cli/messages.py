"""What the verifier answers, as commands show it: plain values for programs, times for people."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from nodeseal.wire.messages import state_from_proto


def plain_message(message: Message) -> dict[str, object]:
    """Return a message as plain values; absent fields are shown with their defaults."""
    found = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    if "state" in found:
        found["state"] = state_from_proto(message.state)  # type: ignore[attr-defined]  # the field just found
    return dict(found)


def plain_messages(messages: Iterable[Message]) -> list[dict[str, object]]:
    """Return messages as plain values."""
    return list(map(plain_message, messages))


def show_time(timestamp: Timestamp) -> str:
    """Return a time in UTC to the second, or ``-`` if it is unset."""
    if timestamp.seconds == 0:
        return "-"
    return timestamp.ToDatetime(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
