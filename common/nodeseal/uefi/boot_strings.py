"""Strings that boot loaders measure: commands of GRUB, kernel command lines, names of sections and of Mok lists.

==========================  ===  ==================================================================================
who                         PCR  what
==========================  ===  ==================================================================================
GRUB                        8    ``grub_cmd: …``, ``kernel_cmdline: …``, ``module_cmdline: …``; the digest covers what
                                 follows the first space (grub-core/commands/tpm.c)
GRUB                        9    the path of a file; the digest is of the file
shim                        14   ``MokList``, ``MokListX``, ``MokListTrusted``; the digest is of the variable (mok.c)
systemd-boot, systemd-stub  12   a kernel command line in UTF-16; the digest is of it
systemd-stub                11   the name of a section in UTF-16, twice: the digests are of the name in ASCII and of the
                                 section (systemd: docs/TPM2_PCR_MEASUREMENTS.md)
==========================  ===  ==================================================================================

GRUB does not hash the word that names the kind of a string, so the kind is a claim.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from nodeseal.errors import MalformedInput
from nodeseal.uefi.pe import MEASURED_SECTIONS

_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""Characters of binary data; text may have tabs and several lines."""
MOK_LISTS: Final = ("MokList", "MokListX", "MokListTrusted")
"""Variables that shim measures into PCR 14."""


class StringKind(Enum):
    """Kind of a measured string, as the boot loader claims it."""

    COMMAND = "grub command"
    KERNEL = "kernel command line"
    MODULE = "module command line"
    SECTION = "section"
    MOK = "variable of shim"
    TEXT = "text"


_PREFIXES: Final = {
    "grub_cmd": StringKind.COMMAND,
    "kernel_cmdline": StringKind.KERNEL,
    "grub_kernel_cmdline": StringKind.KERNEL,
    "module_cmdline": StringKind.MODULE,
}
_WHOLE: Final = dict.fromkeys(MEASURED_SECTIONS, StringKind.SECTION) | dict.fromkeys(MOK_LISTS, StringKind.MOK)


@dataclass(frozen=True, slots=True)
class BootString:
    """A measured string.

    Attributes:
        claimed_kind: kind of the string, as the boot loader claims it.
        text: the string, without the word that names its kind.
    """

    claimed_kind: StringKind
    text: str


def decode_boot_string(data: bytes) -> BootString:
    """Decode the data of an EV_IPL event that is text.

    Raises:
        MalformedInput: not text.
    """
    text = decode_text(data)
    if text is None:
        raise MalformedInput(f"boot string: {len(data)} bytes are no text")
    prefix, _, rest = text.partition(" ")
    kind = _PREFIXES.get(prefix.removesuffix(":"))
    return BootString(kind, rest) if kind else BootString(_WHOLE.get(text, StringKind.TEXT), text)


def decode_text(data: bytes) -> str | None:
    """Return text in UTF-8 or UTF-16 without final NULs. ``None``: the data is empty or not text.

    Old shims log one more byte behind the string's NUL (0xAF or 0xCC, the filler of memory). It is dropped.
    """
    if data[-2:-1] == b"\0" and data[-1:] in (b"\xaf", b"\xcc"):
        data = data[:-2]
    wide = len(data) > 1 and any(data[::2]) and not any(data[1::2])
    try:
        text = data[: len(data) & -2].decode("utf-16-le") if wide else data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    text = text.rstrip("\0")
    return text if text and not _CONTROLS.search(text) else None
