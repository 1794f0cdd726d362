"""The egress limits of this node: installed when the agent starts, claimed in every round, watched in between.

The table stays in the kernel when the agent stops, restarts or crashes; nothing here ever removes it. A table that
somebody else changed is claimed as it is once, so that the verifier hears of it, and then put right; what it has
counted goes on.

All methods block for microseconds to tens of milliseconds, and one thread may call them at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from nodeseal.agent.egress.host import read_document, read_rdma
from nodeseal.agent.egress.inventory import Inventory, walk
from nodeseal.agent.egress.netlink import NETFILTER, ROUTE, Netlink
from nodeseal.agent.egress.nft import Nft
from nodeseal.agent.egress.routing import read_sent
from nodeseal.agent.egress.tables import read_generation, read_use
from nodeseal.agent.egress.watch import Watch
from nodeseal.egress.claims import MAX_DEVICES, MAX_LINE, MAX_LINES, MAX_PROGRAMS, EgressClaims
from nodeseal.egress.document import EgressDocument, Level
from nodeseal.egress.listing import differences, listed_lines, listed_use
from nodeseal.egress.table import NOTHING_USED, PASSED, Used, digest_of_lines, expected_lines, render_table
from nodeseal.egress.uplinks import NetworkDevice, hooks_of, relevant
from nodeseal.errors import Unavailable

WALK_SECONDS: Final = 60.0
_log = structlog.get_logger("nodeseal.agent.egress")


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressConfig:
    """The settings of an agent whose golden demands egress limits.

    Attributes:
        file: the document, which nobody but root may change.
        level: which of its limits are in force.
    """

    file: Path
    level: Level


class _Table(NamedTuple):
    """The table as the kernel lists it: its lines, and what it has counted."""

    lines: tuple[str, ...]
    used: Used


class EgressLimits:
    """Installs and claims the limits of one document; close it.

    Args:
        config: the settings.
        clock: monotonic seconds.

    Raises:
        MalformedInput: the file is wrong, or somebody else than root may change it.
        Unavailable: file, nft or netlink cannot be used.
    """

    def __init__(self, config: EgressConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._level: Final = config.level
        self._clock: Final = clock
        self.document: Final[EgressDocument] = read_document(config.file)
        self._nft: Final = Nft()
        self._asking: Final = (Netlink(NETFILTER), Netlink(ROUTE))
        self.watch: Final = Watch()
        self._changes = 0
        self._changed_by = ""
        self._walked = self._walk()

    def close(self) -> None:
        """Close the connections to the kernel. The table stays."""
        for netlink in self._asking:
            netlink.close()
        self.watch.close()

    def install(self) -> bool:
        """Put the table in force, unless it is already; return whether anything was changed.

        Raises:
            Unavailable: nft refuses, or no uplink is there.
        """
        self._take_changes()
        self._walked = self._walk()
        hooks, problems = hooks_of(self.document, self._walked.inventory.devices)
        for problem in problems:
            _log.warning("egress", device=problem.device, expected=problem.expected, seen=problem.seen)
        if not hooks:
            raise Unavailable("egress: no uplink of the document is here", remedy="correct uplinks in the golden")
        if not self._walked.differs and hooks == self._walked.inventory.hooks:
            return False
        self._nft.replace(render_table(self.document, self._level, hooks, self._walked.table.used))
        self.watch.look()  # our own change is none that anybody must hear of
        self._walked = self._walk()
        _log.info("egress limits installed", level=str(self._level), devices=sorted(hooks))
        return True

    def notice(self) -> bool:
        """Look at what netlink reported; return whether anything changed that the verifier should hear of."""
        if not self._take_changes():
            return False
        before, self._walked = self._walked, self._walk()
        return self._walked.essence != before.essence or self._walked.changes != before.changes

    def claims(self) -> EgressClaims:
        """Return what the kernel has now.

        Raises:
            Unavailable: the kernel does not answer.
        """
        if self._take_changes() or self._clock() - self._walked.at > WALK_SECONDS:
            self._walked = self._walk()
        walked, (tables, routing) = self._walked, self._asking
        generation = read_generation(tables)
        before = read_use(tables)
        sent = read_sent(routing, walked.inventory.hooks, walked.devices)
        used = read_use(tables)
        return replace(
            walked.claims,
            generation=generation.number,
            changes=self._changes,
            changed_by=self._changed_by,
            passed_before=sum(before.counters.get(name, 0) for name in PASSED),
            counters=used.counters,
            quota=used.quota,
            devices=sent,
            rdma=read_rdma(),
        )

    @property
    def is_wrong(self) -> bool:
        """Whether the table was not the document's when it was last listed."""
        return bool(self._walked.differs)

    def _take_changes(self) -> bool:
        changes = self.watch.look()
        self._changes += changes.ours
        self._changed_by = changes.by or self._changed_by
        return changes.any

    def _walk(self) -> _Walked:
        inventory = walk(*self._asking)
        hooks = hooks_of(self.document, inventory.devices).devices
        raw = self._nft.listing()
        table = _Table(listed_lines(raw), listed_use(raw)) if raw is not None else _Table((), NOTHING_USED)
        expected = expected_lines(self.document, self._level, hooks.values())
        return _Walked(
            at=self._clock(),
            inventory=inventory,
            table=table,
            differs=differences(expected, table.lines, MAX_LINES),
            changes=self._changes,
            claims=self._base(inventory, table, expected),
        )

    def _base(self, inventory: Inventory, table: _Table, expected: tuple[str, ...]) -> EgressClaims:
        """Return the part of the claims that stays the same until something changes."""
        devices = tuple(relevant(self.document, inventory.hooks, inventory.devices))
        return EgressClaims(
            document=self.document.digest,
            level=self._level,
            ruleset=digest_of_lines(table.lines),
            differs=tuple(map(_short, differences(expected, table.lines, MAX_LINES))),
            counters={},
            hooks=dict(sorted(inventory.hooks.items())[:MAX_DEVICES]),
            devices=devices[:MAX_DEVICES],
            more_devices=max(0, len(devices) - MAX_DEVICES),
            programs=tuple(map(_short, inventory.programs[:MAX_PROGRAMS])),
            namespaces=inventory.namespaces,
            rdma={},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Walked:
    """What the last walk found.

    Attributes:
        at: when, by the clock.
        inventory: devices and programs.
        table: the table.
        differs: how it differs from the document's.
        changes: how often somebody else had changed it.
        claims: what follows from all of it.
    """

    at: float
    inventory: Inventory
    table: _Table
    differs: tuple[str, ...]
    changes: int
    claims: EgressClaims

    @property
    def devices(self) -> tuple[NetworkDevice, ...]:
        return self.claims.devices

    @property
    def essence(self) -> object:
        """What the verifier should hear of at once when it differs."""
        return (
            self.claims.ruleset,
            self.claims.hooks,
            self.claims.programs,
            [replace(d, sent=0) for d in self.devices],
        )


def _short(line: str) -> str:
    return line if len(line) <= MAX_LINE else f"{line[: MAX_LINE - 1]}…"
