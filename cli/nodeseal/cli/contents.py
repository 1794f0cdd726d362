"""Contents of files as pairs of path and digest: what the readers of packages and trees share.

Packages are untrusted bytes. They are read as streams and hashed on the way; nothing is unpacked to disk. Sizes and
numbers are bounded, and a path that leads out of the package's place is refused.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import new as new_hash
from typing import IO, Final, Protocol

import zstandard

from nodeseal.errors import MalformedInput
from nodeseal.golden.paths import MAX_MEASURED_PATH
from nodeseal.tpm.algorithms import HashAlg

MAX_UNPACKED: Final = 64 << 30
"""Bytes of one package's content; the largest packages of drivers have a few GiB."""
MAX_FILES: Final = 1_000_000
_CHUNK: Final = 1 << 20
_BLOCK: Final = 512
_MAX_WINDOW: Final = 1 << 27
"""Memory that a zstd frame may ask for, as ``zstd --long`` has it."""
_MAX_XZ: Final = 1 << 28
"""Memory that xz may take; its largest preset takes 65 MiB."""
_MERGED: Final = (b"/bin/", b"/sbin/", b"/lib/", b"/lib32/", b"/lib64/", b"/libx32/")
"""Folders that are links into ``/usr`` on merged-usr systems, where IMA sees the path behind the link."""
_FAULTS: Final = (OSError, EOFError, lzma.LZMAError, zlib.error, zstandard.ZstdError)

Found = Iterator[tuple[bytes, bytes]]
"""Pairs of path and digest."""


class Readable(Protocol):
    """Stream whose ``read`` returns at most ``size`` bytes, and none at its end."""

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes."""


class Bounded:
    """Stream of a package that refuses short reads, broken compression and too much content."""

    def __init__(self, stream: Readable, source: str, limit: int = MAX_UNPACKED) -> None:
        self._stream = stream
        self._left = limit
        self._tail = b""
        self.source: Final = source

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes.

        Raises:
            MalformedInput: the stream does not decompress, or holds more than the limit.
        """
        try:
            found = self._stream.read(_CHUNK if size < 0 else min(size, _CHUNK))
        except _FAULTS as error:
            raise MalformedInput(f"{self.source}: does not decompress: {error}") from error
        self._left -= len(found)
        if self._left < 0:
            raise MalformedInput(f"{self.source}: holds more than nodeseal reads")
        self._tail = (self._tail + found[-_BLOCK:])[-_BLOCK:]
        return found

    def end(self) -> None:
        """Read to the end and require the block of zeros that ends an archive of blocks.

        Raises:
            MalformedInput: there is no such block, so the archive was cut off.
        """
        while self.read():
            pass
        if self._tail != bytes(_BLOCK):
            raise MalformedInput(f"{self.source}: is cut off")

    def exactly(self, size: int, what: str) -> bytes:
        """Return exactly ``size`` bytes; for small structures only.

        Raises:
            MalformedInput: the stream ends before.
        """
        found = b""
        while len(found) < size:
            more = self.read(size - len(found))
            if not more:
                raise MalformedInput(f"{self.source}: ends in {what}")
            found += more
        return found

    def hash(self, size: int, bank: HashAlg) -> bytes:
        """Return the digest of the next ``size`` bytes.

        Raises:
            MalformedInput: the stream ends before.
        """
        state = new_hash(bank.hashlib_name)
        while size:
            more = self.read(size)
            if not more:
                raise MalformedInput(f"{self.source}: ends in a file's content")
            state.update(more)
            size -= len(more)
        return state.digest()


class PackagePart(io.RawIOBase):
    """The next ``size`` bytes of a stream as a file of their own, for decompressors."""

    def __init__(self, stream: Bounded, size: int | None = None) -> None:
        self._stream = stream
        self._left = size

    def readable(self) -> bool:
        """Return true."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what io passes
        """Fill ``buffer`` as far as the part goes."""
        size = len(buffer) if self._left is None else min(len(buffer), self._left)
        found = self._stream.read(size) if size else b""
        if self._left is not None:
            self._left -= len(found)
        buffer[: len(found)] = found
        return len(found)


def decompressed(part: PackagePart, source: str) -> Bounded:
    """Return a part's content, decompressed by the method that its first bytes name, unchanged if they name none."""
    stream = io.BufferedReader(part)
    try:
        return Bounded(_decompressor(stream, stream.peek(6)[:6]), source)
    except _FAULTS as error:
        raise MalformedInput(f"{source}: does not decompress: {error}") from error


