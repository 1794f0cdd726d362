"""Files of a Debian package (deb(5)): an ``ar`` archive whose member ``data.tar`` holds the installed files.

Every regular file's content is hashed, conffiles included; the package's ``md5sums`` is not used. Devices, sockets and
folders have no content that IMA would measure.
"""

from __future__ import annotations

import tarfile
from typing import IO, Final

from nodeseal.cli.contents import MAX_FILES, Bounded, Found, PackagePart, PackagePaths, decompressed, installed_path
from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import HashAlg

_MAGIC: Final = b"!<arch>\n"
_HEADER: Final = 60
_MAX_MEMBERS: Final = 16
_MAX_NOTE: Final = 1 << 20
"""Bytes of an extended header or a long name, which tarfile keeps in memory."""
_NOTES: Final = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
)  # fmt: skip


def deb_files(file: IO[bytes], source: str, bank: HashAlg) -> Found:
    """Yield path and digest of every regular file that a package installs.

    Raises:
        MalformedInput: no Debian package, one that does not decompress, or one with paths outside its place.
    """
    archive = Bounded(file, source)
    if archive.read(len(_MAGIC)) != _MAGIC:
        raise MalformedInput(f"{source}: is no Debian package", remedy="give a .deb file")
    for _ in range(_MAX_MEMBERS):
        name, size = _ar_header(archive)
        if name.startswith("data.tar"):
            yield from _tar_files(decompressed(PackagePart(archive, size), source), bank)
            return
        archive.hash(size + size % 2, bank)
    raise MalformedInput(f"{source}: has too many members before data.tar")


def _ar_header(archive: Bounded) -> tuple[str, int]:
    """Read a member's header (ar(5)): name (16 bytes), time, owner, group, mode, size (10 digits), two bytes."""
    raw = archive.exactly(_HEADER, "the header of a member, before data.tar")
    name, size, end = raw[:16].decode("ascii", "replace").rstrip(" /"), raw[48:58].strip(), raw[58:]
    if end != b"`\n" or not size.isdigit():
        raise MalformedInput(f"{archive.source}: has a member whose header is none")
    return name, int(size)


class _Info(tarfile.TarInfo):
    """A header whose notes (extended headers, long names) are small."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        # The entry point that tarfile names for subclasses; a note's size is known before it is read.
        if self.type in _NOTES and self.size > _MAX_NOTE:
            raise tarfile.ReadError(f"a note of {self.size} bytes")
        return super()._proc_member(archive)  # type: ignore[misc, no-any-return]  # not in the stubs


def _tar_files(stream: Bounded, bank: HashAlg) -> Found:
    layout = PackagePaths(stream.source)
    try:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Info) as archive:  # type: ignore[call-overload]  # reads
            for _ in range(MAX_FILES):
                member = archive.next()
                if member is None:
                    stream.end()
                    return
                yield from _member(archive, member, layout, bank)
                archive.members.clear()  # a stream is never looked back into
    except (tarfile.TarError, ValueError) as error:
        raise MalformedInput(f"{stream.source}: data.tar does not parse: {error}") from error
    raise MalformedInput(f"{stream.source}: holds more than {MAX_FILES} files")


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo, layout: PackagePaths, bank: HashAlg) -> Found:
    if member.isdir():
        return
    path = installed_path(_raw(member.name), layout.source)
    if member.issym():
        layout.add_link(path)
    elif member.islnk():
        yield layout.add(path, layout.digest(installed_path(_raw(member.linkname), layout.source)))
    elif member.isreg() and not member.issparse():
        content = archive.extractfile(member)
        if content is not None:
            yield layout.add(path, Bounded(content, layout.source).hash(member.size, bank))


def _raw(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
