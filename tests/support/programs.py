"""The programs under test as processes that start at once: each is forked from one that has loaded it and done nothing.

Loading takes a verifier or an agent a second of processor time, and most tests start one or more. So each test process
has one nursery per program, which imports the program and then forks a child for each start. A child runs the program's
own ``main`` with arguments, folder and output of its own, and ends as any process does. The demo's test starts programs
from nothing, as people do.

``python programs.py SOCKET MODULE…`` is a nursery for the program whose ``main`` the first module has; it ends when the
other end of its socket is closed.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, Final

VERIFIER: Final = (
    "nodeseal.verifier.main",
    "nodeseal.logs",
    "nodeseal.verifier.keys.stores",
    "nodeseal.verifier.wiring",
    "uvloop",
)
AGENT: Final = "nodeseal.agent.main", "nodeseal.agent.config", "nodeseal.agent.service", "nodeseal.logs"
"""The module of a program's ``main``, and what its command ``run`` imports."""
_REQUEST: Final = 1 << 17
_ASKING: Final = Lock()


class Program:
    """A child of a nursery, in the shape of :class:`subprocess.Popen`.

    Attributes:
        pid: of the process.
        returncode: how it ended, negative for a signal; None while it runs.
    """

    def __init__(self, pid: int, ended: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = ended
        self._reading = Lock()

    def __del__(self) -> None:
        os.close(self._ended)

    def poll(self) -> int | None:
        """Return how it ended, or None while it runs."""
        return self.returncode if self._await(0) else None

    def wait(self, timeout: float) -> int:
        """Wait for its end and return how it ended."""
        if not self._await(timeout):
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal; one that has ended gets none."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _await(self, seconds: float) -> bool:
        if self.returncode is None and select.select([self._ended], [], [], seconds)[0]:
            with self._reading:
                if self.returncode is None:
                    self.returncode = int(os.read(self._ended, 16) or -signal.SIGKILL)  # nothing: the nursery is gone
        return self.returncode is not None


def start(
    modules: tuple[str, ...],
    *arguments: str,
    output: int,
    folder: Path | None = None,
    loaded_with: Mapping[str, str] | None = None,
) -> Program:
    """Start a program.

    Args:
        modules: :data:`VERIFIER` or :data:`AGENT`.
        arguments: its command line.
        output: descriptor of what it prints.
        folder: where it runs; None: here.
        loaded_with: variables of the environment that must be there when modules are imported.
    """
    variables = {**(loaded_with or {}), **os.environ}
    nursery = _nursery(modules, tuple((loaded_with or {}).items()), os.getpid())
    ended, ends = os.pipe()
    wanted = {"arguments": arguments, "folder": str(folder or Path.cwd()), "variables": variables}
    with _ASKING:
        socket.send_fds(nursery, [json.dumps(wanted).encode()], [output, ends])
        pid = int(nursery.recv(16))
    os.close(ends)
    return Program(pid, ended)


@cache
def _nursery(modules: tuple[str, ...], loaded_with: tuple[tuple[str, str], ...], _pid: int) -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, __file__, str(theirs.fileno()), *modules]
        variables = {**dict(loaded_with), **os.environ}
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env=variables)
    process.returncode = 0  # it ends with this process, which does not wait for it
    return ours


def _child(requests: socket.socket, waker: int) -> tuple[dict[str, Any], int] | None:
    """Fork children as requests come; return a request in its child, and None in the nursery when it may end."""
    children: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([requests.fileno(), waker], [], [])
        if waker in ready:
            os.read(waker, 4096)
            _reap(children)
        if requests.fileno() in ready:
            request, descriptors, _, _ = socket.recv_fds(requests, _REQUEST, 2)
            if not request:
                return None
            output, ends = descriptors
            if (pid := os.fork()) == 0:
                for other in (*children.values(), ends):
                    os.close(other)
                return json.loads(request), output
            os.close(output)
            children[pid] = ends
            requests.send(str(pid).encode())


def _reap(children: dict[int, int]) -> None:
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ends = children.pop(found[0])
            with suppress(BrokenPipeError):  # nobody asks
                os.write(ends, str(os.waitstatus_to_exitcode(found[1])).encode())
            os.close(ends)


def _become(name: str, wanted: dict[str, Any], output: int) -> None:
    """Take over a child's arguments, folder, environment and output."""
    for standard in (1, 2):
        os.dup2(output, standard)
    os.close(output)
    os.chdir(wanted["folder"])
    os.environ.clear()
    os.environ.update(wanted["variables"])
    sys.argv = [name, *wanted["arguments"]]


def _serve(descriptor: str, *modules: str) -> Callable[[], None] | None:
    """Return what a child runs, and in the nursery None when it may end."""
    main, *_ = map(importlib.import_module, modules)
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the tests, and with them this process
    with socket.socket(fileno=int(descriptor)) as requests:
        found = _child(requests, woken)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.close(woken)
    os.close(waker)
    if found is None:
        return None
    _become(modules[0], *found)
    run: Callable[[], None] = main.main
    return run


if __name__ == "__main__":
    serving = _serve(*sys.argv[1:])
    if serving is not None:
        serving()
