"""What the kernel shows of this machine: which boot it is, whose firmware, and where its logs lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from nodeseal.errors import MalformedInput, Unavailable

_MAX_FACT: Final = 128
"""Characters of one fact that claims may hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFiles:
    """Paths at which the kernel shows these facts. All files but the boot id may be absent.

    Attributes:
        boot_id: the random id of this boot.
        boot_log: what firmware and boot loaders measured.
        ima_log: what the kernel's Integrity Measurement Architecture measured since, in binary.
        firmware: folder with ``bios_vendor`` and ``bios_version``, SMBIOS' names of the firmware.
    """

    boot_id: Path
    boot_log: Path
    ima_log: Path
    firmware: Path


@dataclass(frozen=True, slots=True)
class Firmware:
    """Maker and version of the firmware as SMBIOS (type 0) names them; empty: not known."""

    vendor: str
    version: str


def read_boot_id(path: Path) -> str:
    """Return the kernel's id of this boot: a UUID in lower case (random(4)).

    Raises:
        MalformedInput: the file holds something else.
        Unavailable: it cannot be read.
    """
    try:
        text = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        remedy = "let boot_id_file name a file that the agent can read, or leave that key out"
        raise Unavailable(f"{path}: boot_id_file: {error}", remedy=remedy) from error
    if not _is_uuid(text):
        remedy = "let boot_id_file name a file that holds one UUID in lower case, or leave that key out"
        raise MalformedInput(f"{path}: boot_id_file: not the id of a boot", remedy=remedy)
    return text


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def read_firmware(folder: Path) -> Firmware:
    """Return maker and version of the firmware; empty where they cannot be read, as in most virtual machines."""
    return Firmware(_fact(folder / "bios_vendor"), _fact(folder / "bios_version"))


def _fact(path: Path) -> str:
    try:
        text = path.read_bytes().decode(errors="replace")
    except OSError:
        return ""
    return "".join(filter(str.isprintable, text)).strip()[:_MAX_FACT]
