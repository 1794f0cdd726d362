"""The files of a model's folder before sealing, and what happens to each.

A list names the file types that may stay readable; everything else is sealed, so that weights of an unknown type do not
leak. Pickles are refused unless they are allowed: loading one runs its author's code. Folders whose name starts with a
dot (version control, download caches) are left out.

Symbolic links to files are followed, because snapshots in Hugging Face's cache consist of them, but only to files
inside the model's folder or in that cache's ``blobs`` folder. Other links would bring foreign files into the model.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.files import naming, opened, read_exactly
from nodeseal.sealed.content import MAX_FILES
from nodeseal.sealed.paths import CONTENT_NAME, parse_path

MAX_PLAIN_SIZE = 64 << 20
"""Largest plain file, in bytes. Tokenizers rarely have a quarter of it, and opening a model checks all plain files."""

_STRETCH = 32 << 20

_PLAIN_SUFFIXES = frozenset(
    (".cfg", ".jinja", ".json", ".md", ".model", ".py", ".tiktoken", ".toml", ".txt", ".yaml", ".yml")
)
_PLAIN_NAMES = frozenset((".gitattributes", ".gitignore", "LICENSE", "LICENCE", "NOTICE", "USE_POLICY"))
_PICKLE_SUFFIXES = frozenset((".bin", ".ckpt", ".dill", ".joblib", ".nemo", ".pickle", ".pkl", ".pt", ".pth"))


Read = Callable[[memoryview, int], None]
"""Fills a buffer from an offset of a file's plaintext. Several threads call it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file to seal or copy.

    Attributes:
        path: path in the model.
        location: path on disk, with links followed.
        size: bytes when the file was found.
        sealed: whether the file becomes ciphertext.
    """

    path: str
    location: Path
    size: int
    sealed: bool

    @contextmanager
    def reading(self) -> Iterator[Read]:
        """Open the file and return the function that reads it.

        Bytes that were read do not stay in the page cache.

        Raises:
            Unavailable: the file cannot be opened or read, or has changed since it was found.
        """
        with opened(self.location, follow=False) as descriptor:  # a link that was not there when it was found
            before = os.fstat(descriptor)
            if before.st_size != self.size:
                raise self._changed()
            try:
                yield lambda buffer, offset: self._read(descriptor, buffer, offset)
            finally:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            after = os.fstat(descriptor)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise self._changed()

    def _read(self, descriptor: int, buffer: memoryview, offset: int) -> None:
        """Read, and drop earlier reads from the page cache, which holds what nodes serve."""
        read_exactly(descriptor, buffer, offset, self.location)
        stretch, start = divmod(offset, _STRETCH)
        if stretch > 2 and start < len(buffer):  # noqa: PLR2004 - the last one may still be read by other threads
            # two stretches, as pages of up to 2 MiB go only when all of them is named
            os.posix_fadvise(descriptor, (stretch - 3) * _STRETCH, 2 * _STRETCH, os.POSIX_FADV_DONTNEED)

    def _changed(self) -> Unavailable:
        return Unavailable(f"{self.location}: changed while it was sealed")


def survey(place: Path, *, seal_all: bool = False, allow_pickle: bool = False) -> tuple[SourceFile, ...]:
    """Return the files of a model in the order of the content file.

    Args:
        place: a folder with a downloaded or saved model, or one file.
        seal_all: also seal files that could stay readable.
        allow_pickle: accept files that run code when they are loaded.

    Raises:
        MalformedInput: a pickle, a link out of the folder, a name that a content file may not hold, a device or pipe,
            a folder that is already sealed, or nothing to seal.
        Unavailable: the folder cannot be read.
    """
    folder, paths = (place, _walk(place)) if place.is_dir() else (place.parent, iter([place]))
    if (folder / CONTENT_NAME).exists():
        raise MalformedInput(
            f"{folder}: sealed already", remedy="nodeseal reslot changes its keys, nodeseal reseal its data key"
        )
    found = sorted((_examine(folder, path, seal_all=seal_all) for path in paths), key=lambda file: file.path)
    if not allow_pickle:
        _refuse_pickles(found)
    if len(found) > MAX_FILES:
        raise MalformedInput(f"{place}: {len(found)} files, at most {MAX_FILES}")
    if not any(file.sealed for file in found):
        raise MalformedInput(f"{place}: nothing to seal", remedy="name a folder with weights, or use --all")
    return tuple(found)


def _walk(folder: Path) -> Iterator[Path]:
    with naming(folder):
        entries = sorted(folder.iterdir())
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            if not entry.name.startswith("."):
                yield from _walk(entry)
        else:
            yield entry


def _examine(folder: Path, entry: Path, *, seal_all: bool) -> SourceFile:
    location = _follow(folder, entry)
    with naming(entry):
        status = location.lstat()  # links were followed; a new link here is an attack
    if not stat.S_ISREG(status.st_mode):
        raise MalformedInput(f"{entry}: not a regular file")
    path = parse_path(entry.relative_to(folder).as_posix())
    plain = not seal_all and status.st_size <= MAX_PLAIN_SIZE and may_stay_plain(path)
    return SourceFile(path=path, location=location, size=status.st_size, sealed=not plain)


def _follow(folder: Path, entry: Path) -> Path:
    if not entry.is_symlink():
        return entry
    target, root = Path(os.path.realpath(entry)), Path(os.path.realpath(folder))
    # models--ORG--NAME/snapshots/REVISION/FILE -> ../../blobs/DIGEST
    blobs = root.parent.parent / "blobs" if root.parent.name == "snapshots" else root
    if not target.is_relative_to(root) and not target.is_relative_to(blobs):
        raise MalformedInput(f"{entry}: a link that leaves the model's folder", remedy="replace it by the file itself")
    return target


def may_stay_plain(path: str) -> bool:
    """Tell by its name whether a file holds no weights: configuration, a tokenizer, code, a licence."""
    pure = PurePosixPath(path)
    return pure.suffix.lower() in _PLAIN_SUFFIXES or pure.name in _PLAIN_NAMES


def _refuse_pickles(files: list[SourceFile]) -> None:
    pickles = [file.path for file in files if PurePosixPath(file.path).suffix.lower() in _PICKLE_SUFFIXES]
    if pickles:
        more = f" and {len(pickles) - 1} more" if len(pickles) > 1 else ""
        raise MalformedInput(
            f"{pickles[0]}{more}: loading a pickle runs code",
            remedy="leave them out if safetensors hold the same weights, else convert them; --allow-pickle seals them",
        )
