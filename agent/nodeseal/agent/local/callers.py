"""Who is at the other end of the local key socket, and whether the rules let it ask (DESIGN §7).

The kernel says it: SO_PEERCRED (unix(7)) gives process, user and group as they were at connect(2); ``/proc/PID``
gives the executable's bytes and the control group. A process may hand its connected socket to another one or call
exec(2). Any process of the allowed user can do that, so every rule names a user; executable and unit only narrow it. A
pidfd pins the pid while ``/proc`` is read, so that a pid that is reused then is noticed; one that was reused before
gains no more than exec(2) would.
"""

from __future__ import annotations

import hashlib
import os
import select
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nodeseal.errors import PolicyRefused
from nodeseal.findings import Finding, FindingId

_UCRED: Final = struct.Struct("iII")
_PROC: Final = Path("/proc")
_MAX_CGROUP: Final = 64 * 1024
_MAX_EXECUTABLE: Final = 1 << 30
"""Bytes; hashing more would let a caller keep the agent busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerRule:
    """One kind of process that may ask for keys; every field that is given must fit.

    Attributes:
        uid: user id.
        gid: primary group id.
        executable_sha256: SHA-256 of the file that ``/proc/PID/exe`` shows.
        unit: one component of the process's control group path: a systemd unit (``vllm.service``) or the scope of a
            container (``docker-….scope``).
    """

    uid: int
    gid: int | None = None
    executable_sha256: bytes | None = None
    unit: str | None = None

    def fits(self, caller: LocalCaller) -> bool:
        """Tell whether ``caller`` is of this kind."""
        return (
            caller.uid == self.uid
            and self.gid in (None, caller.gid)
            and self.executable_sha256 in (None, caller.executable_sha256)
            and (self.unit is None or self.unit in caller.units)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalCaller:
    """A process that connected.

    Attributes:
        pid: process id.
        uid: effective user id at connect(2).
        gid: effective group id at connect(2).
        executable_sha256: SHA-256 of its executable, or None where it was not looked at, or the kernel does not let the
            agent read it.
        units: the components of its control group path; empty where it cannot be read.
    """

    pid: int
    uid: int
    gid: int
    executable_sha256: bytes | None
    units: tuple[str, ...]

    def __str__(self) -> str:
        executable = self.executable_sha256.hex() if self.executable_sha256 else "unknown"
        return f"uid {self.uid}, gid {self.gid}, executable {executable}, unit {'/'.join(self.units) or 'unknown'}"


def peer_user(connection: socket.socket) -> int:
    """Return the effective user id of the process that connected, as it was at connect(2)."""
    return _peer(connection)[1]


def identify(connection: socket.socket, *, stranger: bool = False) -> LocalCaller:
    """Return the process that connected; it blocks for as long as hashing its executable takes.

    Args:
        connection: accepted.
        stranger: no rule can fit this user, so its executable, which may be made to take long, is not looked at.

    Raises:
        PolicyRefused: the process is gone, so nothing can be said of it.
    """
    pid, uid, gid = _peer(connection)
    try:
        pinned = os.pidfd_open(pid)
    except OSError as error:
        raise _refusal("a running process", f"process {pid}: {error.strerror}") from error
    try:
        executable = None if stranger else _executable(pid)
        caller = LocalCaller(pid=pid, uid=uid, gid=gid, executable_sha256=executable, units=_units(pid))
        if select.select([pinned], [], [], 0)[0]:
            raise _refusal("a running process", f"process {pid} ended")
        return caller
    finally:
        os.close(pinned)


def check_caller(caller: LocalCaller, rules: tuple[CallerRule, ...]) -> None:
    """Let a caller pass that one of ``rules`` describes. No rules: nobody passes.

    Raises:
        PolicyRefused: no rule fits.
    """
    if not any(rule.fits(caller) for rule in rules):
        raise _refusal(f"a caller that one of the {len(rules)} rules describes", str(caller))


def _peer(connection: socket.socket) -> tuple[int, int, int]:
    pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return pid, uid, gid


def _refusal(expected: str, seen: str) -> PolicyRefused:
    return PolicyRefused(Finding(id=FindingId.CALLER_REFUSED, expected=expected, seen=seen, where="callers"))


def _executable(pid: int) -> bytes | None:
    try:
        with (_PROC / str(pid) / "exe").open("rb") as file:
            if os.fstat(file.fileno()).st_size > _MAX_EXECUTABLE:
                return None
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return None


def _units(pid: int) -> tuple[str, ...]:
    try:
        with (_PROC / str(pid) / "cgroup").open("rb") as file:
            text = file.read(_MAX_CGROUP).decode(errors="replace")
    except OSError:
        return ()
    paths = (line.split(":", 2)[2] for line in text.splitlines() if line.count(":") >= 2)  # noqa: PLR2004  # cgroups(7)
    return tuple(part for path in paths for part in path.split("/") if part)
