"""Tagged events and containers of them."""

from __future__ import annotations

import struct

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.uefi.tagged_event import MAX_TAGS, TaggedEvent, decode_tagged_event, decode_tagged_events
from support.codec import assert_exact

BOUNDARY = 0x40010001


def tagged(tag: int, data: bytes) -> bytes:
    return struct.pack("<II", tag, len(data)) + data


def test_a_tagged_event_is_read() -> None:
    event = decode_tagged_event(tagged(0x8F3B22EC, b"Linux initrd\0"))
    assert event == TaggedEvent(0x8F3B22EC, b"Linux initrd\0")
    assert (event.name, event.is_container) == ("initrd (Linux EFI stub)", False)
    assert TaggedEvent(7, b"").name == "tag 0x00000007"


SIPA = {
    0x4001: {1: "trust boundary", 2: "ELAM drivers", 3: "loaded module", 5: "KSR"},
    0xC001: {4: "trust point"},
    0x0002: {1: "information", 2: "boot counter", 3: "transfer of control", 4: "return of application"},
    0x0004: {1: "boot debugging", 2: "boot revocation list"},
    0x0005: {1: "kernel debugging", 2: "code integrity", 3: "test signing", 5: "safe mode", 6: "Windows PE"},
    0x0006: {1: "no authority", 2: "public key of authority"},
    0x0007: {1: "file path", 2: "image size", 3: "hash algorithm", 4: "Authenticode hash", 7: "image base"},
    0x8008: {1: "quote", 2: "signature of quote", 3: "AIK", 4: "digest of AIK"},
}
"""By category and number, as wbcl.h composes them."""


@pytest.mark.parametrize(
    ("tag", "name"), [(high << 16 | low, name) for high, names in SIPA.items() for low, name in names.items()]
)
def test_tags_of_windows_have_names(tag: int, name: str) -> None:
    assert TaggedEvent(tag, b"").name == name


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        (0x8F3B22ED, "load options (Linux EFI stub)"),
        (0xF5BC582A, "loader.conf (systemd-boot)"),
        (0x6C46F751, "devicetree addon (systemd-stub)"),
        (0x49DFFE0F, "initrd addon (systemd-stub)"),
        (0xDAC08E1A, "microcode addon (systemd-stub)"),
    ],
)
def test_tags_of_linux_and_systemd_have_names(tag: int, name: str) -> None:
    assert TaggedEvent(tag, b"").name == name


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
