"""What boot loaders and the kernel's stub measured: command lines, files, sections of unified kernel images.

- GRUB hashes every command that it runs, and the kernel's command line, into PCR 8, and every file that it reads into
  PCR 9 (GRUB manual, "Measured Boot"). No digest covers GRUB's label of a line in the log, so lines are distinguished
  by their content: a command line begins with the kernel's path, and there is a ``linux`` command for it, or a
  ``chainloader`` command, which can start a kernel too.
- systemd-boot and systemd-stub hash command lines as UTF-16 into PCR 12 (before version 251 into PCR 8), and names and
  contents of a unified kernel image's sections, in turns, into PCR 11 (systemd-stub(7)).
- The kernel's EFI stub hashes its load options and initial RAM disk into PCR 9. The log does not hold the options; they
  are known if they equal one of the lines above (with GRUB's ``BOOT_IMAGE=``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from nodeseal.boot.measured import MeasuredContent, Measurement, describe_briefly, digests_of
from nodeseal.uefi.pe import MEASURED_SECTIONS
from nodeseal.uefi.tagged_event import LOAD_OPTIONS_NAME, loader_conf_event

_SECTION_NAMES: Final = tuple(name.encode() + b"\0" for name in MEASURED_SECTIONS)
"""What is measured before each section's content (UAPI group, "Unified Kernel Image")."""
_LOADER_CONF: Final = loader_conf_event()
_ACTIONS: Final = frozenset(
    {
        b"Calling EFI Application from Boot Option",
        b"Exit Boot Services Invocation",
        b"Exit Boot Services Returned with Failure",
        b"Exit Boot Services Returned with Success",
    }
)
"""Lines of firmware in PCR 5 (PC Client Platform Firmware Profile, "PCR[5]")."""
_LOAD_OPTIONS: Final = LOAD_OPTIONS_NAME.encode()
_CALLED: Final = re.compile(rb"(grub_)?kernel_cmdline:? ")
_COMMAND: Final = re.compile(r"(?:linux(?:efi|16)?|chainloader) +(.*)", re.DOTALL)
_WBCL: Final = b"WBCL"
"""Windows' boot manager marks the beginning of its events with it."""
_NUL: Final = b"\0"
_LINE_STARTS: Final = ("/", "(", '"')
"""Beginnings of GRUB's command lines, but of none of its commands: a path, quoted if it has spaces (lib/cmdline.c)."""
_QUOTES: Final = str.maketrans("", "", "\"'\\")
"""Characters that GRUB adds to a command line and does not show in the command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelCommandLine:
    """A kernel command line.

    Attributes:
        measurement: the event.
        source: who measured it: ``grub``, ``systemd-stub`` or ``efi-stub``.
        text: the command line; None when no digest proves it.
    """

    measurement: Measurement
    source: str
    text: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredFile(MeasuredContent):
    """A file or a partition table."""

    @property
    def name(self) -> str:
        """The file's path or disk: claimed."""
        return describe_briefly(self.measurement.event)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredSection(MeasuredContent):
    """A section of a unified kernel image.

    Attributes:
        name: the section's name, which is proved; empty: no name was measured before the content.
    """

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderClaims:
    """Claims of PCR 8, 9 and 12.

    Attributes:
        command_lines: command lines, in this order of PCRs.
        files: files that were read: everything in PCR 9 except load options that equal one of the command lines.
        addons: contents in PCR 12 of which only the digest is proved: add-ons, credentials, configuration extensions;
            and those that are proved to be no text, since a log may show an add-on's bytes as an event's data.
    """

    command_lines: tuple[KernelCommandLine, ...]
    files: tuple[MeasuredFile, ...]
    addons: tuple[MeasuredFile, ...]


def read_loader(grub: Iterable[Measurement], files: Iterable[Measurement], stub: Iterable[Measurement]) -> LoaderClaims:
    """Return the command lines in PCR 8, 9 and 12, and the files in PCR 9."""
    passed = tuple(stub)
    lines = (*_grub_lines(grub), *_stub_lines(passed))
    known = _load_options(lines)
    others = [each for each in files if each.digest not in known]
    unknown = (each for each in others if _LOAD_OPTIONS in each.event.data)
    return LoaderClaims(
        command_lines=(
            *lines,
            *(KernelCommandLine(measurement=each, source="efi-stub", text=None) for each in unknown),
        ),
        files=tuple(MeasuredFile(measurement=each) for each in others),
        addons=tuple(MeasuredFile(measurement=each) for each in passed if _may_be_addon(each)),
    )


