"""States of a node and roles of a caller, which every room of the verifier shares."""

from __future__ import annotations

from enum import Enum
from typing import Final


class NodeState(Enum):
    """State of a node, as operators see it (DESIGN §5)."""

    PENDING = "pending"
    """Enrolled; nobody has admitted it yet."""
    TRUSTED = "trusted"
    """The last round was good and its time has not passed."""
    REBOOTING = "rebooting"
    """A new boot was seen and its values have yet to arrive."""
    STALE = "stale"
    """No good round for too long, or none yet since it was admitted."""
    UNTRUSTED = "untrusted"
    """The last evidence failed."""
    QUARANTINED = "quarantined"
    """A person must decide."""
    RETIRED = "retired"
    """Gone for good."""


STICKY: Final = frozenset({NodeState.PENDING, NodeState.QUARANTINED, NodeState.RETIRED})
"""States that only a person ends."""


class Role(Enum):
    """Role of a caller; people hold any number of the last four."""

    ANONYMOUS = "anonymous"
    """Nobody showed a certificate: the enrolment port."""
    NODE = "node"
    """An enrolled node with its current certificate."""
    VIEWER = "viewer"
    """Sees nodes, goldens, keys and models."""
    OPERATOR = "operator"
    """Keeps the fleet running: captures goldens, quarantines, retires, takes away."""
    APPROVER = "approver"
    """Decides what is trusted: admits, activates, creates, grants, registers."""
    AUDITOR = "auditor"
    """Reads the audit log."""


PEOPLE: Final = frozenset({Role.VIEWER, Role.OPERATOR, Role.APPROVER, Role.AUDITOR})
