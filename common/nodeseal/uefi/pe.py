"""Boot images: the Authenticode digest of a PE/COFF file, and the measured sections of a unified kernel image.

Firmware measures an image by its Authenticode digest, which leaves out the bytes that signing changes ("Windows
Authenticode Portable Executable Signature Format", 2008, "Calculating the PE Image Hash"; PC Client Platform Firmware
Profile v1.06, "Measuring PE/COFF Image Files"; layout: PE/COFF specification 11). systemd-stub measures the sections of
its own image into PCR 11, name and content of each (systemd ``src/fundamental/uki.h``, ``src/boot/stub.c``; UAPI.5,
Unified Kernel Image).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import HashAlg

MAX_SECTIONS: Final = 256
MAX_IMAGE: Final = 2 * 1024 * 1024 * 1024
"""Largest image in bytes; unified kernel images with an initrd have some hundred MiB."""
MAX_FILL: Final = 1024 * 1024
"""Most zero bytes behind the data of a measured section."""
MEASURED_SECTIONS: Final = (
    ".linux",
    ".osrel",
    ".cmdline",
    ".initrd",
    ".ucode",
    ".splash",
    ".dtb",
    ".uname",
    ".sbat",
    ".pcrpkey",
    ".profile",
    ".dtbauto",
    ".hwids",
    ".efifw",
)
"""Sections that systemd-stub measures into PCR 11, in its order (systemd: src/fundamental/uki.h).

``.pcrsig`` is not measured: it signs the result.
"""
_STUB_MARKS: Final = frozenset({".linux", ".osrel"})
_DOS_MAGIC: Final = b"MZ"
_PE_MAGIC: Final = b"PE\0\0"
_PE_OFFSET_AT: Final = 0x3C
_COFF: Final = struct.Struct("<HHIIIHH")
_SECTION: Final = struct.Struct("<8sIIIIIIHHI")
_U16: Final = struct.Struct("<H")
_U32: Final = struct.Struct("<I")
_DIRECTORY: Final = struct.Struct("<II")
_SIZE_OF_HEADERS_AT: Final = 60
_CHECKSUM_AT: Final = 64
_DIRECTORIES_AT: Final = {0x10B: 96, 0x20B: 112}
"""Offset of the data directories in the optional header of PE32 and PE32+."""
_CERTIFICATE_TABLE: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One section.

    Attributes:
        name: name, such as ``.text``.
        offset: offset of its raw data in the file.
        size: size of its raw data.
        memory_size: size of its content when loaded; zeros follow the raw data.
    """

    name: str
    offset: int
    size: int
    memory_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PeImage:
    """A PE/COFF image.

    Attributes:
        raw: the whole file.
        checksum_at: offset of the header's checksum: 4 bytes that no digest covers.
        directory_at: offset of the certificate table's directory entry: 8 bytes that no digest covers; None: absent.
        headers_size: size of all headers.
        sections: sections in the order of their headers.
        certificates_at: offset of the attribute certificate table; 0: not signed.
        certificates_size: size of that table.
    """

    raw: bytes
    checksum_at: int
    directory_at: int | None
    headers_size: int
    sections: tuple[Section, ...]
    certificates_at: int
    certificates_size: int

    @property
    def unified_kernel(self) -> bool:
        """Whether this is a unified kernel image: it has a kernel and names its operating system."""
        return {section.name for section in self.sections} >= _STUB_MARKS

    def content(self, section: Section) -> bytes:
        """Return a section as in memory: cut, or filled with zeros, to ``memory_size``.

        Raises:
            MalformedInput: more than :data:`MAX_FILL` zeros.
        """
        if section.memory_size - section.size > MAX_FILL:
            raise MalformedInput(
                f"PE image: section {section.name!a} has {section.size} bytes of {section.memory_size}"
            )
        data = self.raw[section.offset : section.offset + min(section.size, section.memory_size)]
        return data + bytes(section.memory_size - len(data))


def is_pe(raw: bytes) -> bool:
    """Tell whether ``raw`` begins like a PE/COFF file."""
    return raw[:2] == _DOS_MAGIC


