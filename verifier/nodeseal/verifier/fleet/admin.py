"""Decisions of people about nodes: admit, label, quarantine, retire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa

from nodeseal.errors import MalformedInput, OutOfOrder
from nodeseal.ids import NodeId, parse_labels, parse_name
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.fleet.mandate import Mandate
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.ledger.acts import NodeAdmitted, NodeLabelled, NodeQuarantined, NodeRetired
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.ledger.documents import labels_document
from nodeseal.verifier.ledger.restrictions import require_node
from nodeseal.verifier.states import NodeState

_MAX_REASON: Final = 500
_ADMISSIBLE: Final = frozenset({NodeState.PENDING, NodeState.QUARANTINED})


class NodeAdmin:
    """Decisions of people about nodes."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet: Final = fleet

    async def admit(self, node_id: NodeId, by: Mandate) -> Node:
        """Admit a pending node, or lift a quarantine; the node is challenged at once.

        After a quarantine the node starts without a baseline: a person has looked at why its clock ran backwards.

        Raises:
            PolicyRefused: the mandate does not allow it.
            NotFound: it is not enrolled.
            OutOfOrder: it is neither pending nor quarantined.
            Unavailable: it cannot be recorded now.
        """
        node = self._fleet.get(node_id)

        def decide(connection: sa.Connection) -> Decided[None]:
            before = require_node(connection, node_id).standing.state
            if before not in _ADMISSIBLE:
                raise OutOfOrder(f"{node_id} is {before.value}, neither pending nor quarantined")
            forget = before is NodeState.QUARANTINED
            return Decided(None, (NodeAdmitted(node_id=node_id, before=before, forget_clock=forget),))

        await self._fleet.ledger.commit(by.actor, by.over(decide))
        return node

    async def label(self, node_id: NodeId, changes: Mapping[str, str], by: Mandate) -> Node:
        """Change labels of a node, where an empty text removes a label. The node is judged again at once.

        Raises:
            NotFound: it is not enrolled.
            PolicyRefused: the mandate does not allow it.
            MalformedInput: a label is no name, or there are too many.
            Unavailable: it cannot be recorded now.
        """
        node = self._fleet.get(node_id)

        def decide(connection: sa.Connection) -> Decided[None]:
            known = require_node(connection, node_id).record.labels
            before, after = labels_document(known), labels_document(_with_changes(known, changes))
            act = NodeLabelled(node_id=node_id, labels=after.digest, previous=before.digest)
            return Decided(None, (act,), (before, after))

        await self._fleet.ledger.commit(by.actor, by.over(decide))
        return node

    async def quarantine(self, node_id: NodeId, reason: str, actor: str) -> Node:
        """Take trust and leases from a node until somebody admits it again.

        Raises:
            NotFound: it is not enrolled.
            OutOfOrder: it was retired.
            MalformedInput: the reason does not print or is too long.
            NotRecorded: it is in force, and its record waits for the store.
        """
        node = self._in_service(node_id)
        await self._fleet.restrict(NodeQuarantined(node_id=node_id, reason=parse_reason(reason)), actor)
        return node

    async def retire(self, node_id: NodeId, reason: str, actor: str) -> Node:
        """Take a node out of service for good: it cannot enrol again.

        Raises:
            NotFound: it is not enrolled.
            OutOfOrder: it was retired before.
            MalformedInput: the reason does not print or is too long.
            NotRecorded: it is in force, and its record waits for the store.
        """
        node = self._in_service(node_id)
        await self._fleet.restrict(NodeRetired(node_id=node_id, reason=parse_reason(reason)), actor)
        return node

    def _in_service(self, node_id: NodeId) -> Node:
        node = self._fleet.get(node_id)
        if node.state is NodeState.RETIRED:
            raise OutOfOrder(f"{node_id} was retired")
        return node


def _with_changes(labels: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    for label in changes:
        parse_name(label, "label")
    return parse_labels({label: value for label, value in {**labels, **changes}.items() if value})


def parse_reason(text: str) -> str:
    """Return the reason that a person gave, if it prints.

    Raises:
        MalformedInput: more than 500 bytes of UTF-8, or a character that does not print.
    """
    if not text.isprintable() or len(text.encode()) > _MAX_REASON:
        raise MalformedInput(f"reason: not printable text of at most {_MAX_REASON} bytes")
    return text
