"""A change of a node, as a value: its next standing, and the leases that end with it."""

from __future__ import annotations

from dataclasses import dataclass

from nodeseal.golden.model import Golden
from nodeseal.verifier.ledger import audit
from nodeseal.verifier.states import NodeState
from nodeseal.verifier.store.leases import LeaseRecord
from nodeseal.verifier.store.nodes import NodeStanding

STICKY = frozenset({NodeState.PENDING, NodeState.QUARANTINED, NodeState.RETIRED})
"""States that only a person ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of a node that was decided and not yet recorded.

    Attributes:
        standing: the new one.
        actor: who decided.
        ended: leases that end with it.
        end_reason: why they end.
        trusted_until_steady: end of trust on the steady clock.
        goldens: the goldens it matched.
    """

    standing: NodeStanding
    actor: str = audit.VERIFIER
    ended: tuple[LeaseRecord, ...] = ()
    end_reason: str = ""
    trusted_until_steady: float = 0.0
    goldens: tuple[Golden, ...] = ()
