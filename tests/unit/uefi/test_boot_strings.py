"""Strings that boot loaders measure."""

from __future__ import annotations

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.uefi.boot_strings import BootString, StringKind, decode_boot_string, decode_text


def wide(text: str) -> bytes:
    return text.encode("utf-16-le")


@pytest.mark.parametrize(
    ("data", "kind", "text"),
    [
        pytest.param(b"grub_cmd: ls -l\0", StringKind.COMMAND, "ls -l", id="a command of GRUB"),
        pytest.param(b"grub_cmd ls\0", StringKind.COMMAND, "ls", id="a command of GRUB in RHEL 8"),
        pytest.param(b"kernel_cmdline: /v quiet", StringKind.KERNEL, "/v quiet", id="a kernel command line"),
        pytest.param(b"grub_kernel_cmdline /v quiet", StringKind.KERNEL, "/v quiet", id="one of RHEL 8"),
        pytest.param(b"module_cmdline: m x", StringKind.MODULE, "m x", id="a module's command line"),
        pytest.param(wide(".linux\0"), StringKind.SECTION, ".linux", id="a section"),
        pytest.param(wide(".other\0"), StringKind.TEXT, ".other", id="a section that the stub does not measure"),
        pytest.param(b"MokListX\0", StringKind.MOK, "MokListX", id="a variable of shim"),
        pytest.param(b"MokList\0\xaf", StringKind.MOK, "MokList", id="a variable of an old shim"),
        pytest.param(wide("initrd=\\i ro\0"), StringKind.TEXT, "initrd=\\i ro", id="a command line of systemd-boot"),
        pytest.param(wide("quiet") + b"\0", StringKind.TEXT, "quiet", id="one that lost half of its NUL"),
        pytest.param(b"(hd0,gpt2)/vmlinuz", StringKind.TEXT, "(hd0,gpt2)/vmlinuz", id="a file"),
        pytest.param(b"grub_cmd:ls", StringKind.TEXT, "grub_cmd:ls", id="a prefix that is not followed by a space"),
    ],
)
def test_a_string_is_read_with_what_it_is_said_to_be(data: bytes, kind: StringKind, text: str) -> None:
    assert decode_boot_string(data) == BootString(kind, text)


@pytest.mark.parametrize("data", [b"", b"\0\0", b"\xff\xfe", b"\x1b[2J", wide("\x07bell"), b"\0\xd8x\0"])
def test_what_is_no_text_is_refused(data: bytes) -> None:
    assert decode_text(data) is None
    with pytest.raises(MalformedInput, match=f"boot string: {len(data)} bytes are no text"):
        decode_boot_string(data)


@pytest.mark.parametrize(("data", "text"), [(b"a", "a"), (b"\xe4\0", "ä"), (b"a\0", "a"), ("ä".encode(), "ä")])
def test_short_text_is_text(data: bytes, text: str) -> None:
    assert decode_text(data) == text


def test_text_may_have_tabs_and_lines() -> None:
    assert decode_text(b"a\n\tb") == "a\n\tb"
