"""Settings that hold for every test."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from subprocess import Popen

import pytest
from hypothesis import settings

from support import keeper
from support.unclosed import warn_of_unclosed_databases

# Shared machines stall at times; what a test may cost is bounded by pytest-timeout.
# Examples are the same in each run, so that nobody's change fails by luck; check-slow draws others.
settings.register_profile("nodeseal", deadline=None, derandomize=True, database=None)
settings.load_profile("nodeseal")
settings.register_profile("seeds", deadline=None, max_examples=1000, derandomize=False, database=None, print_blob=True)
# For make mutants, which runs the tests once for each mutant.
settings.register_profile("mutants", deadline=None, max_examples=15, database=None)

# What commands print shall not depend on who runs the tests, and where.
for _name in ("COLUMNS", "LINES", "FORCE_COLOR", "GITHUB_ACTIONS", "PYTHONIOENCODING", "NODESEAL_CLIENT"):
    os.environ.pop(_name, None)

with suppress(ImportError):  # the loader's tests run without it
    import structlog

warn_of_unclosed_databases()

_KEEPER = pytest.StashKey[Popen[bytes]]()


def pytest_configure(config: pytest.Config) -> None:
    """Have all processes of this run ended with it; those of xdist's workers belong to the run that started them."""
    if not hasattr(config, "workerinput"):
        config.stash[_KEEPER] = keeper.start()


@pytest.fixture(autouse=True)
def _logs_on_stderr() -> None:
    """Keep log lines off stdout: a thread of an earlier test may still log while a command's output is checked."""
    if "structlog" in sys.modules:
        structlog.reset_defaults()
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.__stderr__))
