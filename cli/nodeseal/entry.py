"""Where the three programs begin: before anything is loaded that may be missing, slow or interrupted.

Text that the encoding of a stream lacks is escaped, Ctrl-C ends with 130 and no traceback, and a package that is not
installed is named with the extra that brings it, one whose shared library is missing with what the system says.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and the number of SIGINT."""


def nodeseal() -> None:
    """Begin ``nodeseal``, the command for people."""
    with _well_ended("nodeseal", "cli"):
        from nodeseal.cli.main import main

        main()


def nodeseal_agent() -> None:
    """Begin ``nodeseal-agent``."""
    with _well_ended("nodeseal-agent", "agent"):
        from nodeseal.agent.main import main

        main()


def nodeseal_verifier() -> None:
    """Begin ``nodeseal-verifier``."""
    with _well_ended("nodeseal-verifier", "verifier"):
        from nodeseal.verifier.main import main

        main()


@contextmanager
def _well_ended(program: str, extra: str) -> Iterator[None]:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except ImportError as error:
        package = (error.name or "nodeseal").partition(".")[0]
        if package == "nodeseal":
            raise  # our own mistake, not the installation's
        sys.stderr.write(f"{program}: {_fault(package, error, extra)}\n")
        sys.exit(1)


def _fault(package: str, error: ImportError, extra: str) -> str:
    """Say what is wrong with a package that does not load, and what to do."""
    if not isinstance(error, ModuleNotFoundError):
        return f"the package {package} does not load: {error}\n  install the library that it needs, or {package} anew"
    return (
        f"the package {package} is not installed in {sys.prefix}\n"
        f"  {sys.executable} -m pip install 'nodeseal[{extra}]'\n"
        f"  from a clone: {sys.executable} -m pip install '.[{extra}]'"
    )
