"""All nodes of one verifier, as a fold over its acts.

Nothing changes a node but an act: the ledger records one and memory follows. :meth:`Fleet.restrict` takes trust away at
once. Steady rounds are not acts: clock, time of the last evidence and end of trust reach the database in batches
(:meth:`Fleet.flush`), and only while the decision about the node is the one that they belong to.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final

import sqlalchemy as sa
import structlog

from nodeseal.appraisal.model import Policy
from nodeseal.causes import EndCause
from nodeseal.errors import NotFound, NotRecorded, OutOfOrder, Unavailable
from nodeseal.findings import Finding
from nodeseal.golden.model import Golden
from nodeseal.ids import NodeId
from nodeseal.verifier.clock import Clock
from nodeseal.verifier.config import AttestationSettings
from nodeseal.verifier.fleet.fold import fold
from nodeseal.verifier.fleet.memory import Memory
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.fleet.overlay import lift, put_in_force
from nodeseal.verifier.ledger.acts import (
    VERIFIER,
    certificate_subject,
    golden_subject,
    identity_subject,
    labels_subject,
    node_subject,
)
from nodeseal.verifier.ledger.decided import Decided, Recorded
from nodeseal.verifier.ledger.documents import Document, findings_document
from nodeseal.verifier.ledger.leaf import SALT_SIZE
from nodeseal.verifier.ledger.ledger import Ledger
from nodeseal.verifier.ledger.restrictions import Restricting, Restriction, judged, lease_ends
from nodeseal.verifier.states import NodeState
from nodeseal.verifier.store.acts import all_versions
from nodeseal.verifier.store.database import Store
from nodeseal.verifier.store.governance import current_rules
from nodeseal.verifier.store.leases import LeaseRecord, running_leases
from nodeseal.verifier.store.nodes import NodeStanding, load_nodes, save_progress
from nodeseal.verifier.store.persons import list_persons
from nodeseal.verifier.store.policy import find_model, list_keys

_SWEEP_SECONDS: Final = 0.5
_FLUSH_SECONDS: Final = 5.0
_SILENT: Final = "not heard from in time"
_log: Final = structlog.get_logger()


class Fleet:
    """The nodes and the policy they are held against.

    Attributes:
        ledger: where every change goes.
        memory: what the acts so far mean.
    """

    def __init__(self, ledger: Ledger, settings: AttestationSettings) -> None:
        self.ledger: Final = ledger
        self.clock: Final[Clock] = ledger.clock
        self.store: Final[Store] = ledger.store
        self.settings: Final = settings
        self.memory: Final = Memory(Policy(goldens=(), trust_seconds=settings.trust_seconds, quirks=settings.quirks))
        self._unsaved: set[Node] = set()
        ledger.follow(self)

    @property
    def policy(self) -> Policy:
        """What nodes are held against now."""
        return self.memory.policy

    async def load(self, goldens: Iterable[Golden]) -> None:
        """Read the nodes from the database, then the restrictions that the journal holds.

        Running trust goes on until its end, at most for ``trust_seconds``.

        Raises:
            MalformedInput: a file of the journal does not parse.
            Unavailable: database or journal cannot be read.
        """
        versions = await self.store.read(lambda connection: all_versions(connection, "golden", "node"))
        for golden in goldens:
            self.memory.load_golden(golden, versions.get(golden_subject(golden.digest), 0))
        now, steady = self.clock.wall(), self.clock.steady()
        for record, standing, progress in await self.store.read(load_nodes):
            node = self.memory.nodes[record.node_id] = Node(record, standing, progress)
            node.version, node.identity_version, node.certificate_version, node.labels_version = (
                versions.get(subject(record.node_id), 0)
                for subject in (node_subject, identity_subject, certificate_subject, labels_subject)
            )
            node.findings_version = node.version
            node.goldens = self.memory.active_of(standing.goldens)
            left = (standing.trusted_until - now).total_seconds() if standing.trusted_until else 0.0
            node.trusted_until_steady = steady + min(left, self.settings.trust_seconds)
        for lease in await self.store.read(running_leases):
            self.memory.nodes[lease.node_id].leases[lease.lease_id] = lease
        await self._load_names()
        await self.ledger.resume()

    async def _load_names(self) -> None:
        versions = await self.store.read(lambda connection: all_versions(connection, "person", "key"))
        people, keys = await self.store.read(list_persons), await self.store.read(list_keys)
        self.memory.load_names(people, (key.key_id for key in keys if key.revoked is None), versions)
        self.memory.rules = await self.store.read(current_rules)

    def __iter__(self) -> Iterator[Node]:
        return iter(tuple(self.memory.nodes.values()))

    def find(self, node_id: NodeId) -> Node | None:
        """Return a node, if it is enrolled."""
        return self.memory.nodes.get(node_id)

    def get(self, node_id: NodeId) -> Node:
        """Return a node.

        Raises:
            NotFound: it is not enrolled.
        """
        node = self.memory.nodes.get(node_id)
        if node is None:
            raise NotFound(f"there is no node {node_id}", remedy="nodeseal node list")
        return node

    def fold(self, recorded: Recorded) -> None:
        """Take over an act that is recorded."""
        fold(self.memory, recorded)

    def put_in_force(self, restriction: Restriction) -> None:
        """Let a restriction hold, before it is recorded."""
        put_in_force(self.memory, restriction)

    def lift(self, restriction: Restriction) -> None:
        """Let go of a restriction whose act was folded, or which has nothing to restrict any more."""
        lift(self.memory, restriction)

    async def restrict(self, act: Restricting, actor: str, documents: tuple[Document, ...] = ()) -> None:
        """Take trust away: at once, then in the journal, then in the log.

        Raises:
            NotFound: what it restricts does not exist.
            OutOfOrder: it was taken away before.
            NotRecorded: it is in force here, and its record waits for the store.
        """
        salt = secrets.token_bytes(SALT_SIZE)
        at = self.clock.wall()
        await self.ledger.restrict(Restriction(act=act, actor=actor, at=at, salt=salt, documents=documents))

    async def distrust(self, node: Node, after: NodeStanding) -> None:
        """Let a judgement against a node hold at once; it is recorded as soon as the store can take it."""
        codes, document = findings_document(after.findings)
        act = judged(node.record.node_id, node.state, after, codes, document.digest)
        try:
            await self.restrict(act, VERIFIER, (document,))
        except NotRecorded as error:
            _log.error("a decision could not be recorded yet", node=node.record.node_id, error=str(error))
        except (NotFound, OutOfOrder) as error:  # somebody decided more at the same moment
            _log.warning("a decision was overtaken", node=node.record.node_id, error=str(error))

    def touch(self, node: Node) -> None:
        """Note that clock or end of trust of a node have moved."""
        self._unsaved.add(node)

    async def flush(self) -> None:
        """Store what steady rounds moved; a restarted verifier still knows a clock that ran backwards.

        Raises:
            Unavailable: the store cannot take it now; the next flush tries again.
        """
        moved, self._unsaved = self._unsaved, set()
        progress = [node.moved() for node in moved]
        try:
            if progress:
                await self.store.write(lambda connection: save_progress(connection, progress))
        except BaseException:  # a flush that is cancelled may not have begun
            self._unsaved |= moved
            raise

    async def sweep(self) -> None:
        """End the trust of nodes whose time has passed, and leases that outlasted it for their time."""
        now = self.clock.steady()
        overdue = [node for node in self if node.state is NodeState.TRUSTED and now >= node.trusted_until_steady]
        await asyncio.gather(*(self.distrust(node, _stale(node)) for node in overdue))
        outlasted = [
            lease
            for node in self
            if node.state is NodeState.STALE
            for lease in node.leases.values()
            if _over(node, lease, now)
        ]
        if outlasted:
            wanted = {lease.lease_id for lease in outlasted}
            await self._end(lambda _, lease: lease.lease_id in wanted, EndCause.SILENCE, _SILENT)

    async def sweep_retired(self) -> None:
        """End leases of models that were retired by a release that let them run on, before anybody is served."""

        def retired(connection: sa.Connection, lease: LeaseRecord) -> bool:
            model = find_model(connection, lease.model_digest)
            return model is not None and model.retired is not None

        await self._end(retired, EndCause.REVOCATION, "its model was retired")

    async def _end(self, takes: Callable[[sa.Connection, LeaseRecord], bool], cause: EndCause, reason: str) -> None:
        """Record the end of those running leases that ``takes`` says."""

        def decide(connection: sa.Connection) -> Decided[None]:
            running = [lease for lease in running_leases(connection) if takes(connection, lease)]
            return Decided(None, tuple(lease_ends(running, cause, reason)))

        try:
            await self.ledger.commit(VERIFIER, decide)
        except Unavailable as error:
            _log.error("ends of leases could not be recorded yet", error=str(error))

    async def keep_sweeping(self, alive: Callable[[], None]) -> None:
        """Sweep until cancelled, and say after each time that trust still ends in time."""
        while True:
            await self.sweep()
            alive()
            await asyncio.sleep(_SWEEP_SECONDS)

    async def keep_flushing(self) -> None:
        """Flush until cancelled."""
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            try:
                await self.flush()
            except Unavailable as error:
                _log.error("clocks and ends of trust could not be stored yet", error=str(error))

    def note_findings(self, node: Node, findings: tuple[Finding, ...]) -> None:
        """Show findings of a round that the log does not tell, because the node has used up its share of it."""
        node.recorded = replace(node.recorded, findings=findings)


def _stale(node: Node) -> NodeStanding:
    known = node.standing
    return NodeStanding(state=NodeState.STALE, reason=_SILENT, goldens=known.goldens, trusted_until=known.trusted_until)


def _over(node: Node, lease: LeaseRecord, now: float) -> bool:
    """Tell whether a lease has survived silence for its time."""
    return now >= node.trusted_until_steady + lease.silence_seconds
