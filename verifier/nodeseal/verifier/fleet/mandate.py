"""On whose authority something is done: one person alone, or several by a proposal. Checked in the transaction.

Whatever widens trust goes through a mandate. It looks at the rules on the rows of the moment, so a change of rules and
an act under the old ones cannot pass each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import sqlalchemy as sa

from nodeseal.errors import PolicyRefused
from nodeseal.findings import Finding, FindingId
from nodeseal.governance.changes import SHAPES, ChangeKind
from nodeseal.governance.rules import Rules
from nodeseal.ids import Digest
from nodeseal.verifier.ledger.acts import ALONE, Act, Widening
from nodeseal.verifier.ledger.decided import Decide, Decided
from nodeseal.verifier.ledger.documents import Document
from nodeseal.verifier.store.governance import current_rules

T = TypeVar("T")


class Sanction(NamedTuple):
    """What allows an act.

    Attributes:
        approvals: digest of the document that the act carries; empty: one person may decide it alone.
        acts: what is recorded with it.
        documents: what those name.
    """

    approvals: Digest = ALONE
    acts: tuple[Act, ...] = ()
    documents: tuple[Document, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mandate:
    """The authority for one act.

    Attributes:
        actor: who decided, as the log spells it.
        allow: says on the rows of the moment what allows it, and raises a refusal if nothing does. It is told what
            comes of the act, where more comes of it than its rows.
    """

    actor: str
    allow: Callable[[sa.Connection, bytes], Sanction]

    def over(self, decide: Decide[T], result: bytes = b"") -> Decide[T]:
        """Return a decision that is made only if this mandate allows it, and whose acts carry the approvals."""

        def whole(connection: sa.Connection) -> Decided[T]:
            sanction = self.allow(connection, result)
            decided = decide(connection)
            acts = tuple(_carrying(act, sanction.approvals) for act in decided.acts)
            return replace(decided, acts=(*acts, *sanction.acts), documents=(*decided.documents, *sanction.documents))

        return whole


def _carrying(act: Act, approvals: Digest) -> Act:
    return replace(act, approvals=approvals) if isinstance(act, Widening) else act


def alone(actor: str, kind: ChangeKind) -> Mandate:
    """Return the mandate of one person, who may do what the rules in force leave to one person."""

    def allow(connection: sa.Connection, _result: bytes) -> Sanction:
        require_alone(current_rules(connection), kind)
        return Sanction()

    return Mandate(actor=actor, allow=allow)


def require_alone(rules: Rules, kind: ChangeKind) -> None:
    """Make sure that rules leave a change to one person.

    Raises:
        PolicyRefused: ``person.quorum``: they want a proposal; the finding names the command.
    """
    if rules.governs(kind):
        command = f"{SHAPES[kind].command} --reason WHY"
        raise PolicyRefused(
            Finding(id=FindingId.PERSON_QUORUM, expected=f"a proposal: {command}", seen="one person", where=kind.value)
        )