def decode_pe(raw: bytes) -> PeImage:
    """Read the headers of a PE/COFF image.

    Raises:
        MalformedInput: not PE/COFF, cut off, too large, or with sections or a certificate table outside the file.
    """
    if len(raw) > MAX_IMAGE:
        raise MalformedInput(f"PE image: more than {MAX_IMAGE} bytes")
    if not is_pe(raw):
        raise MalformedInput("PE image: does not start with MZ", remedy="give an EFI binary, a kernel or a UKI")
    (start,) = _unpack(raw, _U32, _PE_OFFSET_AT)
    if raw[start : start + len(_PE_MAGIC)] != _PE_MAGIC:
        raise MalformedInput("PE image: has no PE header")
    _, count, _, _, _, optional_size, _ = _unpack(raw, _COFF, start + len(_PE_MAGIC))
    optional = start + len(_PE_MAGIC) + _COFF.size
    if count > MAX_SECTIONS:
        raise MalformedInput(f"PE image: {count} sections, at most {MAX_SECTIONS}")
    directory_at = _certificate_directory(raw, optional)
    table, table_size = _unpack(raw, _DIRECTORY, directory_at) if directory_at is not None else (0, 0)
    (headers_size,) = _unpack(raw, _U32, optional + _SIZE_OF_HEADERS_AT)
    image = PeImage(
        raw=raw,
        checksum_at=optional + _CHECKSUM_AT,
        directory_at=directory_at,
        headers_size=headers_size,
        sections=tuple(_section(raw, optional + optional_size + i * _SECTION.size) for i in range(count)),
        certificates_at=table if table_size else 0,
        certificates_size=table_size,
    )
    _check_ranges(image, optional + optional_size + count * _SECTION.size)
    return image


def authenticode_digest(image: PeImage, bank: HashAlg) -> bytes:
    """Return the digest that firmware extends into PCR 2 or 4 for this image."""
    hasher = hashlib.new(bank.hashlib_name)
    for start, end in _hashed_ranges(image):
        hasher.update(memoryview(image.raw)[start:end])
    return hasher.digest()


def stub_measurements(image: PeImage, bank: HashAlg) -> Iterator[tuple[str, bytes, bytes]]:
    """Iterate over the measurements of systemd-stub in PCR 11: section, digest of its name, digest of its content.

    Of a repeated section, the stub takes the first. Profiles beyond the base are not supported.
    """
    found = {section.name: section for section in reversed(image.sections)}
    for name in MEASURED_SECTIONS:
        if name in found:
            yield name, bank.digest(name.encode() + b"\0"), bank.digest(image.content(found[name]))


def inner_kernel(image: PeImage) -> PeImage | None:
    """Return the kernel in a unified kernel image, if it is a PE image itself.

    Raises:
        MalformedInput: the kernel does not decode.
    """
    for section in image.sections:
        if section.name == ".linux":
            kernel = image.content(section)
            return decode_pe(kernel) if is_pe(kernel) else None
    return None


def _hashed_ranges(image: PeImage) -> Iterator[tuple[int, int]]:
    """Iterate over the hashed ranges in order. The comments number the steps of the specification."""
    yield 0, image.checksum_at  # 3
    after_checksum = image.checksum_at + _U32.size
    if image.directory_at is None:
        yield after_checksum, image.headers_size
    else:
        yield after_checksum, image.directory_at  # 5
        yield image.directory_at + _DIRECTORY.size, image.headers_size  # 7
    hashed = image.headers_size
    for section in sorted((s for s in image.sections if s.size), key=lambda s: s.offset):  # 9 to 13
        yield section.offset, section.offset + section.size
        hashed += section.size
    yield hashed, max(hashed, len(image.raw) - image.certificates_size)  # 14


def _certificate_directory(raw: bytes, optional: int) -> int | None:
    (magic,) = _unpack(raw, _U16, optional)
    if magic not in _DIRECTORIES_AT:
        raise MalformedInput(f"PE image: optional header of kind 0x{magic:04x}, not PE32 or PE32+")
    directories = optional + _DIRECTORIES_AT[magic]
    (count,) = _unpack(raw, _U32, directories - _U32.size)
    return directories + _CERTIFICATE_TABLE * _DIRECTORY.size if count > _CERTIFICATE_TABLE else None


def _section(raw: bytes, at: int) -> Section:
    if at + _SECTION.size > len(raw):
        raise MalformedInput(f"PE image: cut off at byte {at}")
    name, memory_size, _, size, offset, *_ = _SECTION.unpack_from(raw, at)
    return Section(name=name.rstrip(b"\0").decode("latin-1"), offset=offset, size=size, memory_size=memory_size)


def _check_ranges(image: PeImage, headers_end: int) -> None:
    end = len(image.raw)
    if not headers_end <= image.headers_size <= end:
        raise MalformedInput(f"PE image: headers of {image.headers_size} bytes in a file of {end}")
    for section in image.sections:
        if section.size and section.offset + section.size > end:
            raise MalformedInput(f"PE image: section {section.name!a} ends beyond the file")
    if image.certificates_size and image.certificates_at + image.certificates_size != end:
        raise MalformedInput("PE image: its certificate table does not end the file")


def _unpack(raw: bytes, layout: struct.Struct, at: int) -> tuple[int, ...]:
    if at + layout.size > len(raw):
        raise MalformedInput(f"PE image: cut off at byte {at}")
    return layout.unpack_from(raw, at)