def read_sections(measured: Iterable[Measurement]) -> tuple[MeasuredSection, ...]:
    """Return the sections in PCR 11. A content without a section's name before it has no name."""
    return tuple(_sections(measured))


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionClaims:
    """Claims of PCR 5.

    Attributes:
        gpt: partition tables, and events that may be one because no digest proves their data.
        loader_conf: what calls itself systemd-boot's settings. Only its digest is proved, so it may be anything.
        maybe_loader_conf: what may be such settings under another name: everything but partition tables and lines of
            the firmware whose data is proved. A log may show the settings themselves as an event's data.
    """

    gpt: tuple[MeasuredFile, ...]
    loader_conf: tuple[MeasuredFile, ...]
    maybe_loader_conf: tuple[MeasuredFile, ...]


def read_partitions(measured: Iterable[Measurement]) -> PartitionClaims:
    """Return the partition tables and the settings of systemd-boot in PCR 5."""
    tables, settings, others = list[MeasuredFile](), list[MeasuredFile](), list[MeasuredFile]()
    for each in measured:
        data, file = each.proved_data(), MeasuredFile(measurement=each)
        if called := data is None and each.event.data == _LOADER_CONF:
            settings.append(file)
        elif data is None or data.startswith(b"EFI PART"):
            tables.append(file)
        if not (called or each.is_separator or _is_harmless(data)):
            others.append(file)
    return PartitionClaims(gpt=tuple(tables), loader_conf=tuple(settings), maybe_loader_conf=tuple(others))


def _is_harmless(data: bytes | None) -> bool:
    """Tell whether systemd-boot would find no settings in a content: it reads up to the first NUL of a line."""
    return data is not None and (data.startswith(b"EFI PART\0") or data in _ACTIONS)


def _sections(measured: Iterable[Measurement]) -> Iterator[MeasuredSection]:
    name = ""
    for each in measured:
        if each.is_separator:
            continue
        named = digests_of(_SECTION_NAMES, each.bank).get(each.digest)
        if named is None or name:
            yield MeasuredSection(measurement=each, name=name)
            name = ""
        else:
            name = named[:-1].decode()


def _grub_lines(measured: Iterable[Measurement]) -> Iterator[KernelCommandLine]:
    """Iterate over command lines in PCR 8, each once, then over ``linux`` commands without such a line."""
    lines: dict[str, KernelCommandLine] = {}
    commands: dict[str, KernelCommandLine] = {}
    for each in measured:
        data = each.proved_data()
        if data is None:
            yield KernelCommandLine(measurement=each, source="grub", text=None)
        elif (wide := _utf16(data)) is not None:
            yield KernelCommandLine(measurement=each, source="systemd-stub", text=wide)
        else:
            text = data.decode("utf-8", "backslashreplace").removesuffix("\0")
            if command := _COMMAND.fullmatch(text):
                commands[command[1]] = KernelCommandLine(measurement=each, source="grub", text=command[1])
            elif text.startswith(_LINE_STARTS) or _CALLED.match(each.event.data):
                lines[text] = KernelCommandLine(measurement=each, source="grub", text=text)
    yield from lines.values()
    plain = {text.translate(_QUOTES) for text in lines}
    yield from (line for text, line in commands.items() if text.translate(_QUOTES) not in plain)


def _stub_lines(measured: Iterable[Measurement]) -> Iterator[KernelCommandLine]:
    """Iterate over the texts in PCR 12."""
    for each in measured:
        data = each.proved_data()
        text = None if data is None else _utf16(data)
        if text is not None:
            yield KernelCommandLine(measurement=each, source="systemd-stub", text=text)


def _may_be_addon(each: Measurement) -> bool:
    data = each.proved_data()
    return data is None or (_utf16(data) is None and data != _WBCL and not each.is_separator)


def _utf16(data: bytes) -> str | None:
    """Return text in UTF-16 without its NUL; None: the data is not such a text, or has a NUL inside.

    Data without any NUL byte has no ASCII character in UTF-16, and so no parameter: it is GRUB's, or Windows' ``WBCL``.
    """
    if len(data) % 2 or _NUL not in data[:-1]:
        return None
    text = data.decode("utf-16-le", "surrogatepass").removesuffix("\0")
    return None if "\0" in text else text


def _load_options(lines: Iterable[KernelCommandLine]) -> frozenset[bytes]:
    """Return the digests that the kernel's EFI stub may measure if it is started with one of ``lines``."""
    return frozenset(
        line.measurement.bank.digest(f"{start}{line.text}{end}".encode("utf-16-le", "surrogatepass"))
        for line in lines
        if line.text is not None
        for start in ("", "BOOT_IMAGE=")
        for end in ("", "\0")
    )
