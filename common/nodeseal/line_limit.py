"""A limit on log lines that others cause, so that no stranger fills the log."""

from __future__ import annotations

from typing import Final

_MINUTE: Final = 60.0
_MAX_NAMES: Final = 10_000
_OTHERS: Final = "others"
"""Stands for all names beyond those that are counted."""


class LineLimit:
    """So many lines a minute for each name. What is left out is counted, and the next line of the name says so.

    Args:
        per_minute: lines of one name.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute: Final = per_minute
        self._names: dict[str, tuple[float, int, int]] = {}

    def left_out(self, name: str, now: float) -> int | None:
        """Return how many lines of ``name`` were left out before this one; None: leave this one out as well.

        Args:
            name: of whoever causes the line.
            now: steady time, in seconds.
        """
        name = name if name in self._names or self._room(now) else _OTHERS
        since, lines, missing = self._names.get(name, (now, 0, 0))
        if now - since >= _MINUTE:
            since, lines = now, 0
        if lines >= self._per_minute:
            self._names[name] = (since, lines, missing + 1)
            return None
        self._names[name] = (since, lines + 1, 0)
        return missing

    def _room(self, now: float) -> bool:
        if len(self._names) >= _MAX_NAMES:
            self._names = {name: seen for name, seen in self._names.items() if now - seen[0] < _MINUTE}
        return len(self._names) < _MAX_NAMES
