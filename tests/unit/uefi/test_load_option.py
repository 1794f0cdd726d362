"""Boot options and their order."""

from __future__ import annotations

import struct

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.uefi.device_path import DevicePath
from nodeseal.uefi.load_option import MAX_DESCRIPTION, BootOrder, LoadOption, decode_boot_order, decode_load_option
from support.uefi import END, file_path, load_option

PATH = file_path("\\a.efi")


@pytest.mark.parametrize(
    ("raw", "active", "description", "optional"),
    [
        pytest.param(load_option("Debian", PATH), True, "Debian", b"", id="a usual one"),
        pytest.param(load_option("Größe", PATH, attributes=0x108), False, "Größe", b"", id="one that is not tried"),
        pytest.param(load_option("x" * 1024, PATH), True, "x" * 1024, b"", id="a description as long as can be"),
        pytest.param(load_option("", PATH, optional=b"quiet"), True, "", b"quiet", id="with data for the image"),
        pytest.param(load_option("x", PATH + file_path("\\b.efi")), True, "x", b"", id="with a second path"),
    ],
)
def test_an_option_is_read(raw: bytes, active: bool, description: str, optional: bytes) -> None:  # noqa: FBT001 - a case
    path = DevicePath("\\a.efi", "\\a.efi")
    assert decode_load_option(raw) == LoadOption(active=active, description=description, path=path, optional=optional)


def test_an_option_cut_anywhere_is_refused() -> None:
    raw = load_option("Debian", PATH)
    for size in range(len(raw)):
        with pytest.raises(MalformedInput, match=r"boot option: (header|description|path) is cut off"):
            decode_load_option(raw[:size])


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(load_option("x" * (MAX_DESCRIPTION + 1), END), "description is too long", id="a novel"),
        pytest.param(struct.pack("<IH", 1, 0) + b"\0\xd8\0\0", "description is no UTF-16", id="half a pair"),
        pytest.param(load_option("x", b"\4\4\3\0"), "device path: a node without end", id="a path without end"),
    ],
)
def test_what_is_no_option_is_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(MalformedInput, match=reason):
        decode_load_option(raw)


def test_the_boot_order_names_options() -> None:
    assert decode_boot_order(b"\1\0\x1a\0") == BootOrder(("Boot0001", "Boot001A"))
    assert decode_boot_order(b"") == BootOrder(())
    with pytest.raises(MalformedInput, match="boot order: its last number is cut off"):
        decode_boot_order(b"\1\0\2")
