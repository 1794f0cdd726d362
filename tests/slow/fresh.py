"""Tests and demo on a machine that was started a minute ago, as far as its clocks tell: time_namespaces(7)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from typing import Final

from slow.run import Skipped, faults_of, pytest, say, tests

_UPTIME_SECONDS: Final = 60
_TESTS: Final = (
    "test_demo.py",
    "test_synthetic.py",
    "test_t_*.py",
    "test_clock*.py",
    "test_verifier_attestation.py",
    "test_agent_process.py",
    "test_session.py",
    "test_fleet.py",
    "test_leases.py",
)
_UPTIME: Final = "import time; print(int(max(time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME))))"


def check() -> list[str]:
    """Return what fails there."""
    namespace = _namespace()
    said = subprocess.run([*namespace, sys.executable, "-c", _UPTIME], capture_output=True, text=True, check=False)
    if said.returncode:
        raise Skipped(f"unshare: {said.stderr.strip()}")
    say(f"fresh: tests and demo with an uptime of {said.stdout.strip()} s")
    return faults_of(*namespace, *pytest(*tests(*_TESTS)))


def _namespace() -> list[str]:
    """Return a command's beginning that takes off both clocks what they exceed a minute by."""
    if os.geteuid():
        raise Skipped("only root may set the clocks of a time namespace")
    if shutil.which("unshare") is None:
        raise Skipped("unshare is not installed")
    clocks = {"monotonic": time.CLOCK_MONOTONIC, "boottime": time.CLOCK_BOOTTIME}
    offsets = {name: min(0, _UPTIME_SECONDS - int(time.clock_gettime(clock))) for name, clock in clocks.items()}
    return ["unshare", "--time", *(f"--{name}={offset}" for name, offset in offsets.items())]
