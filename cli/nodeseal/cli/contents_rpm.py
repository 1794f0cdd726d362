"""Files of an RPM package (RPM V3/V4 file format): lead, signature header, header, and a compressed cpio archive.

Every regular file's content is hashed; digests in the header are not used. Existing libraries resynchronise on garbage
or hold whole payloads in memory, so this module reads the little that it needs. Of cpio it reads the ``newc`` format;
packages with files above 4 GiB use another one (``07070X``) and are refused by name.
"""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass
from typing import IO, Final

from nodeseal.cli.contents import MAX_FILES, Bounded, Found, PackagePart, PackagePaths, decompressed, installed_path
from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import HashAlg

_LEAD: Final = b"\xed\xab\xee\xdb"
_LEAD_SIZE: Final = 96
_HEADER: Final = b"\x8e\xad\xe8\x01"
_HEADER_SIZE: Final = 16
_MAX_HEADER: Final = 256 << 20
"""Bytes of a header's store, as rpm has it."""
_INDEX_SIZE: Final = 16
_NEWC: Final = (b"070701", b"070702")
_LARGE: Final = b"07070X"
_FIELDS: Final = 13
_FIELD: Final = 8
_MAX_NAME: Final = 4096
_TRAILER: Final = b"TRAILER!!!"


def rpm_files(file: IO[bytes], source: str, bank: HashAlg) -> Found:
    """Yield path and digest of every regular file that a package installs.

    Raises:
        MalformedInput: no RPM package, one that does not decompress, or one with paths outside its place.
    """
    package = Bounded(file, source)
    if not package.exactly(_LEAD_SIZE, "the lead").startswith(_LEAD):
        raise MalformedInput(f"{source}: is no RPM package", remedy="give a .rpm file")
    size = _skip_header(package)
    package.exactly(-size % 8, "the signature header")
    _skip_header(package)
    yield from _cpio_files(decompressed(PackagePart(package), source), bank)


def _skip_header(package: Bounded) -> int:
    """Skip a header: magic, reserved (4 bytes), number of entries and bytes of the store, entries, store."""
    raw = package.exactly(_HEADER_SIZE, "a header")
    entries, store = struct.unpack(">II", raw[8:])
    size = int(entries * _INDEX_SIZE + store)
    if not raw.startswith(_HEADER) or size > _MAX_HEADER:
        raise MalformedInput(f"{package.source}: has a header that is none")
    package.hash(size, HashAlg.SHA256)
    return size


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """One entry of the archive: (device, inode) joins hard links, of which the last has the content."""

    inode: tuple[int, ...]
    mode: int
    links: int
    size: int
    name: bytes


def _cpio_files(archive: Bounded, bank: HashAlg) -> Found:
    layout = PackagePaths(archive.source)
    waiting: dict[tuple[int, ...], list[bytes]] = {}
    for _ in range(MAX_FILES):
        entry = _cpio_entry(archive)
        if entry.name == _TRAILER:
            break
        digest = archive.hash(entry.size, bank)
        archive.exactly(-entry.size % 4, "the filler of a file")
        if stat.S_ISDIR(entry.mode):
            continue
        path = installed_path(entry.name, archive.source)
        if stat.S_ISLNK(entry.mode):
            layout.add_link(path)
        elif stat.S_ISREG(entry.mode) and entry.links > 1 and not entry.size:
            waiting.setdefault(entry.inode, []).append(path)
        elif stat.S_ISREG(entry.mode):
            linked = waiting.pop(entry.inode, []) if entry.links > 1 else []
            yield from (layout.add(each, digest) for each in (*linked, path))
    else:
        raise MalformedInput(f"{archive.source}: holds more than {MAX_FILES} files")
    empty = bank.digest(b"")
    yield from (layout.add(path, empty) for paths in waiting.values() for path in paths)


def _cpio_entry(archive: Bounded) -> _Entry:
    """Read a header: magic, then thirteen numbers of eight hex digits (cpio(5), "New ASCII Format"), then the name."""
    magic = archive.exactly(len(_LARGE), "the header of a file")
    if magic == _LARGE:
        raise MalformedInput(f"{archive.source}: has files above 4 GiB, a payload that nodeseal does not read")
    raw = archive.exactly(_FIELDS * _FIELD, "the header of a file")
    try:
        numbers = [int(raw[at : at + _FIELD].decode("ascii"), 16) for at in range(0, len(raw), _FIELD)]
    except ValueError as error:
        raise MalformedInput(f"{archive.source}: has a file whose header is none") from error
    inode, mode, _, _, links, _, size, *device, _, _, name_size, _ = numbers
    if magic not in _NEWC or not 1 < name_size <= _MAX_NAME:
        raise MalformedInput(f"{archive.source}: has a file whose header is none")
    name = archive.exactly(name_size, "the name of a file")
    archive.exactly(-(len(magic) + len(raw) + name_size) % 4, "the name of a file")
    return _Entry(inode=(inode, *device), mode=mode, links=links, size=size, name=name.removesuffix(b"\0"))
