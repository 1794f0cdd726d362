"""Collects the stretches of logs that come before a quote, within bounds: pure, no I/O, no clock.

A long log comes in messages of at most 256 KiB; the last message of an answer has the quote. Logs are not trusted yet,
so only sizes and order are checked here. Every byte counts against a budget of the whole verifier and of its node until
it has been judged, so no number of nodes, streams or messages makes the verifier hold more. A part of the budget is
reserved for nodes with logs of usual size, so a few nodes with the longest logs keep nobody out.
"""

from __future__ import annotations

from typing import Final

from nodeseal.errors import MalformedInput, TooManyRequests
from nodeseal.evidence.logs import MAX_BOOT_LOG, MAX_IMA_DELTA, MAX_LOG_PIECE, ImaDelta
from nodeseal.evidence.round import Evidence
from nodeseal.ids import NodeId

MAX_ANSWER: Final = MAX_BOOT_LOG + MAX_IMA_DELTA
"""Bytes of logs that one node may have waiting, in all its answers together."""
_USUAL: Final = 1024 * 1024
"""Bytes that a node may have waiting while long logs use up all but the reserved part."""
MAX_MESSAGES: Final = 1024
"""Messages of one answer; three times as many as the longest logs need, so that nobody floods with tiny ones."""


def log_size(evidence: Evidence) -> int:
    """Return how many bytes of logs ``evidence`` carries."""
    return len(evidence.boot_log or b"") + (len(evidence.ima.entries) if evidence.ima else 0)


class LogBudget:
    """Bytes of logs that wait to be judged: limited in the whole verifier, and to :data:`MAX_ANSWER` of one node."""

    def __init__(self, size: int) -> None:
        self._size: Final = size
        self._for_long: Final = max(size * 3 // 4, min(size, MAX_ANSWER))
        self._waiting = 0
        self._nodes: dict[NodeId, int] = {}

    def take(self, node_id: NodeId, count: int) -> None:
        """Count bytes that have arrived from a node.

        Raises:
            TooManyRequests: they are more than may wait.
        """
        of_node = self._nodes.get(node_id, 0) + count
        if of_node > MAX_ANSWER:
            raise TooManyRequests(
                f"logs of {node_id} in several answers at once", remedy="try again when one of them was judged"
            )
        if self._waiting + count > (self._size if of_node <= _USUAL else self._for_long):
            raise TooManyRequests("logs of too many nodes wait to be judged", remedy="try again in 10 seconds")
        self._nodes[node_id] = of_node
        self._waiting += count

    def give_back(self, node_id: NodeId, count: int) -> None:
        """Stop counting bytes."""
        self._waiting -= count
        self._nodes[node_id] -= count
        if not self._nodes[node_id]:
            del self._nodes[node_id]

    @property
    def waiting(self) -> int:
        """Bytes that wait now."""
        return self._waiting


class LogCollector:
    """Puts the messages of one answer together; serves one answer after the other."""

    __slots__ = ("_boot_log", "_budget", "_entries", "_held", "_ima", "_messages", "_node_id")

    def __init__(self, node_id: NodeId, budget: LogBudget) -> None:
        self._node_id: Final = node_id
        self._budget: Final = budget
        self._held = 0
        self._messages = 0
        self._boot_log: bytearray | None = None
        self._entries: bytearray | None = None
        self._ima: ImaDelta | None = None

    def add(self, piece: Evidence, *, more: bool) -> Evidence | None:
        """Take one message; return the whole answer with its last one, else None.

        Args:
            piece: the message; before the last one it carries only stretches of logs.
            more: whether other messages follow.

        Raises:
            MalformedInput: a message before the last one with no log, too much of it, or anything else; too many
                messages; a log that is too long; a stretch of the IMA log that leaves a gap.
            TooManyRequests: the budget is used up.
        """
        size = log_size(piece)
        if size > MAX_LOG_PIECE:
            raise MalformedInput(f"logs: {size} bytes in one message, at most {MAX_LOG_PIECE}")
        if more and not _only_logs(piece):
            raise MalformedInput("logs: a message that others follow carries stretches of logs, and nothing else")
        self._messages += 1
        if self._messages > MAX_MESSAGES:
            raise MalformedInput(f"logs: more than {MAX_MESSAGES} messages")
        if size:
            self._budget.take(self._node_id, size)
            self._held += size
        if not more and self._boot_log is None and self._ima is None:  # all in one message, as in every steady round
            return piece
        self._keep(piece)
        return None if more else self._whole(piece)

    def clear(self) -> None:
        """Forget what was collected: it was judged, or the stream has ended."""
        if self._held:
            self._budget.give_back(self._node_id, self._held)
            self._held = 0
        self._messages = 0
        for log in (self._boot_log, self._entries):
            if log is not None:
                log.clear()  # now: an error's traceback may still refer to it
        self._boot_log = self._entries = self._ima = None

    def _keep(self, piece: Evidence) -> None:
        if piece.boot_log:
            self._boot_log = _longer(self._boot_log, piece.boot_log, MAX_BOOT_LOG, "boot log")
        if piece.ima is None:
            return
        if self._ima is None:
            self._ima, self._entries = piece.ima._replace(entries=b""), bytearray()
        due = self._ima.offset + len(self._entries or b"")
        if piece.ima.offset != due or piece.ima.bank is not self._ima.bank:
            raise MalformedInput(f"IMA log: a stretch at offset {piece.ima.offset}, not {due}, or of another bank")
        self._entries = _longer(self._entries, piece.ima.entries, MAX_IMA_DELTA, "IMA log")

    def _whole(self, last: Evidence) -> Evidence:
        if not self._held:
            return last
        return last._replace(
            boot_log=None if self._boot_log is None else bytes(self._boot_log),
            ima=None if self._ima is None else self._ima._replace(entries=bytes(self._entries or b"")),
        )


def _only_logs(piece: Evidence) -> bool:
    return log_size(piece) > 0 and not (piece.claims or piece.attest or piece.signature or piece.pcr_values)


def _longer(collected: bytearray | None, stretch: bytes, limit: int, what: str) -> bytearray:
    found = bytearray() if collected is None else collected
    if len(found) + len(stretch) > limit:
        raise MalformedInput(f"{what}: more than {limit} bytes")
    found += stretch
    return found
