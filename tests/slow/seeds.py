"""Property tests with examples drawn anew: ``make test`` draws the same ones each time, so as never to fail by luck."""

from __future__ import annotations

from typing import Final

from slow.run import ROOT, faults_of, pytest, say

_RUNS: Final = 3


def check() -> list[str]:
    """Return what fails; the output of a run names the example, which then becomes an ``@example``."""
    every = sorted((ROOT / "tests").rglob("test_*.py"))
    modules = [str(path) for path in every if "from hypothesis" in path.read_text()]
    say(f"seeds: {len(modules)} modules, {_RUNS} times with random examples")
    return [fault for _ in range(_RUNS) for fault in faults_of(*pytest("--hypothesis-profile=seeds", *modules))]
