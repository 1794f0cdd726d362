"""Checks of files and folders that settings name: there, of the right kind, readable, and closed to other users."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage
from typing import Final

from nodeseal.checks.faults import Fault, passed
from nodeseal.errors import NodesealError
from nodeseal.files import opened

_OTHERS: Final = 0o077
_ROOT: Final = 0


@dataclass(frozen=True, slots=True)
class Named:
    """A file or folder, and the setting that names it."""

    field: str
    path: Path

    def fault(self, what: str, remedy: str, *, fatal: bool = True) -> Fault:
        """Return a fault of it."""
        return Fault(field=self.field, file=str(self.path), what=what, remedy=remedy, fatal=fatal)


def file_faults(named: Named) -> Iterator[Fault]:
    """Check a file: regular, readable, and not to be changed by other users."""
    absent = _absent(named)
    if absent is not None:
        yield absent
        return
    try:
        with opened(named.path) as descriptor:
            found = os.fstat(descriptor)
    except NodesealError as error:
        what = str(error).removeprefix(f"{named.path}: ")
        yield named.fault(what, f"let {named.field} name a file that {_user(os.geteuid())} can read")
        return
    if found.st_mode & stat.S_IWOTH:
        yield named.fault("every user may change it", f"chmod o-w {named.path}")
    elif found.st_mode & stat.S_IWGRP:
        yield named.fault(f"group {found.st_gid} may change it", f"chmod g-w {named.path}", fatal=False)


def secret_faults(named: Named, owner: int) -> Iterator[Fault]:
    """Check a secret file: regular, readable, and its user's alone.

    Args:
        named: the file.
        owner: id of the user as which the program runs; root may own secrets, too.
    """
    if not (yield from passed(file_faults(named))):
        return
    status = named.path.stat()
    if status.st_mode & _OTHERS:
        yield named.fault("other users may read or change it", f"chmod 600 {named.path}")
    if status.st_uid not in {_ROOT, owner}:
        who = _user(status.st_uid)
        yield named.fault(f"belongs to {who}, who can read and change it", f"chown {_user(owner)} {named.path}")
    elif status.st_uid != owner:
        what = f"belongs to {_user(status.st_uid)}, so a program that runs as {_user(owner)} cannot read it"
        yield named.fault(what, f"chown {_user(owner)} {named.path}", fatal=False)


def private_folder_faults(named: Named) -> Iterator[Fault]:
    """Check a folder that the program writes, and nobody else may look into."""
    yield from folder_faults(named)
    if named.path.is_dir() and (mode := stat.S_IMODE(named.path.stat().st_mode)) & _OTHERS:
        yield named.fault(f"open to other users (mode {mode:o})", f"chmod 700 {named.path}")


def folder_faults(named: Named) -> Iterator[Fault]:
    """Check a folder that the program writes."""
    absent = _absent(named)
    if absent is not None:
        yield absent
        return
    if not named.path.is_dir():
        yield named.fault("not a folder", f"let {named.field} name a folder")
        return
    mode = stat.S_IMODE(named.path.stat().st_mode)
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        yield named.fault("every user may change what is in it", f"chmod o-w {named.path}")
    if not os.access(named.path, os.W_OK | os.X_OK):
        yield named.fault("cannot be written", f"let {_user(os.geteuid())} write there; is its file system read-only?")


def space_faults(named: Named, least: int) -> Iterator[Fault]:
    """Warn if a folder's disk has less than ``least`` bytes left."""
    try:
        free = disk_usage(named.path).free
    except OSError:
        return  # another check says why
    if free < least:
        what = f"{free >> 20} MiB are left on its disk, less than {least >> 20} MiB"
        yield named.fault(what, "make room", fatal=False)


def owner_of(path: Path) -> int:
    """Return the id of the user as which a program runs: root works for the owner of its files."""
    if os.geteuid() != _ROOT:
        return os.geteuid()
    try:
        return path.stat().st_uid
    except OSError:
        return _ROOT


def _absent(named: Named) -> Fault | None:
    try:
        named.path.stat()
    except OSError as error:
        link = f", a link to {named.path.readlink()}" if named.path.is_symlink() else ""
        return named.fault(f"{error.strerror}{link}", f"put it there, or correct {named.field}")
    return None


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
