"""Files read and written whole, with errors that name the file.

A reader never sees half a file: :func:`write_new` and :func:`replace_file` write a draft beside it, see the draft to
the disk, give it its name, and see the name to the disk. :func:`new_file` and :func:`write_file` are for folders that
nobody reads yet. Only folders, names and bytes are known here, no formats.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from nodeseal.errors import MalformedInput, NodesealError, Unavailable

PRIVATE: Final = 0o600
PUBLIC: Final = 0o644
_OTHERS: Final = 0o077
MAX_PEM: Final = 1 << 20
"""Bytes of a file with certificates or a key."""
_MAX_SETTING: Final = 16 << 20
"""Bytes of a file that settings name: certificates and keys."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn an error of the operating system into :class:`~nodeseal.errors.Unavailable` with the name of the file."""
    try:
        yield
    except OSError as error:
        raise _unavailable(path, error) from error


def open_regular(path: Path, *, follow: bool = True) -> int:
    """Open a regular file for reading and return its descriptor.

    Args:
        path: the file.
        follow: whether a symbolic link stands for its target.

    Raises:
        Unavailable: it cannot be opened, or is a link that is not followed.
        MalformedInput: it is a device, a pipe or a folder.
    """
    with naming(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise MalformedInput(f"{path}: not a regular file")
    return descriptor


@contextmanager
def opened(path: Path, *, follow: bool = True) -> Iterator[int]:
    """Give the descriptor of :func:`open_regular` and close it after the block."""
    descriptor = open_regular(path, follow=follow)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def of_others(folder: Path) -> bool:
    """Tell whether a folder on a volume is nobody's model: ``lost+found``, or one that this process may not read."""
    return folder.name == "lost+found" or not os.access(folder, os.R_OK | os.X_OK)


def read_exactly(descriptor: int, buffer: memoryview, offset: int, path: Path) -> None:
    """Fill ``buffer`` from ``offset``.

    Raises:
        Unavailable: the file ends before, or cannot be read.
    """
    done = 0
    while done < len(buffer):
        try:
            count = os.preadv(descriptor, [buffer[done:]], offset + done)
        except OSError as error:  # naming() would make a generator for each segment
            raise _unavailable(path, error) from error
        if count == 0:
            raise Unavailable(f"{path}: became shorter while it was read")
        done += count


def write_exactly(descriptor: int, data: memoryview, offset: int, path: Path) -> None:
    """Write all of ``data`` at ``offset``.

    Raises:
        Unavailable: the disk is full or failing.
    """
    done = 0
    while done < len(data):
        try:
            done += os.pwrite(descriptor, data[done:], offset + done)
        except OSError as error:
            raise _unavailable(path, error) from error


def read_small(path: Path, limit: int) -> bytes:
    """Return a whole file of at most ``limit`` bytes.

    Raises:
        Unavailable: it is not there or cannot be read.
        MalformedInput: it is longer, or not a regular file.
    """
    with opened(path) as descriptor:
        size = os.fstat(descriptor).st_size
        if size > limit:
            raise MalformedInput(f"{path}: {size} bytes, at most {limit}")
        buffer = bytearray(size)
        read_exactly(descriptor, memoryview(buffer), 0, path)
    return bytes(buffer)


def read_regular(path: Path, limit: int) -> bytes:
    """Return a file up to its end, or its first ``limit`` bytes. Files of the kernel say that they are empty.

    Raises:
        Unavailable: it is not there or cannot be read.
        MalformedInput: it is not a regular file: a pipe may never end.
    """
    with opened(path) as descriptor, naming(path), os.fdopen(descriptor, "rb", closefd=False) as file:
        return file.read(limit)


def read_file(path: Path, what: str) -> bytes:
    """Return the content of a file that settings name; ``what`` is the setting.

    Raises:
        MalformedInput: it cannot be read, is no regular file, or is larger than such files are.
    """
    try:
        return read_small(path, _MAX_SETTING)
    except NodesealError as error:
        raise MalformedInput(f"{what}: {error}", remedy=error.remedy) from error


def read_private(path: Path, what: str) -> bytes:
    """Return the content of a secret file that only its owner can read; ``what`` is the setting that names it.

    Raises:
        MalformedInput: it cannot be read, or other users may read or change it.
    """
    content = read_file(path, what)
    if path.stat().st_mode & _OTHERS:
        raise MalformedInput(f"{what}: {path}: other users may read or change it", remedy=f"chmod 600 {path}")
    return content


@contextmanager
def new_file(path: Path, mode: int = PUBLIC) -> Iterator[int]:
    """Give the descriptor of a new file, whose content is on the disk when the block ends.

    Raises:
        Unavailable: the file exists, or the disk refuses.
    """
    with naming(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        yield descriptor
        with naming(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, content: bytes, mode: int = PUBLIC) -> None:
    """Write a new file; its content is on the disk afterwards, its name only after :func:`sync_folder`.

    Raises:
        Unavailable: the file exists, or the disk refuses.
    """
    with naming(path):
        _write(path, content, mode)


def write_new(path: Path, content: bytes, mode: int = PRIVATE) -> None:
    """Make a file with ``content``, whole, durable, and never in the place of another.

    Raises:
        MalformedInput: the file exists.
        Unavailable: the disk refuses.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with naming(path):
        try:
            _write(draft, content, mode)
            os.link(draft, path)
        except FileExistsError as error:
            raise MalformedInput(f"{path}: exists already") from error
        finally:
            draft.unlink(missing_ok=True)
        sync_folder(path.parent)


def replace_file(
    path: Path, content: bytes, draft: Path, mode: int = PRIVATE, owner: tuple[int, int] | None = None
) -> None:
    """Put a file with ``content`` in the place of the one that is there, whole and durable.

    Args:
        path: the file; it need not exist yet.
        content: all of it.
        draft: a name in the same folder that no other process uses now; a file of that name is deleted.
        mode: permissions.
        owner: ids of user and group that it shall belong to; None: those of this process.

    Raises:
        Unavailable: the disk refuses. The old file is intact, unless only the durability of the new name is in doubt.
    """
    with naming(path):
        draft.unlink(missing_ok=True)
        try:
            _write(draft, content, mode)
            if owner is not None:
                os.chown(draft, *owner)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        sync_folder(path.parent)


@contextmanager
def draft_beside(folder: Path) -> Iterator[Path]:
    """Give an empty folder beside ``folder``, for its owner alone; what has that name after the block is deleted.

    Raises:
        OSError: it cannot be made.
    """
    draft = folder.absolute().with_name(f".{folder.absolute().name}.{secrets.token_hex(8)}")
    draft.mkdir(mode=0o700)
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to fill, which takes the place of ``folder`` when all of it is on the disk, or leaves nothing.

    Raises:
        Unavailable: the disk refuses, or something is in a folder of that name by then.
    """
    with naming(folder), draft_beside(folder) as draft:
        yield draft
        sync_folder(draft)
        draft.rename(folder)
        sync_folder(folder.parent)


def claim_folder(folder: Path, remedy: str) -> int:
    """Keep other processes that claim a folder away, as long as the descriptor that this returns is open (flock(2)).

    Raises:
        Unavailable: another process has claimed it, or there is no such folder.
    """
    with naming(folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = _claimant(os.fstat(descriptor))
        os.close(descriptor)
        raise Unavailable(f"{folder}: {holder} uses it", remedy=remedy) from error
    return descriptor


def _claimant(folder: os.stat_result) -> str:
    """Name the process that has claimed a folder, as far as the kernel tells (proc(5), /proc/locks)."""
    place = f"{os.major(folder.st_dev):02x}:{os.minor(folder.st_dev):02x}:{folder.st_ino}"
    with suppress(OSError):
        for line in Path("/proc/locks").read_text("ascii").splitlines():
            if "FLOCK" in line and place in line:
                return f"process {line.split()[4]}"
    return "another process"


def sync_folder(folder: Path) -> None:
    """See the names in a folder to the disk.

    Raises:
        OSError: the disk refuses.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _unavailable(path: Path, error: OSError) -> Unavailable:
    return Unavailable(f"{path}: {error.strerror or 'input/output error'}")
