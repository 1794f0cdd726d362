"""The files of a model's folder before sealing, and what happens to each.

A list names the file types that may stay readable; everything else is sealed, so that weights of an unknown type do not
leak. Pickles are refused unless they are allowed: loading one runs its author's code. Folders whose name starts with a
dot (version control, download caches) and ``lost+found`` are left out. Patterns leave out more, or all but some.

Symbolic links to files are followed, because snapshots in Hugging Face's cache consist of them, but only to files
inside the model's folder or in that cache's ``blobs`` folder. Other links would bring foreign files into the model.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Final

from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.files import naming, of_others, opened, read_exactly
from nodeseal.sealed.content import MAX_FILES
from nodeseal.sealed.paths import CONTENT_NAME, parse_path

MAX_PLAIN_SIZE = 64 << 20
"""Largest plain file, in bytes. Tokenizers rarely have a quarter of it, and opening a model checks all plain files."""

_STRETCH = 32 << 20

_PLAIN_SUFFIXES: Final = {
    ".cfg": "configuration",
    ".jinja": "a template",
    ".json": "configuration, a tokenizer or an index",
    ".md": "a text for people",
    ".model": "a tokenizer",
    ".py": "code",
    ".tiktoken": "a tokenizer",
    ".toml": "configuration",
    ".txt": "a tokenizer or a text for people",
    ".yaml": "configuration",
    ".yml": "configuration",
}
_PLAIN_NAMES: Final = {
    ".gitattributes": "version control",
    ".gitignore": "version control",
    "LICENSE": "a licence",
    "LICENCE": "a licence",
    "NOTICE": "a licence",
    "USE_POLICY": "a licence",
}
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Patterns of paths, such as ``*.bin`` or ``original/*``. An asterisk stands for slashes, too.

    Attributes:
        include: if there are any, files that match none are left out.
        exclude: files that match one are left out.
        seal: files that match one are sealed although they could stay readable.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    seal: tuple[str, ...] = ()

    def takes(self, path: str) -> bool:
        """Tell whether a file belongs to the model."""
        return (not self.include or _matches(path, self.include)) and not _matches(path, self.exclude)

    def check(self, paths: Collection[str]) -> None:
        """Refuse patterns that match nothing: they are misspelt.

        Raises:
            MalformedInput: the message names the first one.
        """
        for option, patterns in (("--include", self.include), ("--exclude", self.exclude), ("--seal", self.seal)):
            for pattern in patterns:
                if not any(_matches(path, (pattern,)) for path in paths):
                    raise MalformedInput(f"{option} {pattern!r}: matches no file of the model")


def _matches(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns)


EVERYTHING: Final = Selection()


def survey(
    place: Path, *, seal_all: bool = False, allow_pickle: bool = False, selection: Selection = EVERYTHING
) -> tuple[SourceFile, ...]:
    """Return the files of a model in the order of the content file.

    Args:
        place: a folder with a downloaded or saved model, or one file.
        seal_all: also seal files that could stay readable.
        allow_pickle: accept files that run code when they are loaded.
        selection: the files that belong to the model.

    Raises:
        MalformedInput: a pickle, a link out of the folder, a name that a content file may not hold, a device or pipe,
            a folder that is already sealed or holds snapshots, a pattern that matches nothing, or nothing to seal.
        Unavailable: the folder cannot be read.
    """
    folder, paths = (place, _walk(place)) if place.is_dir() else (place.parent, iter([place]))
    if (folder / CONTENT_NAME).exists():
        raise MalformedInput(
            f"{folder}: sealed already", remedy="nodeseal reslot changes its keys, nodeseal reseal its data key"
        )
    if place.is_dir() and (snapshots := sorted(place.glob("snapshots/*/"))) and (place / "blobs").is_dir():
        raise MalformedInput(f"{place}: a cache of several snapshots", remedy=f"name one, such as {snapshots[-1]}")
    all_paths = {path.relative_to(folder).as_posix(): path for path in paths}
    selection.check(all_paths)
    taken = [path for name, path in all_paths.items() if selection.takes(name)]
    found = sorted((_examine(folder, path, selection, seal_all=seal_all) for path in taken), key=lambda file: file.path)
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
            if not entry.name.startswith(".") and not of_others(entry):
                yield from _walk(entry)
        else:
            yield entry


def _examine(folder: Path, entry: Path, selection: Selection, *, seal_all: bool) -> SourceFile:
    location = _follow(folder, entry)
    with naming(entry):
        status = location.lstat()  # links were followed; a new link here is an attack
    if not stat.S_ISREG(status.st_mode):
        raise MalformedInput(f"{entry}: not a regular file")
    path = parse_path(entry.relative_to(folder).as_posix())
    secret = seal_all or _matches(path, selection.seal)
    plain = not secret and status.st_size <= MAX_PLAIN_SIZE and may_stay_plain(path)
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
    return bool(why_readable(path))


def why_readable(path: str) -> str:
    """Return why a file of this name may stay readable, or an empty text."""
    pure = PurePosixPath(path)
    return _PLAIN_NAMES.get(pure.name) or _PLAIN_SUFFIXES.get(pure.suffix.lower(), "")


def _refuse_pickles(files: list[SourceFile]) -> None:
    pickles = [file.path for file in files if PurePosixPath(file.path).suffix.lower() in _PICKLE_SUFFIXES]
    if pickles:
        more = f" and {len(pickles) - 1} more" if len(pickles) > 1 else ""
        raise MalformedInput(
            f"{pickles[0]}{more}: loading a pickle runs code",
            remedy="leave them out with --exclude if safetensors hold the same weights, else convert them;"
            " --allow-pickle seals them",
        )
