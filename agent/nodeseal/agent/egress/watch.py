"""Notices changes: netlink reports them as they happen (nftables, devices, routes, traffic control).

The kernel names the process that changed a table only in these reports. If more come than fit, some are lost; it counts
as a change of our table then, because nothing else is known.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from nodeseal.agent.egress.netlink import NETFILTER, ROUTE, Netlink, attributes, messages, network_number, text_of
from nodeseal.agent.egress.routing import CHANGE_GROUPS
from nodeseal.agent.egress.tables import NFTABLES_GROUP
from nodeseal.egress.table import TABLE

_SUBSYSTEM: Final = 10 << 8
_NEW_GENERATION: Final = _SUBSYSTEM | 15
_TABLE_NAME, _GENERATION_PID, _GENERATION_NAME = 1, 2, 3
_NETDEV: Final = 5
_BUFFER: Final = 1 << 18
_LOST: Final = "changes came faster than they could be read"


class Changes(NamedTuple):
    """What was reported since the last look.

    Attributes:
        any: whether anything was.
        ours: how many transactions changed our table.
        by: who made the last transaction, as the kernel says; empty: nobody.
    """

    any: bool
    ours: int
    by: str


class Watch:
    """Hears of changes; close it.

    Raises:
        Unavailable: the kernel refuses.
    """

    def __init__(self) -> None:
        self.tables: Final = Netlink(NETFILTER, (NFTABLES_GROUP,))
        try:
            self.routing: Final = Netlink(ROUTE, CHANGE_GROUPS)
        except BaseException:
            self.tables.close()
            raise

    def close(self) -> None:
        """Close both connections."""
        self.tables.close()
        self.routing.close()

    def look(self) -> Changes:
        """Return what was reported since the last look. It waits for nothing."""
        any_route = self.routing.drain()
        found, ours, by, touched = False, 0, "", False
        while (raw := self._receive()) is not None:
            found = True
            if not raw:
                ours, by = ours + 1, _LOST
            for _, _, (kind, body) in messages(raw):
                if kind == _NEW_GENERATION:
                    facts = attributes(body[4:])
                    by = f"{text_of(facts.get(_GENERATION_NAME))} {network_number(facts.get(_GENERATION_PID))}"
                    ours, touched = ours + touched, False
                elif kind & 0xFF00 == _SUBSYSTEM:
                    touched = touched or _is_ours(body)
        return Changes(found or any_route, ours + touched, by)

    def _receive(self) -> bytes | None:
        """Return the next report; None: there is none; empty: some were lost (ENOBUFS, netlink(7))."""
        try:
            raw, (port, _) = self.tables.socket.recvfrom(_BUFFER)
        except BlockingIOError:
            return None
        except OSError:
            return b""
        return raw if port == 0 else self._receive()


def _is_ours(body: bytes) -> bool:
    """Tell whether a report is about our table: each names its table first."""
    return body[:1] == bytes([_NETDEV]) and text_of(attributes(body[4:]).get(_TABLE_NAME)) == TABLE
