"""Why leases end by force: the cause decides which of them end (DESIGN §7)."""

from __future__ import annotations

from enum import Enum


class EndCause(Enum):
    """Cause of a forced end. A lease that its loaders gave back ends without one."""

    DISTRUST = "distrust"
    """The verifier does not trust the node: all its leases end."""
    SILENCE = "silence"
    """T passed without a good round: leases end, except those whose key lets them survive that for a while."""
    REVOCATION = "revocation"
    """A person took a key or grant away, or the verifier knows no such lease: the leases concerned end."""
