"""The share of the log that each node may fill in a day, so that no node fills the disk."""

from __future__ import annotations

from typing import Final

from nodeseal.errors import TooManyRequests
from nodeseal.ids import NodeId

BYTES_PER_DAY: Final = 1024 * 1024
"""Bytes of acts and documents that one node may cause a day: some 1,000 leases."""
_KEPT: Final = 0.5
"""Part of a share that only what the node's TPM has proved may use: a TLS key alone can be stolen."""
_DAY_SECONDS: Final = 24 * 3600


class Shares:
    """What is left of each node's share; a share that is used up fills again over a day."""

    def __init__(self, bytes_per_day: int = BYTES_PER_DAY) -> None:
        self._size: Final = float(bytes_per_day)
        self._left: dict[NodeId, tuple[float, float]] = {}

    def require(self, node_id: NodeId, now: float, *, proved: bool = True) -> None:
        """Make sure that something is left at the steady time ``now``.

        Args:
            node_id: whose share.
            now: steady time.
            proved: whether the node's TPM has proved what will be recorded. What a TLS key alone can cause (requests
                without a quote, evidence that is not authentic) uses half of the share at most.

        Raises:
            TooManyRequests: the share is used up.
        """
        if self._at(node_id, now) <= (0 if proved else self._size * _KEPT):
            raise TooManyRequests(
                f"{node_id} has used up its share of the log for a day", remedy="nodeseal audit list says what it did"
            )

    def charge(self, node_id: NodeId, size: int, now: float) -> None:
        """Take ``size`` bytes from a node's share; it may become negative."""
        self._left[node_id] = (self._at(node_id, now) - size, now)

    def _at(self, node_id: NodeId, now: float) -> float:
        left, since = self._left.get(node_id, (self._size, now))
        return min(self._size, left + (now - since) * self._size / _DAY_SECONDS)
