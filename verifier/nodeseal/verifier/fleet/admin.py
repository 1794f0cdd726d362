"""Decisions of people about nodes: admit, label, quarantine, retire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import sqlalchemy as sa

from nodeseal.errors import MalformedInput, OutOfOrder
from nodeseal.ids import NodeId, parse_labels, parse_name
from nodeseal.verifier.fleet.change import Change
from nodeseal.verifier.fleet.fleet import Fleet, Transaction
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.fleet.transition import restricted
from nodeseal.verifier.ledger import audit
from nodeseal.verifier.states import NodeState
from nodeseal.verifier.store.nodes import save_labels

_MAX_REASON: Final = 500
_ADMISSIBLE: Final = frozenset({NodeState.PENDING, NodeState.QUARANTINED})


class NodeAdmin:
    """Decisions of people about nodes. Each is recorded before it holds."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet: Final = fleet

    async def admit(self, node_id: NodeId, actor: str) -> Node:
        """Admit a pending node, or lift a quarantine; the node is challenged at once.

        After a quarantine the node starts without a baseline: a person has looked at why its clock ran backwards.

        Raises:
            NotFound: it is not enrolled.
            OutOfOrder: it is neither pending nor quarantined.
            Unavailable: it cannot be recorded now.
        """
        node = self._fleet.get(node_id)

        def decide(node: Node) -> Change:
            if node.state not in _ADMISSIBLE:
                raise OutOfOrder(f"{node_id} is {node.state.value}, neither pending nor quarantined")
            baseline = None if node.state is NodeState.QUARANTINED else node.baseline
            standing = replace(node.standing(), state=NodeState.STALE, reason="admitted", baseline=baseline)
            return Change(standing=standing, actor=actor)

        await self._fleet.change(node, decide)
        if node.stream is not None:
            node.stream.challenge_now()
        return node

    async def label(self, node_id: NodeId, changes: Mapping[str, str], actor: str) -> Node:
        """Change labels of a node, where an empty text removes a label. The node is judged again at once.

        Raises:
            NotFound: it is not enrolled.
            MalformedInput: a label is no name, or there are too many.
            Unavailable: it cannot be recorded now.
        """
        node = self._fleet.get(node_id)
        await self._fleet.transact(lambda: self._labelling(node, changes, actor))
        if node.stream is not None:
            node.stream.challenge_now()
        return node

    def _labelling(self, node: Node, changes: Mapping[str, str], actor: str) -> Transaction[None]:
        labels = _with_changes(node.record.labels, changes)
        details = {"labels": labels, "previous_labels": dict(node.record.labels)}
        record = audit.Record(
            time=self._fleet.clock.wall(), actor=actor, action="node.labelled", subject=node.actor, details=details
        )

        def work(connection: sa.Connection) -> None:
            save_labels(connection, node.record.node_id, labels)
            audit.append(connection, record)

        def effect(_: None) -> None:
            node.record = replace(node.record, labels=labels)

        return Transaction(work=work, effect=effect)

    async def quarantine(self, node_id: NodeId, reason: str, actor: str) -> Node:
        """Take trust and leases from a node until somebody admits it again.

        Raises:
            NotFound: it is not enrolled.
            OutOfOrder: it was retired.
            MalformedInput: the reason does not print or is too long.
            Unavailable: it cannot be recorded now.
        """
        node, why = self._fleet.get(node_id), parse_reason(reason)
        await self._fleet.change(node, lambda node: _decided(node, NodeState.QUARANTINED, why, actor))
        return node

    async def retire(self, node_id: NodeId, reason: str, actor: str) -> Node:
        """Take a node out of service for good: it cannot enrol again.

        Raises:
            NotFound: it is not enrolled.
            OutOfOrder: it was retired before.
            MalformedInput: the reason does not print or is too long.
            Unavailable: it cannot be recorded now.
        """
        node, why = self._fleet.get(node_id), parse_reason(reason)
        await self._fleet.change(node, lambda node: _decided(node, NodeState.RETIRED, why, actor))
        if node.stream is not None:
            node.stream.close(OutOfOrder("the node was retired"))
        return node


def _with_changes(labels: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    for label in changes:
        parse_name(label, "label")
    return parse_labels({label: value for label, value in {**labels, **changes}.items() if value})


def _decided(node: Node, state: NodeState, reason: str, actor: str) -> Change:
    if node.state is NodeState.RETIRED:
        raise OutOfOrder(f"{node.record.node_id} was retired")
    return restricted(node, state, reason, node.findings, actor)


def parse_reason(text: str) -> str:
    """Return the reason that a person gave, if it prints.

    Raises:
        MalformedInput: more than 500 characters, or one that does not print.
    """
    if len(text) > _MAX_REASON or not text.isprintable():
        raise MalformedInput(f"reason: not printable text of at most {_MAX_REASON} characters")
    return text
