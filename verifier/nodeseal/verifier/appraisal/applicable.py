"""Which goldens count for a node at a moment: labels select nodes, windows select times."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from nodeseal.golden.model import Golden


def serves(golden: Golden, labels: Mapping[str, str]) -> bool:
    """Tell whether ``golden`` is for a node with these labels: it has every label that the golden names."""
    return all(labels.get(label) == value for label, value in golden.nodes.items())


def counts(golden: Golden, labels: Mapping[str, str], now: datetime) -> bool:
    """Tell whether ``golden`` is for such a node and its window is open."""
    return golden.valid.meets(now, now) and serves(golden, labels)
