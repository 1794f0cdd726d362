"""Settings that hold for every test."""

from __future__ import annotations

from hypothesis import settings

# Shared machines stall at times; what a test may cost is bounded by pytest-timeout.
settings.register_profile("nodeseal", deadline=None)
settings.load_profile("nodeseal")
# For make mutants, which runs the tests once for each mutant.
settings.register_profile("mutants", deadline=None, max_examples=15, database=None)
