"""Where the real data of other machines lies, if it is there."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def shared_data(*parts: str) -> Path:
    """Return a path below the folder of real data; skip the test, saying so, where that folder is absent."""
    path = ROOT.parent.joinpath("shared", "data", *parts)
    if not path.exists():
        pytest.skip(f"real data is not here: {'/'.join(parts)}")
    return path
