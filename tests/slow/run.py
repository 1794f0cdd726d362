"""One run of a program under test: its mark, its folder, its output, and what is left of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nodeseal.cli.demo.leash import leashed
from support import keeper

ROOT: Final = Path(__file__).resolve().parents[2]
_VARIABLE: Final = "NODESEAL_CHECK_SLOW"
_END_SECONDS: Final = 120
"""How long programs may take to end on a machine that is busy; a keeper of tests waits for ten seconds itself."""
_POLL_SECONDS: Final = 0.1
_SHOWN_LINES: Final = 30


class Skipped(Exception):
    """A part cannot run on this machine; the message says why."""


def say(text: str) -> None:
    """Print one line of progress or of the verdict."""
    print(f"check-slow: {text}", flush=True)  # noqa: T201 - what people run this for


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A program that was started in a session of its own.

    Attributes:
        process: the program.
        folder: where it puts temporary files.
        mark: what all its descendants have in their environment.
    """

    process: subprocess.Popen[bytes]
    folder: Path
    mark: str

    def output(self) -> str:
        """Return what it has printed so far."""
        return _output(self.folder).read_text(errors="replace")

    def running(self) -> list[int]:
        """Return the ids of the program and its descendants that run."""
        self.process.poll()
        return keeper.marked(_VARIABLE, self.mark)

    def left(self) -> list[str]:
        """Wait for the end of them all; end and return the command lines of those that did not in time."""
        until(lambda: not self.running(), _END_SECONDS)
        lines = [keeper.command_line(pid) for pid in self.running()]
        self.end()
        return lines

    def end(self) -> None:
        """End whatever still runs."""
        while pids := self.running():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(_POLL_SECONDS)


@contextmanager
def started(*argv: str) -> Iterator[Run]:
    """Start a program; end whatever is left of it afterwards, and remove its files."""
    folder, mark = Path(tempfile.mkdtemp(prefix="cs-")), str(uuid.uuid4())
    environment = os.environ | {_VARIABLE: mark, "TMPDIR": str(folder)}
    with _output(folder).open("wb") as output:
        process = subprocess.Popen(
            leashed(argv), stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=ROOT, env=environment,
            start_new_session=True,
        )  # fmt: skip
    run = Run(process=process, folder=folder, mark=mark)
    try:
        yield run
    finally:
        run.end()
        process.wait()
        shutil.rmtree(folder)
        _output(folder).unlink()


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until a condition holds, or for so long; return whether it holds."""
    deadline = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return holds


def tests(*patterns: str) -> list[str]:
    """Return the test modules whose names match; modules may move between folders.

    Raises:
        LookupError: a pattern matches none.
    """
    found = {pattern: sorted(map(str, (ROOT / "tests").rglob(pattern))) for pattern in patterns}
    if missing := [pattern for pattern, paths in found.items() if not paths]:
        raise LookupError(f"no test module is called {', '.join(missing)}")
    return [path for paths in found.values() for path in paths]


def pytest(*arguments: str) -> list[str]:
    """Return the command line of a test run."""
    return [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", *arguments]


def faults_of(*argv: str) -> list[str]:
    """Run tests to their end; return what was wrong with that."""
    with started(*argv) as run:
        code = run.process.wait()
        left, output = run.left(), run.output()
        faults = [f"left running: {line}" for line in left]
        faults += [line for line in output.splitlines() if line.startswith(keeper.ENDED)]
        if code:
            faults.append(f"exit {code}:\n" + "\n".join(output.splitlines()[-_SHOWN_LINES:]))
        return faults


def _output(folder: Path) -> Path:
    return folder.with_suffix(".out")
