"""Property tests with cases drawn anew: ``make test`` draws the same ones each time, so as never to fail by luck."""

from __future__ import annotations

import secrets
from typing import Final

from slow.run import ROOT, faults_of, pytest, say

_MARKS: Final = ("from hypothesis", "NODESEAL_SEED")
"""What a module that draws cases has in its text."""


def check() -> list[str]:
    """Return what fails. The output names the case, which then becomes an ``@example``, or the seed to run again."""
    every = sorted((ROOT / "tests").rglob("test_*.py"))
    modules = [str(path) for path in every if any(mark in path.read_text() for mark in _MARKS)]
    seed = secrets.randbits(32)
    say(f"seeds: {len(modules)} modules with random cases, NODESEAL_SEED={seed}")
    return faults_of("env", f"NODESEAL_SEED={seed}", *pytest("--hypothesis-profile=seeds", *modules))
