"""Who is at the other end of the local key socket, and whether the rules let it ask (DESIGN §7).

The kernel says it: SO_PEERCRED (unix(7)) gives process, user and group as they were at connect(2); ``/proc/PID``
gives the control group and the executable's bytes. A process may hand its connected socket to another one or call
exec(2). Any process of the allowed user can do that, so every rule names a user; executable and unit only narrow it. A
pidfd pins the pid while ``/proc`` is read, so that a pid that is reused then is noticed; one that was reused before
gains no more than exec(2) would.

User, group and unit cost nothing and come first. An executable, which may take long, is hashed only where a rule that
fits in all else asks for it (:mod:`nodeseal.agent.local.executables`).
"""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nodeseal.errors import PolicyRefused
from nodeseal.findings import Finding, FindingId

_UCRED: Final = struct.Struct("iII")
_PROC: Final = Path("/proc")
_MAX_CGROUP: Final = 64 * 1024


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
        return self.may_fit(caller) and self.executable_sha256 in (None, caller.executable_sha256)

    def may_fit(self, caller: LocalCaller) -> bool:
        """Tell whether ``caller`` is of this kind as far as cheap facts go: all but the executable."""
        return (
            caller.uid == self.uid
            and self.gid in (None, caller.gid)
            and (self.unit is None or self.unit in caller.units)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalCaller:
    """A process that connected.

    Attributes:
        pid: process id.
        uid: effective user id at connect(2).
        gid: effective group id at connect(2).
        executable_sha256: SHA-256 of its executable, or None where no rule asked for it, or it cannot be read.
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


@contextmanager
def pinned_peer(connection: socket.socket) -> Iterator[LocalCaller]:
    """Yield the process that connected, by facts that take no time; its pid means this process while the block runs.

    Args:
        connection: accepted.

    Raises:
        PolicyRefused: the process is gone, now or at the end of the block, so nothing can be said of it.
    """
    pid, uid, gid = _peer(connection)
    try:
        pinned = os.pidfd_open(pid)
    except OSError as error:
        raise _refusal("a running process", f"process {pid}: {error.strerror}") from error
    try:
        yield LocalCaller(pid=pid, uid=uid, gid=gid, executable_sha256=None, units=_units(pid))
        if select.select([pinned], [], [], 0)[0]:
            raise _refusal("a running process", f"process {pid} ended")
    finally:
        os.close(pinned)


def asks_executable(caller: LocalCaller, rules: tuple[CallerRule, ...]) -> bool:
    """Tell whether it takes the executable of ``caller`` to know whether one of ``rules`` describes it."""
    may_fit = [rule for rule in rules if rule.may_fit(caller)]
    return bool(may_fit) and all(rule.executable_sha256 is not None for rule in may_fit)


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


def _units(pid: int) -> tuple[str, ...]:
    try:
        with (_PROC / str(pid) / "cgroup").open("rb") as file:
            text = file.read(_MAX_CGROUP).decode(errors="replace")
    except OSError:
        return ()
    paths = (line.split(":", 2)[2] for line in text.splitlines() if line.count(":") >= 2)  # noqa: PLR2004  # cgroups(7)
    return tuple(part for path in paths for part in path.split("/") if part)
