"""Tests and demo beside ten processes that never wait."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from slow.run import faults_of, pytest, say, tests

from nodeseal.cli.demo.leash import leashed

_COUNT: Final = 10
_LONGEST_SECONDS: Final = 3 * 3600
_TESTS: Final = (
    "test_demo.py",
    "test_t_*.py",
    "test_r_entries.py",
    "test_verifier_attestation.py",
    "test_verifier_logs.py",
    "test_agent_process.py",
    "test_main.py",
    "test_revocation.py",
    "test_k_tokens.py",
    "test_owner.py",
)


def check() -> list[str]:
    """Return what fails there."""
    say(f"busy: tests and demo beside {_COUNT} busy processes")
    with _busy():
        return faults_of(*pytest("-o", "timeout=1200", *tests(*_TESTS)))


@contextmanager
def _busy() -> Iterator[None]:
    """Keep the processors busy; the processes end with the block, with this process, and after some hours at last."""
    command = leashed([sys.executable, "-c", f"import signal\nsignal.alarm({_LONGEST_SECONDS})\nwhile True: pass"])
    with ExitStack() as stack:
        for _ in range(_COUNT):
            stack.callback(_end, subprocess.Popen(command))
        yield


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
