"""Ends what a test run started and left running, once the run itself has ended, whatever ended it.

A run has a mark in the environment of all its processes and one folder for their temporary files. The keeper is a
process in a session of its own, which no signal to the run reaches: ``python keeper.py PID MARK FOLDER SECONDS`` waits
until process PID has ended, gives the others SECONDS to end as well, ends and names those that did not, and removes
FOLDER.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Final

VARIABLE: Final = "NODESEAL_TEST_RUN"
ENDED: Final = "nodeseal tests: still running after the tests, ended now: "
_POLL_SECONDS: Final = 0.1


def start(grace_seconds: float = 10) -> subprocess.Popen[bytes]:
    """Mark this process's environment, move temporary files to a folder of the run's, and start the keeper of both."""
    os.environ["PYTEST_DEBUG_TEMPROOT"] = tempfile.gettempdir()  # pytest keeps the folders of three runs there
    os.environ[VARIABLE] = mark = str(uuid.uuid4())
    os.environ["TMPDIR"] = tempfile.tempdir = tempfile.mkdtemp(prefix="ns-")  # short: sockets lie below
    Path(tempfile.tempdir).chmod(0o711)  # tests that run as root reach those sockets as other users
    command = [sys.executable, "-I", "-S", __file__, str(os.getpid()), mark, tempfile.tempdir, str(grace_seconds)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)


def marked(variable: str, mark: str) -> list[int]:
    """Return the ids of other processes that were started with ``variable`` set to ``mark``."""
    line, found = f"{variable}={mark}".encode(), []
    for path in Path("/proc").glob("[0-9]*"):
        pid = int(path.name)
        if pid != os.getpid() and line in _environment(pid):
            found.append(pid)
    return found


def _environment(pid: int) -> list[bytes]:
    """Return the environment that a process was started with; empty for one that has ended, or of another user."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return []


def command_line(pid: int) -> str:
    """Return what a process was started as; empty when it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def main(parent: str, mark: str, folder: str, seconds: str) -> None:
    """Keep watch over one run."""
    _await_end(int(parent))
    deadline = time.monotonic() + float(seconds)
    while marked(VARIABLE, mark) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    while pids := marked(VARIABLE, mark):  # again, for what was being started meanwhile
        for pid in pids:
            end(pid, mark)
        time.sleep(_POLL_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)


def _await_end(parent: int) -> None:
    with suppress(OSError):  # it has ended, or the kernel has no such call
        pidfd = os.pidfd_open(parent)
        if os.getppid() == parent:
            select.select([pidfd], [], [])
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)


def end(pid: int, mark: str) -> None:
    """End and name a process of the run with ``mark``; one that has the id by now, but not the mark, is left alone."""
    with suppress(OSError):  # it has ended
        pidfd = os.pidfd_open(pid)  # of this very process, whoever gets the id after it
        try:
            if f"{VARIABLE}={mark}".encode() in _environment(pid):
                print(f"{ENDED}{command_line(pid)}", file=sys.stderr, flush=True)  # noqa: T201 - what people shall see
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)


if __name__ == "__main__":
    main(*sys.argv[1:])
