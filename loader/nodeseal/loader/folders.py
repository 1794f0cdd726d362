"""Folders of sealed models: a local directory, memory, or a web server (:mod:`nodeseal.loader.web`).

Nothing from a folder is trusted: it is compared with digests, or decrypted, before it counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol

from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.files import naming, of_others
from nodeseal.loader.disk import Descriptors, DiskFile
from nodeseal.sealed.content import Content
from nodeseal.sealed.paths import CONTENT_NAME, SLOTS_NAME


class Source(Protocol):
    """One stored file. Several threads may read at once."""

    @property
    def size(self) -> int:
        """Bytes of the file when it was opened."""
        ...

    @property
    def waits(self) -> bool:
        """Whether reads wait for a disk or a network, so that more threads than processors help."""
        ...

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill ``buffer`` from ``offset``.

        Raises:
            Unavailable: the file is too short, has changed, or cannot be reached.
        """
        ...

    def close(self) -> None:
        """Release the file."""
        ...


class Folder(Protocol):
    """The files of one sealed model. Its ``str`` names it in errors."""

    def open(self, path: str) -> Source:
        """Open a stored file.

        Raises:
            Unavailable: the file is missing or cannot be read.
            MalformedInput: it is not a regular file.
        """
        ...

    def paths(self) -> Iterator[str]:
        """Yield the paths of all files that the folder can list, without names that start with a dot.

        Raises:
            Unavailable: the folder cannot be read.
        """
        ...


def read_document(folder: Folder, path: str, limit: int) -> bytes:
    """Return one of the two documents of a sealed model, of at most ``limit`` bytes.

    Raises:
        Unavailable: the document is missing or cannot be read.
        MalformedInput: the document is too long, or not a file.
    """
    try:
        source = folder.open(path)
    except Unavailable as error:
        raise Unavailable(str(error), remedy="name a folder that `nodeseal seal` made and you may read") from error
    try:
        if source.size > limit:
            raise MalformedInput(f"{folder}/{path}: {source.size} bytes, at most {limit}")
        buffer = bytearray(source.size)
        source.read_into(memoryview(buffer), 0)
    finally:
        source.close()
    return bytes(buffer)


def surplus(folder: Folder, content: Content) -> Iterator[str]:
    """Yield the printable names of files in the folder that do not belong to the model. There may be no end of them.

    Raises:
        Unavailable: the folder cannot be read.
    """
    expected = {file.stored_path for file in content.files} | {CONTENT_NAME, SLOTS_NAME}
    return (path if path.isprintable() else ascii(path) for path in folder.paths() if path not in expected)


class LocalFolder:
    """A local directory. Symbolic links are followed."""

    def __init__(self, root: Path) -> None:
        self._root: Final = root
        self._descriptors: Final = Descriptors()

    def __str__(self) -> str:
        return str(self._root)

    def open(self, path: str) -> Source:
        """Open a regular file."""
        return DiskFile(self._root / path, self._descriptors)

    def paths(self) -> Iterator[str]:
        """Yield every file below the directory."""
        return (path.relative_to(self._root).as_posix() for path in _walk(self._root))


class MemoryFolder:
    """Files in memory, by their stored paths. They must not change while the model is open."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files: Final = dict(files)

    def __str__(self) -> str:
        return "memory"

    def open(self, path: str) -> Source:
        """Return the file with the path ``path``."""
        if path not in self._files:
            raise Unavailable(f"memory/{path}: no such file")
        return _MemoryFile(self._files[path], path)

    def paths(self) -> Iterator[str]:
        """Yield all paths."""
        return iter(self._files)


class _MemoryFile:
    def __init__(self, content: bytes, path: str) -> None:
        self._content: Final = memoryview(content)
        self._path: Final = path
        self.size: Final = len(content)
        self.waits: Final = False

    def read_into(self, buffer: memoryview, offset: int) -> None:
        if offset + len(buffer) > self.size:
            raise Unavailable(f"memory/{self._path}: ends before byte {offset + len(buffer)}")
        buffer[:] = self._content[offset : offset + len(buffer)]

    def close(self) -> None:
        pass


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, depth first, except in folders that this process may not read.

    Links may lead in circles, until the kernel stops following them.
    """
    waiting = [folder]
    while waiting:
        folder = waiting.pop()
        with naming(folder):
            entries = [(entry, entry.is_dir()) for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
        for entry, is_folder in entries:
            if is_folder:
                waiting += [] if of_others(entry) else [entry]
            else:
                yield entry
