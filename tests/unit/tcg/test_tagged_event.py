"""Tagged events and containers of them."""

from __future__ import annotations

import struct

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.tcg.tagged_event import MAX_TAGS, TaggedEvent, decode_tagged_event, decode_tagged_events
from support.codec import assert_exact

BOUNDARY = 0x40010001


def tagged(tag: int, data: bytes) -> bytes:
    return struct.pack("<II", tag, len(data)) + data


def test_a_tagged_event_is_read() -> None:
    event = decode_tagged_event(tagged(0x8F3B22EC, b"Linux initrd\0"))
    assert event == TaggedEvent(0x8F3B22EC, b"Linux initrd\0")
    assert (event.name, event.is_container) == ("initrd (Linux EFI stub)", False)
    assert TaggedEvent(7, b"").name == "tag 0x00000007"


def test_a_tagged_event_cut_anywhere_or_with_a_byte_more_is_refused() -> None:
    assert_exact(decode_tagged_event, tagged(7, b"hello"))


def test_a_container_holds_tagged_events() -> None:
    container = decode_tagged_event(tagged(BOUNDARY, tagged(0x00020002, b"x") + tagged(0xC0010004, b"")))
    assert container.is_container
    first, second = decode_tagged_events(container.data)
    assert (first.name, first.is_container) == ("boot counter", False)
    assert (second.name, second.is_container) == ("trust point", True)
    assert decode_tagged_events(b"") == ()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(tagged(1, b"x") + b"\1", "header is cut off", id="half an event"),
        pytest.param(struct.pack("<II", 1, 2**32 - 1), "data is cut off", id="an event of 4 GiB"),
        pytest.param(bytes(8 * (MAX_TAGS + 1)), "more than 4096 events", id="too many events"),
    ],
)
def test_containers_that_do_not_end_well_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(MalformedInput, match=f"tagged events: .*{reason}"):
        decode_tagged_events(data)
