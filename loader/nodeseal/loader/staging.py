"""A directory that appears whole or not at all: written under a temporary name, synced, renamed.

If the process dies, what it wrote stays under the temporary name, a hidden sibling of the destination, and can be
deleted: :func:`leftovers` finds it. Sealing never continues there: it starts again, with a new key.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.files import naming, sync_folder

_SUFFIX: Final = ".sealing"
_RANDOM_BYTES: Final = 4


def check_space(folder: Path, size: int) -> None:
    """Refuse at once what the disk below ``folder`` cannot hold, instead of after an hour.

    Raises:
        Unavailable: fewer than ``size`` bytes are free, or there is no such folder.
    """
    with naming(folder):
        disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if disk.f_blocks and free < size:  # a file system that does not know says 0 blocks
        raise Unavailable(
            f"{folder.absolute()}: {size:,} bytes are needed, {free:,} are free: {os.strerror(errno.ENOSPC)}",
            remedy="make room, or name a folder on another disk",
        )


@contextmanager
def staged(destination: Path) -> Iterator[Path]:
    """Give an empty directory that becomes ``destination`` when the block ends well, and is deleted otherwise.

    Raises:
        MalformedInput: ``destination`` exists.
        Unavailable: the disk refuses.
    """
    if destination.exists() or destination.is_symlink():
        raise MalformedInput(f"{destination}: exists already", remedy="name a folder that does not exist yet")
    temporary = destination.parent / f".{destination.name}.{secrets.token_hex(_RANDOM_BYTES)}{_SUFFIX}"
    with naming(temporary):
        temporary.mkdir()
    try:
        yield temporary
        with naming(destination):
            _sync_tree(temporary)
            temporary.rename(destination)
            sync_folder(destination.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def leftovers(destination: Path) -> list[Path]:
    """Return what runs that were killed left of ``destination``, and what runs that live have written of it so far.

    Raises:
        Unavailable: the folder cannot be read.
    """
    name = re.compile(rf"\.{re.escape(destination.name)}\.[0-9a-f]{{{2 * _RANDOM_BYTES}}}{re.escape(_SUFFIX)}")
    with naming(destination.parent):
        return sorted(path for path in destination.parent.iterdir() if name.fullmatch(path.name))


def pass_cache_by(descriptor: int) -> None:
    """Have what is written from now on go past the page cache, where the file system can do that (open(2), O_DIRECT).

    Memory, offset and size of every write must then be multiples of 4096.
    """
    with suppress(OSError):  # not every file system can: what is written is the same
        fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_DIRECT)


def _sync_tree(folder: Path) -> None:
    for parent, _, _ in os.walk(folder):
        sync_folder(Path(parent))
