"""Settings that hold for every test."""

from __future__ import annotations

import os
from subprocess import Popen

import pytest
from hypothesis import settings

from support import keeper

# Shared machines stall at times; what a test may cost is bounded by pytest-timeout.
settings.register_profile("nodeseal", deadline=None)
settings.load_profile("nodeseal")
# For make mutants, which runs the tests once for each mutant.
settings.register_profile("mutants", deadline=None, max_examples=15, database=None)

# What commands print shall not depend on who runs the tests, and where.
for _name in ("COLUMNS", "LINES", "FORCE_COLOR", "GITHUB_ACTIONS", "PYTHONIOENCODING", "NODESEAL_CLIENT"):
    os.environ.pop(_name, None)

_KEEPER = pytest.StashKey[Popen[bytes]]()


def pytest_configure(config: pytest.Config) -> None:
    """Have all processes of this run ended with it; those of xdist's workers belong to the run that started them."""
    if not hasattr(config, "workerinput"):
        config.stash[_KEEPER] = keeper.start()
