"""What it costs to start the operator's command."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

from benchmarks.harness import PAIRS, Result


def cli_over_python() -> Result:
    """Return the processor time of ``nodeseal --version`` over that of Python doing nothing."""
    nodeseal = str(Path(sys.executable).with_name("nodeseal"))
    pairs = [(_seconds(nodeseal, "--version"), _seconds(sys.executable, "-c", "pass")) for _ in range(PAIRS)]
    runs = tuple(command / nothing for command, nothing in pairs)
    note = f"{1000 * min(command for command, _ in pairs):.0f} ms of processor time, at best"
    return Result.of(runs, against="python -c pass, of the same environment", note=note)


def _seconds(*command: str) -> float:
    """Run a command and return the processor time that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, timeout=60)  # noqa: S603 - as named
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
