"""Check for every decoder: it refuses bytes that are cut or too many."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nodeseal.errors import MalformedInput


def assert_exact(decode: Callable[[bytes], object], raw: bytes) -> None:
    """Check that ``decode`` takes ``raw`` and nothing shorter or longer, and fails by MalformedInput only."""
    decode(raw)
    for length in range(len(raw)):
        with pytest.raises(MalformedInput):
            decode(raw[:length])
    for tail in (b"\0", b"\xff"):
        with pytest.raises(MalformedInput, match="too many"):
            decode(raw + tail)
