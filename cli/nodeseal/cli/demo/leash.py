"""Runs a program that the kernel ends together with the process that started it (prctl(2), PR_SET_PDEATHSIG).

``python leash.py PARENT PROGRAM ARGUMENT…`` becomes PROGRAM. Strictly, the kernel watches the thread that started it,
so that must be a thread that lasts, such as the main one. Programs that PROGRAM starts are not covered.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

_SET_PDEATHSIG: Final = 1
"""PR_SET_PDEATHSIG of linux/prctl.h."""


def leashed(argv: Sequence[str]) -> list[str]:
    """Return the command line that runs ``argv`` for no longer than this process."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *argv]


def main(parent: str, *argv: str) -> None:
    """Become ``argv``, unless ``parent`` has ended already."""
    ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == int(parent):
        os.execvp(argv[0], argv)  # noqa: S606 - what the caller asked for, without a shell


if __name__ == "__main__":
    main(*sys.argv[1:])
