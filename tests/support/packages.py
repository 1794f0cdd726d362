"""Packages made byte by byte, good and hostile."""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Iterable

Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> Member:
    """Return one member of a tar archive."""
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(content), kind, link
    return info, content


def tar(members: Iterable[Member]) -> bytes:
    """Return a tar archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def ar(members: Iterable[tuple[str, bytes]]) -> bytes:
    """Return an ar archive."""
    return b"!<arch>\n" + b"".join(ar_member(name, content) for name, content in members)


def ar_member(name: str, content: bytes, size: int | None = None) -> bytes:
    """Return a member; its header may lie about its size."""
    length = len(content) if size is None else size
    return f"{name:16}{0:<12}{0:<6}{0:<6}{'100644':8}{length:<10}`\n".encode() + content + b"\n" * (len(content) % 2)


def deb(data: bytes, name: str = "data.tar") -> bytes:
    """Return a Debian package with this data member."""
    return ar([("debian-binary", b"2.0\n"), ("control.tar", tar([])), (name, data)])


def cpio(name: bytes, content: bytes = b"", mode: int = 0o100644, inode: int = 1, links: int = 1) -> bytes:
    """Return one entry of a cpio archive (newc)."""
    numbers = (inode, mode, 0, 0, links, 0, len(content), 8, 1, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % number for number in numbers) + name + b"\0"
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)


def rpm(payload: bytes) -> bytes:
    """Return an RPM package with this payload; its headers name nothing."""
    lead = b"\xed\xab\xee\xdb" + bytes(92)
    signature = b"\x8e\xad\xe8\x01" + bytes(4) + struct.pack(">II", 1, 5) + bytes(16 + 5)
    header = b"\x8e\xad\xe8\x01" + bytes(4) + struct.pack(">II", 2, 3) + bytes(32 + 3)
    return lead + signature + bytes(-(16 + 5 + 16) % 8) + header + payload


TRAILER = cpio(b"TRAILER!!!", mode=0)
