"""A verifier's database that cannot be written for a while: locked, full, or read-only; or cannot be read either."""

from __future__ import annotations

import fcntl
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

from support.verifier import RunningVerifier

_FIRST_LOCK, _LOCKS = 120, 8
"""Bytes that SQLite locks in the index of a write-ahead log."""

Fault = Callable[[RunningVerifier], AbstractContextManager[None]]


def database(verifier: RunningVerifier) -> Path:
    """Return the file of a verifier's database."""
    return verifier.folder / "verifier.sqlite"


@contextmanager
def locked(verifier: RunningVerifier) -> Iterator[None]:
    """Hold the lock of everybody who writes."""
    with closing(sqlite3.connect(database(verifier), isolation_level=None, timeout=20)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@contextmanager
def full(verifier: RunningVerifier) -> Iterator[None]:
    """Let no file of the database grow, as on a full disk; a process that starts meanwhile is not concerned."""
    log = database(verifier).with_name("verifier.sqlite-wal")
    pid = verifier.process.pid
    _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (log.stat().st_size, most))
    try:
        yield
    finally:
        if verifier.process.pid == pid and verifier.process.poll() is None:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))


@contextmanager
def read_only(verifier: RunningVerifier) -> Iterator[None]:
    """Let nobody write to the files of the database, root included, whoever has them open."""
    files = [str(path) for path in sorted(verifier.folder.glob("verifier.sqlite*")) if path.suffix != ".sqlite-shm"]
    if shutil.which("chattr") is None:
        pytest.skip("files cannot be made immutable here: chattr of e2fsprogs is not installed")
    if subprocess.run(["chattr", "+i", *files], capture_output=True, check=False).returncode:
        pytest.skip("files cannot be made immutable here: takes root, and a file system that can")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", *files], check=True)


@contextmanager
def unreadable(verifier: RunningVerifier) -> Iterator[None]:
    """Hold every lock of the index of the write-ahead log, without which nobody can read either."""
    with database(verifier).with_name("verifier.sqlite-shm").open("r+b") as index:
        fcntl.lockf(index, fcntl.LOCK_EX, _LOCKS, _FIRST_LOCK)
        yield
        fcntl.lockf(index, fcntl.LOCK_UN, _LOCKS, _FIRST_LOCK)


FAULTS: dict[str, Fault] = {"locked": locked, "full": full, "read-only": read_only}
