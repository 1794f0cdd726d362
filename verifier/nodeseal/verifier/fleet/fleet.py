"""All nodes of one verifier, and the one way to change a node.

Two rules order everything here. What *restricts* a node holds in memory at once, even while the store is down; what
*widens* trust is recorded first. And no lease starts or ends, and nobody is told, before the audit record is on disk.
Transactions are serialised by one lock, so each is prepared on the state that the one before left, and a caller that
goes away interrupts none.

Steady rounds touch memory only; clock and end of trust reach the database in batches (:meth:`Fleet.flush`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar

import sqlalchemy as sa
import structlog

from nodeseal.appraisal.model import Policy
from nodeseal.errors import NotFound, Unavailable
from nodeseal.golden.model import Golden
from nodeseal.ids import NodeId
from nodeseal.verifier.clock import Clock
from nodeseal.verifier.config import AttestationSettings
from nodeseal.verifier.fleet.change import Change
from nodeseal.verifier.fleet.node import Decision, Node
from nodeseal.verifier.fleet.transition import is_news, record_change, restricted, take_effect
from nodeseal.verifier.ledger import audit
from nodeseal.verifier.states import NodeState
from nodeseal.verifier.store.database import Store
from nodeseal.verifier.store.leases import running_leases
from nodeseal.verifier.store.nodes import load_nodes, save_standings

T = TypeVar("T")
_SWEEP_SECONDS: Final = 0.5
_FLUSH_SECONDS: Final = 5.0
_log: Final = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction(Generic[T]):
    """A change of the database and what follows from it in memory.

    Attributes:
        work: runs in the database's thread.
        effect: runs after the commit, with what ``work`` returned.
    """

    work: Callable[[sa.Connection], T]
    effect: Callable[[T], None]


class Fleet:
    """The nodes and the policy they are held against."""

    def __init__(self, store: Store, clock: Clock, settings: AttestationSettings) -> None:
        self.store: Final = store
        self.clock: Final = clock
        self.settings: Final = settings
        self.policy = Policy(goldens=(), trust_seconds=settings.trust_seconds)
        self._nodes: dict[NodeId, Node] = {}
        self._unsaved: set[Node] = set()
        self._changing: Final = asyncio.Lock()
        self._tasks: Final[set[asyncio.Task[Any]]] = set()

    async def load(self, goldens: Iterable[Golden]) -> None:
        """Load the nodes from the database. Running trust goes on until its end, at most for ``trust_seconds``."""
        self.policy = replace(self.policy, goldens=tuple(goldens))
        nodes = await self.store.read(load_nodes)
        now, steady = self.clock.wall(), self.clock.steady()
        for record, standing in nodes:
            node = self._nodes[record.node_id] = Node(record, standing)
            left = (standing.trusted_until - now).total_seconds() if standing.trusted_until else 0.0
            node.trusted_until_steady = steady + min(left, self.settings.trust_seconds)
        for lease in await self.store.read(running_leases):
            self._nodes[lease.node_id].leases[lease.lease_id] = lease

    def __iter__(self) -> Iterator[Node]:
        return iter(tuple(self._nodes.values()))

    def find(self, node_id: NodeId) -> Node | None:
        """Return a node, if it is enrolled."""
        return self._nodes.get(node_id)

    def get(self, node_id: NodeId) -> Node:
        """Return a node.

        Raises:
            NotFound: it is not enrolled.
        """
        node = self._nodes.get(node_id)
        if node is None:
            raise NotFound(f"there is no node {node_id}", remedy="nodeseal node list")
        return node

    def add(self, node: Node) -> None:
        """Take in a node whose enrolment is recorded."""
        self._nodes[node.record.node_id] = node

    def use_goldens(self, goldens: Iterable[Golden]) -> None:
        """Replace the active goldens, and challenge all connected nodes at once."""
        self.policy = replace(self.policy, goldens=tuple(goldens))
        for node in self:
            if node.stream is not None:
                node.stream.challenge_now()

    async def transact(self, prepare: Callable[[], Transaction[T]]) -> T:
        """Prepare a transaction on the state of the moment, commit it, and let it take effect.

        Raises:
            Unavailable: the store cannot take it now; nothing has changed.
        """
        return await self._uninterrupted(self._transact(prepare))

    async def change(self, node: Node, decide: Decision) -> None:
        """Change a node, once the change is recorded.

        Raises:
            Unavailable: the store cannot take it now; nothing has changed.
        """
        await self._uninterrupted(self._change(node, decide))

    async def restrict(self, node: Node, decide: Decision) -> None:
        """Take trust from a node: the change holds at once, and is recorded as soon as the store can take it."""
        node.unrecorded = decide
        try:
            await self.change(node, decide)
        except Unavailable as error:
            _log.error("a decision could not be recorded yet", node=node.record.node_id, error=str(error))

    def touch(self, node: Node) -> None:
        """Note that clock or end of trust of a node have moved."""
        self._unsaved.add(node)

    async def flush(self) -> None:
        """Store what steady rounds moved; a restarted verifier still knows a clock that ran backwards.

        Raises:
            Unavailable: the store cannot take it now; the next flush tries again.
        """
        moved, self._unsaved = self._unsaved, set()
        standings = {node.record.node_id: node.standing() for node in moved}
        try:
            if standings:
                await self.store.write(lambda connection: save_standings(connection, standings))
        except Unavailable:
            self._unsaved |= moved
            raise

    async def sweep(self) -> None:
        """End the trust of nodes whose time has passed, and record what could not be recorded before."""
        now = self.clock.steady()
        for node in self:
            if node.unrecorded is not None:
                await self.restrict(node, node.unrecorded)
            elif node.state is NodeState.TRUSTED and now >= node.trusted_until_steady:
                await self.restrict(node, self._gone_stale)

    async def keep_sweeping(self) -> None:
        """Sweep until cancelled."""
        while True:
            await self.sweep()
            await asyncio.sleep(_SWEEP_SECONDS)

    async def keep_flushing(self) -> None:
        """Flush until cancelled."""
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            try:
                await self.flush()
            except Unavailable as error:
                _log.error("clocks and ends of trust could not be stored yet", error=str(error))

    async def settle(self) -> None:
        """Wait for transactions whose callers have gone."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _gone_stale(self, node: Node) -> Change | None:
        if node.state is not NodeState.TRUSTED or self.clock.steady() < node.trusted_until_steady:
            return None
        return restricted(node, NodeState.STALE, "not heard from in time", (), audit.VERIFIER)

    async def _transact(self, prepare: Callable[[], Transaction[T]]) -> T:
        async with self._changing:
            transaction = prepare()
            result = await self.store.write(transaction.work)
            transaction.effect(result)
            return result

    async def _change(self, node: Node, decide: Decision) -> None:
        async with self._changing:
            change = decide(node)
            if change is None:
                node.unrecorded = None
                return
            if is_news(node, change):
                at = self.clock.wall()
                await self.store.write(lambda connection: record_change(connection, node, change, at))
                _log_change(node, change)
            take_effect(node, change)

    async def _uninterrupted(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)


def _log_change(node: Node, change: Change) -> None:
    _log.info(
        "node state",
        node=node.record.node_id,
        before=node.state.value,
        after=change.standing.state.value,
        findings=[finding.id.code for finding in change.standing.findings],
        leases_ended=len(change.ended),
        actor=change.actor,
    )
