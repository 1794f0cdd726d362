"""Which goldens count for a node at a moment: labels select nodes, windows select times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from nodeseal.golden.model import Golden

_FIRST = datetime.min.replace(tzinfo=UTC)
_LAST = datetime.max.replace(tzinfo=UTC)


def serves(golden: Golden, labels: Mapping[str, str]) -> bool:
    """Tell whether ``golden`` is for a node with these labels: it has every label that the golden names."""
    return golden.nodes.items() <= labels.items()


def counts(golden: Golden, labels: Mapping[str, str], now: datetime) -> bool:
    """Tell whether ``golden`` is for such a node and its window is open."""
    return golden.valid.meets(now, now) and serves(golden, labels)


def span_of(goldens: Iterable[Golden], now: datetime) -> tuple[datetime, datetime]:
    """Return the first and the last moment around ``now`` at which the windows that are open are those open now."""
    start, end = _FIRST, _LAST
    for golden in goldens:
        opens, closes = golden.valid.start or _FIRST, golden.valid.end or _LAST
        if now < opens:
            end = min(end, opens - datetime.resolution)
        elif now <= closes:
            start, end = max(start, opens), min(end, closes)
        else:
            start = max(start, closes + datetime.resolution)
    return start, end
