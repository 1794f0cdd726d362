"""Files of a directory tree, such as a mounted image: hashed in parallel, links never followed."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

from nodeseal.cli.contents import MAX_FILES, Bounded, Found, named
from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import HashAlg

_AT_ONCE: Final = 1024
"""Files handed to the threads together, so that a tree of any size takes little memory."""


def tree_files(root: Path, bank: HashAlg, done: Callable[[int], None]) -> Found:
    """Yield the path below ``root`` and the digest of every regular file, on mounted file systems too.

    Args:
        root: the folder that stands for ``/``.
        bank: hash of the digests.
        done: called with the number of files hashed since its last call.

    Raises:
        MalformedInput: a folder or file cannot be read, or there are too many.
    """
    start = os.fsencode(root)
    paths = _walk(start)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for _ in range(0, MAX_FILES, _AT_ONCE):
            some = list(islice(paths, _AT_ONCE))
            if not some:
                return
            for path, digest in zip(some, threads.map(partial(_digest, bank=bank), some), strict=True):
                if digest is not None:
                    yield path.removeprefix(start.rstrip(b"/")), digest
            done(len(some))
    raise MalformedInput(f"{root}: holds more than {MAX_FILES} files")


def _walk(start: bytes) -> Iterator[bytes]:
    folders = [start]
    while folders:
        folder = folders.pop()
        with named(os.fsdecode(folder)), os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda each: each.name):
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    yield entry.path


def _digest(path: bytes, bank: HashAlg) -> bytes | None:
    """Hash a regular file; return None if the file has become something else."""
    source = os.fsdecode(path)
    with named(source):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            found = os.fstat(descriptor)
            return Bounded(file, source).hash(found.st_size, bank) if stat.S_ISREG(found.st_mode) else None
