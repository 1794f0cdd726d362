"""Restrictions: acts that take trust away. They are in force before they are recorded.

Each has a decision of its own here, made on the rows of the moment at which it is recorded: which state it leaves, and
which leases end with it. So a restriction that waited in the journal, over a restart too, is recorded like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeAlias, TypeGuard

import sqlalchemy as sa

from nodeseal.causes import EndCause
from nodeseal.errors import NotFound, OutOfOrder
from nodeseal.findings import Finding
from nodeseal.ids import Digest, KeyId, NodeId
from nodeseal.verifier.ledger.acts import (
    VERIFIER,
    Act,
    GoldenRetired,
    GrantWithdrawn,
    KeyRevoked,
    KeySuspended,
    LeaseEnded,
    ModelRetired,
    NodeJudged,
    NodeQuarantined,
    NodeRetired,
    PersonSuspended,
)
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.ledger.documents import Document, codes_of
from nodeseal.verifier.states import STICKY, NodeState
from nodeseal.verifier.store.leases import LeaseRecord, running_leases
from nodeseal.verifier.store.nodes import NodeStanding, StoredNode, find_node
from nodeseal.verifier.store.persons import find_person
from nodeseal.verifier.store.policy import active_digests, find_grant, find_key, find_model

Restricting: TypeAlias = (
    NodeJudged
    | NodeQuarantined
    | NodeRetired
    | KeyRevoked
    | KeySuspended
    | GrantWithdrawn
    | GoldenRetired
    | ModelRetired
    | PersonSuspended
)
"""Acts that take trust away."""
_MAX_REASON: Final = 500
MAX_GOLDENS: Final = 32
"""Goldens that an act names."""


def is_restricting(act: Act) -> TypeGuard[Restricting]:
    """Tell whether an act takes trust away."""
    if isinstance(act, NodeJudged):
        return act.state is not NodeState.TRUSTED
    return isinstance(act, Restricting)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restriction:
    """A restriction that is in force.

    Attributes:
        act: what it takes away.
        actor: who decided.
        at: when.
        salt: of its act; no other has it.
        documents: what the act names by digest.
    """

    act: Restricting
    actor: str
    at: datetime
    salt: bytes = field(repr=False)
    documents: tuple[Document, ...] = ()

    @property
    def of_person(self) -> bool:
        """Whether a person decided it."""
        return self.actor != VERIFIER

    @property
    def by_time(self) -> bool:
        """Whether it says only that a time has passed, which every start finds out by itself."""
        return isinstance(self.act, NodeJudged) and self.act.state is NodeState.STALE


def decide_restriction(connection: sa.Connection, restriction: Restriction) -> Decided[None]:
    """Return what is recorded for a restriction: its act, and the ends of leases that follow from it.

    Raises:
        NotFound: what it restricts does not exist.
        OutOfOrder: it was taken away before.
    """
    act = _DECISIONS[type(restriction.act)](connection, restriction.act)
    if act is None:
        return Decided(None)
    ended = tuple(ended_by(connection, act))
    return Decided(None, (act, *ended), restriction.documents)


def ended_by(connection: sa.Connection, act: Act) -> Iterator[LeaseEnded]:
    """Yield the ends of running leases that follow from a restricting act."""
    ending = ending_of(act)
    if ending is not None:
        running = running_leases(connection, getattr(act, "node_id", None), getattr(act, "key_id", None))
        yield from lease_ends((lease for lease in running if ending.takes(lease)), ending.cause, ending.reason)


class Ending(NamedTuple):
    """The leases that a restricting act ends, in the rows as in memory.

    Attributes:
        cause: of the end.
        reason: for people.
        takes: tells whether a lease of the node and key that the act names ends with it.
    """

    cause: EndCause
    reason: str
    takes: Callable[[LeaseRecord], bool] = lambda _: True


def ending_of(act: Act) -> Ending | None:
    """Return which leases end with an act, and why; None: it ends none."""
    match act:
        case NodeJudged(state=NodeState.STALE):
            return Ending(EndCause.SILENCE, f"stale: {act.reason}", lambda lease: not lease.silence_seconds)
        case NodeJudged():
            return Ending(EndCause.DISTRUST, f"{act.state.value}: {'; '.join(act.codes) or act.reason}")
        case NodeQuarantined() | NodeRetired():
            word = NodeState.RETIRED if isinstance(act, NodeRetired) else NodeState.QUARANTINED
            return Ending(EndCause.DISTRUST, f"{word.value}: {act.reason}")
        case KeyRevoked(key_id=key_id) | GrantWithdrawn(key_id=key_id) | KeySuspended(key_id=key_id):
            what = "suspended" if isinstance(act, KeySuspended) else "revoked"
            reason = f"key {key_id} {what}: {act.reason}"
            return Ending(EndCause.REVOCATION, reason, lambda lease: lease.key_id == key_id)
        case ModelRetired(digest=digest):
            reason = f"model {act.model_id} version {act.model_version} retired: {act.reason}"
            return Ending(EndCause.REVOCATION, reason, lambda lease: lease.model_digest == digest)
    return None


def lease_ends(leases: Iterable[LeaseRecord], cause: EndCause | None, reason: str) -> Iterator[LeaseEnded]:
    """Yield the end of each lease."""
    for lease in leases:
        yield LeaseEnded(
            lease_id=lease.lease_id,
            node_id=lease.node_id,
            key_id=lease.key_id,
            model_digest=lease.model_digest,
            cause=cause,
            reason=reason[:_MAX_REASON],
        )


def judged(
    node_id: NodeId, before: NodeState, after: NodeStanding, codes: tuple[str, ...], findings: Digest
) -> NodeJudged:
    """Return the act that a node stands otherwise; ``findings`` is the digest of their document."""
    return NodeJudged(
        node_id=node_id,
        before=before,
        state=after.state,
        reason=after.reason,
        codes=codes,
        findings=findings,
        goldens=after.goldens[:MAX_GOLDENS],
        trusted_until=after.trusted_until,
    )


def is_news(before: NodeStanding, after: NodeStanding) -> bool:
    """Tell whether a judgement says something new, or only moves the end of trust."""
    return (before.state, before.reason, before.goldens) != (after.state, after.reason, after.goldens) or (
        kinds_of(before.findings) != kinds_of(after.findings)
    )


def kinds_of(findings: Iterable[Finding]) -> set[tuple[str, str]]:
    """Return findings without the values that may differ from round to round."""
    return {(finding.id.code, finding.where) for finding in findings}


def _judged(connection: sa.Connection, act: NodeJudged) -> NodeJudged | None:
    known = require_node(connection, act.node_id).standing
    if known.state is NodeState.RETIRED or (act.state is NodeState.STALE and known.state is not NodeState.TRUSTED):
        return None
    keeps = known.state in STICKY and act.state is not NodeState.QUARANTINED
    state, reason = (known.state, known.reason) if keeps else (act.state, act.reason)
    same = (known.state, known.reason, known.goldens) == (state, reason, act.goldens)
    if same and act.codes == codes_of(known.findings):
        return None
    return replace(act, before=known.state, state=state, reason=reason)


def _node_taken(connection: sa.Connection, act: NodeQuarantined | NodeRetired) -> Act:
    if require_node(connection, act.node_id).standing.state is NodeState.RETIRED:
        raise OutOfOrder(f"{act.node_id} was retired")
    return act


def require_node(connection: sa.Connection, node_id: NodeId) -> StoredNode:
    """Return a node.

    Raises:
        NotFound: it is not enrolled.
    """
    stored = find_node(connection, node_id)
    if stored is None:
        raise NotFound(f"there is no node {node_id}", remedy="nodeseal node list")
    return stored


def require_key(connection: sa.Connection, key_id: KeyId) -> None:
    """Make sure that a key is in force.

    Raises:
        NotFound: there is none of that name.
        OutOfOrder: it was revoked.
    """
    key = find_key(connection, key_id)
    if key is None:
        raise NotFound(f"there is no key {key_id}", remedy="nodeseal key list")
    if key.revoked is not None:
        raise OutOfOrder(f"key {key_id} was revoked")


def require_revocable(connection: sa.Connection, act: KeyRevoked | GrantWithdrawn) -> None:
    """Make sure that there is something to take away.

    Raises:
        NotFound: no such key, or the node has no grant of it.
        OutOfOrder: the key was revoked.
    """
    require_key(connection, act.key_id)
    if isinstance(act, GrantWithdrawn) and find_grant(connection, act.key_id, act.node_id) == 0:
        raise NotFound(f"key {act.key_id} is not granted to {act.node_id}", remedy="nodeseal key show")


def _key_taken(connection: sa.Connection, act: KeyRevoked | GrantWithdrawn) -> Act:
    require_revocable(connection, act)
    return act


def _key_suspended(connection: sa.Connection, act: KeySuspended) -> Act:
    require_key(connection, act.key_id)
    key = find_key(connection, act.key_id)
    if key is not None and key.suspended is not None:
        raise OutOfOrder(f"key {act.key_id} is suspended already")
    return act


def _person_suspended(connection: sa.Connection, act: PersonSuspended) -> Act:
    person = find_person(connection, act.name)
    if person is None or person.removed is not None:
        raise NotFound(f"there is nobody called {act.name}", remedy="nodeseal person list")
    if person.suspended is not None:
        raise OutOfOrder(f"{act.name} is suspended already")
    return act


def _golden_retired(connection: sa.Connection, act: GoldenRetired) -> Act:
    if act.digest not in active_digests(connection):
        raise NotFound(f"no golden {act.digest} is active", remedy="nodeseal golden list")
    return act


def _model_retired(connection: sa.Connection, act: ModelRetired) -> Act:
    model = find_model(connection, act.digest)
    if model is None or model.retired is not None:
        raise NotFound(f"no model {act.digest} is registered", remedy="nodeseal model list")
    return act


_DECISIONS: Final[dict[type[Any], Callable[[sa.Connection, Any], Act | None]]] = {
    NodeJudged: _judged,
    NodeQuarantined: _node_taken,
    NodeRetired: _node_taken,
    KeyRevoked: _key_taken,
    KeySuspended: _key_suspended,
    PersonSuspended: _person_suspended,
    GrantWithdrawn: _key_taken,
    GoldenRetired: _golden_retired,
    ModelRetired: _model_retired,
}