def _decompressor(stream: IO[bytes], magic: bytes) -> Readable:
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=stream)
    if magic.startswith((b"\xfd7zXZ", b"\x5d\0\0")):
        return _Xz(stream)
    if magic.startswith(b"BZh"):
        return bz2.BZ2File(stream)
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        return zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(stream, read_across_frames=True)
    return stream


class _Xz:
    """Content of consecutive xz or lzma streams, read in limited memory; ``lzma.LZMAFile`` has no limit."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._decoder = lzma.LZMADecompressor(memlimit=_MAX_XZ)

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes; none at the end."""
        found = b""
        while not found:
            more = b""
            if self._decoder.eof:
                more = self._next_stream()
                if not more:
                    break
                self._decoder = lzma.LZMADecompressor(memlimit=_MAX_XZ)
            elif self._decoder.needs_input:
                more = self._stream.read(_CHUNK)
                if not more:
                    raise EOFError("the compressed stream is cut off")
            found = self._decoder.decompress(more, size)
        return found

    def _next_stream(self) -> bytes:
        """Return the first bytes after a stream and its padding of zeros (xz file format, "Stream Padding")."""
        more = self._decoder.unused_data.lstrip(b"\0")
        while not more and (raw := self._stream.read(_CHUNK)):
            more = raw.lstrip(b"\0")
        return more


def installed_path(name: bytes, source: str) -> bytes:
    """Return the path that a package's file gets: absolute, in ``/usr`` where merged-usr systems keep it.

    Raises:
        MalformedInput: the name has parts ``..`` or none at all, or is longer than a path can be.
    """
    if len(name) > MAX_MEASURED_PATH:  # first: taking a path apart costs its length times its depth
        raise MalformedInput(f"{source}: refuses to hold a file with a name of {len(name)} bytes")
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if not parts or b".." in parts or b"\0" in name:
        raise MalformedInput(f"{source}: refuses to hold a file called {name[:80]!a}")
    path = b"/" + b"/".join(parts)
    return b"/usr" + path if path.startswith(_MERGED) else path


class PackagePaths:
    """Paths of one package so far. No path has two contents, none lies below a link."""

    def __init__(self, source: str) -> None:
        self.source: Final = source
        self._digests: dict[bytes, bytes] = {}
        self._links: set[bytes] = set()

    def add(self, path: bytes, digest: bytes) -> tuple[bytes, bytes]:
        """Note a file and return it.

        Raises:
            MalformedInput: the path has another content already, lies below a link, or is one too many.
        """
        if self._digests.setdefault(path, digest) != digest:
            raise MalformedInput(f"{self.source}: holds {path!a} twice")
        if len(self._digests) > MAX_FILES:
            raise MalformedInput(f"{self.source}: holds more than {MAX_FILES} files")
        parts = path.split(b"/")
        if any(b"/".join(parts[:end]) in self._links for end in range(2, len(parts) + 1)):
            raise MalformedInput(f"{self.source}: holds {path!a} below a link")
        return path, digest

    def add_link(self, path: bytes) -> None:
        """Note a symbolic link."""
        self._links.add(path)

    def digest(self, path: bytes) -> bytes:
        """Return the digest of an earlier file, to which a hard link points.

        Raises:
            MalformedInput: no earlier file has that path.
        """
        if path not in self._digests:
            raise MalformedInput(f"{self.source}: has a hard link to {path!a}, which is no file before it")
        return self._digests[path]


@contextmanager
def named(source: str) -> Iterator[None]:
    """Turn the operating system's errors in the block into :class:`MalformedInput` that names the file."""
    try:
        yield
    except OSError as error:
        raise MalformedInput(f"{source}: {error.strerror}") from error
