"""The demo's stage: a folder, the programs that run in it, and the commands that are typed.

Every program is started with its own session and log file, and ended by its process id, last started first. If this
process is killed, the kernel ends them all.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from nodeseal.cli.demo.leash import leashed
from nodeseal.cli.demo.narrator import Narrator
from nodeseal.errors import NodesealError

_STOP_SECONDS = 10
_COMMAND_SECONDS = 300
_UNTIL_SECONDS = 180
"""Far longer than anything takes, also on a machine that is busy with other work."""
_POLL_SECONDS = 0.2

Value = TypeVar("Value")


class DemoFailed(NodesealError):
    """Something did not turn out as the story says."""


class Stage:
    """Runs programs and commands below ``directory``; as a context manager, ends them all."""

    def __init__(self, directory: Path, narrator: Narrator) -> None:
        self.directory = directory
        self._narrator = narrator
        self._started: list[subprocess.Popen[bytes]] = []
        self._servers: dict[str, subprocess.Popen[bytes]] = {}
        self._environment = {**os.environ, "NODESEAL_CLIENT": str(self.client), "COLUMNS": "200", "NO_COLOR": "1"}
        (directory / "logs").mkdir(parents=True)

    @property
    def client(self) -> Path:
        """The folder that makes commands speak as the administrator."""
        return self.directory / "verifier" / "persons" / "admin"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(value, DemoFailed) and not value.remedy:
            value.remedy = f"read {self.directory / 'logs'}"
        with _undisturbed():
            while self._started:
                _end(self._started.pop())

    def log(self, name: str) -> Path:
        """Return the log file of a program."""
        return self.directory / "logs" / f"{name}.log"

    def start(self, name: str, *argv: str) -> None:
        """Start a program that runs until the end of the demo; its early end is a failure."""
        self._servers[name] = self.begin(name, *argv)

    def begin(self, name: str, *argv: str) -> subprocess.Popen[bytes]:
        """Start a program that may end by itself."""
        with self.log(name).open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - argv is the demo's own
                leashed(_resolve(argv)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=self._environment,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def type(self, *argv: str, shown: bool = True, expect: int = 0) -> str:
        """Run one command, show it with its output, and insist on its exit code."""
        if shown:
            self._narrator.command(shlex.join(argv))
        done = subprocess.run(  # noqa: S603 - argv is the demo's own
            leashed(_resolve(argv)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.directory,
            env=self._environment,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
        if shown:
            self._narrator.result(done.stdout)
        if done.returncode != expect:
            raise DemoFailed(f"{shlex.join(argv)}: exit {done.returncode}, expected {expect}: {done.stdout.strip()}")
        return done.stdout

    @contextmanager
    def halted(self, name: str) -> Iterator[None]:
        """Context manager that halts a program."""
        self._servers[name].send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._servers[name].send_signal(signal.SIGCONT)

    def until(self, what: str, poll: Callable[[], Value | None], seconds: float = _UNTIL_SECONDS) -> Value:
        """Wait until ``poll`` returns something that is true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := poll():
                return value
            self._insist_that_all_run()
            time.sleep(_POLL_SECONDS)
        raise DemoFailed(f"waited {seconds:.0f} s for this: {what}")

    def wait(self) -> None:
        """Wait until a person presses Ctrl-C or a program ends."""
        with suppress(KeyboardInterrupt):
            while True:
                self._insist_that_all_run()
                time.sleep(1)

    def _insist_that_all_run(self) -> None:
        for name, process in self._servers.items():
            if process.poll() is not None:
                raise DemoFailed(f"{name} ended with {process.returncode}", remedy=f"read {self.log(name)}")


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Context manager that delays signals that would end this process."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    if process.poll() is None:
        process.kill()
        process.wait()


def free_port() -> int:
    """Return a loopback port that nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _resolve(argv: tuple[str, ...]) -> list[str]:
    """Find nodeseal's own programs beside this interpreter, so that no PATH is needed."""
    if argv[0] == "python":
        return [sys.executable, *argv[1:]]
    beside = Path(sys.executable).parent / argv[0]
    return [str(beside) if beside.exists() else argv[0], *argv[1:]]
