"""Paths: the repository, its tests, and the real data of other machines where it is there."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
"""For ``sys.path`` of programs that tests start: they import :mod:`support`."""
ROOT = TESTS.parent


def shared_data(*parts: str) -> Path:
    """Return a path below the folder of real data; skip the test, saying so, where that folder is absent."""
    path = ROOT.parent.joinpath("shared", "data", *parts)
    if not path.exists():
        pytest.skip(f"real data is not here: {'/'.join(parts)}")
    return path
