"""A directory that appears whole or not at all: written under a temporary name, synced, renamed.

If the process dies, its files stay under the temporary name, in a hidden folder beside the destination.
:func:`leftovers` finds such folders, and they can be deleted. Sealing never continues there: it starts again, with a
new key.
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
    """Check the free space on the disk of ``folder`` before the work begins.

    Raises:
        Unavailable: fewer than ``size`` bytes are free, or the folder does not exist.
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
    """Make an empty directory that becomes ``destination`` if the block succeeds, and is deleted otherwise.

    Raises:
        MalformedInput: ``destination`` exists.
        Unavailable: the disk fails.
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
    """Return the temporary folders of ``destination``, of runs that were killed and of runs that still work.

    Raises:
        Unavailable: the folder cannot be read.
    """
    name = re.compile(rf"\.{re.escape(destination.name)}\.[0-9a-f]{{{2 * _RANDOM_BYTES}}}{re.escape(_SUFFIX)}")
    with naming(destination.parent):
        return sorted(path for path in destination.parent.iterdir() if name.fullmatch(path.name))


def pass_cache_by(descriptor: int) -> None:
    """Let later writes bypass the page cache, if the file system supports that (open(2), O_DIRECT).

    Memory, offset and size of every write must then be multiples of 4096.
    """
    with suppress(OSError):  # not every file system can: what is written is the same
        fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_DIRECT)


def _sync_tree(folder: Path) -> None:
    for parent, _, _ in os.walk(folder):
        sync_folder(Path(parent))
