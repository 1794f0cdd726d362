"""How long to wait before the next attempt."""

from __future__ import annotations

import random
from typing import Final


class Backoff:
    """Exponential back-off with full jitter: a fleet that lost its verifier together comes back spread out.

    Each delay is drawn evenly from zero to a ceiling that doubles from ``first`` to ``longest``, in seconds.
    """

    def __init__(self, first: float, longest: float) -> None:
        self._first: Final = first
        self._longest: Final = longest
        self._ceiling = first

    def reset(self) -> None:
        """Start from the shortest delay again; to be called after a success."""
        self._ceiling = self._first

    def next(self) -> float:
        """Return the next delay in seconds."""
        delay = random.uniform(0, self._ceiling)  # noqa: S311  # spreads load, hides nothing
        self._ceiling = min(self._longest, self._ceiling * 2)
        return delay
