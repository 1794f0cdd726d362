"""Rules in force, and how they change: under the old and the new quorum, never to some that nobody can meet."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import sqlalchemy as sa

from nodeseal.causes import EndCause
from nodeseal.errors import OutOfOrder
from nodeseal.governance.quorum import hazards, reaches
from nodeseal.governance.rules import SOLO, Rules, decode_rules, solo
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.fleet.mandate import Mandate
from nodeseal.verifier.ledger.acts import VERIFIER, RulesSet
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.ledger.documents import document_of
from nodeseal.verifier.ledger.leaf import MacKey
from nodeseal.verifier.ledger.log import record_alone
from nodeseal.verifier.ledger.restrictions import lease_ends
from nodeseal.verifier.store.governance import current_rules, has_rules, members
from nodeseal.verifier.store.leases import running_leases

_RECOVERED: Final = "the rules were recovered on the verifier's host"


class Rulebook:
    """The rules of one verifier."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet: Final = fleet

    @property
    def words(self) -> str:
        """The rules in force in one sentence."""
        return self._fleet.memory.rules.words

    async def read(self) -> tuple[Rules, tuple[str, ...]]:
        """Return the rules in force, and warnings about them.

        Raises:
            Unavailable: the store cannot be asked now.
        """
        return await self._fleet.store.read(_with_hazards)

    async def replace(self, document: bytes, by: Mandate) -> None:
        """Put other rules in force.

        Raises:
            MalformedInput: they do not parse.
            PolicyRefused: the mandate does not allow it.
            OutOfOrder: their version is not the next one, or nobody could meet them.
            Unavailable: it cannot be recorded now.
        """
        rules = decode_rules(document, "rules")
        await self._fleet.ledger.commit(by.actor, by.over(lambda connection: _replacing(connection, rules)))


def _with_hazards(connection: sa.Connection) -> tuple[Rules, tuple[str, ...]]:
    rules = current_rules(connection)
    return rules, hazards(rules, members(connection))


def _replacing(connection: sa.Connection, rules: Rules) -> Decided[None]:
    require_usable(connection, rules)
    return setting(rules, recovery=False)


def require_usable(connection: sa.Connection, rules: Rules) -> None:
    """Make sure that rules can follow those in force.

    Raises:
        OutOfOrder: their version is not the next one, or nobody could meet them.
    """
    expected = current_rules(connection).version + 1
    if rules.version != expected:
        raise OutOfOrder(f"the rules have version {rules.version}, not {expected}", remedy=f"write version: {expected}")
    if not reaches(rules, members(connection)):
        remedy = "add people with the role approver, and their SSH keys, first: nodeseal person list"
        raise OutOfOrder("nobody could meet these rules, not even to change them", remedy=remedy)


def setting(rules: Rules, *, recovery: bool) -> Decided[None]:
    """Return the decision that rules are in force."""
    document = document_of(rules.encode())
    act = RulesSet(version=rules.version, rules=document.digest, summary=rules.words[:500], recovery=recovery)
    return Decided(None, (act,), (document,))


def set_first_rules(engine: sa.Engine, mac_key: MacKey, at: datetime) -> None:
    """Record that the rule *solo* is in force, in a log that tells of no rules yet.

    Raises:
        Unavailable: the database cannot be written.
    """

    def decide(connection: sa.Connection) -> Decided[None]:
        return Decided(None) if has_rules(connection) else setting(SOLO, recovery=False)

    record_alone(engine, mac_key, VERIFIER, at, decide)


def recover_rules(engine: sa.Engine, mac_key: MacKey, actor: str, at: datetime) -> tuple[Rules, int]:
    """Put the rule *solo* in force, on the stopped host, and end all leases; return it and how many ended.

    Raises:
        Unavailable: the database cannot be written.
    """

    def decide(connection: sa.Connection) -> Decided[tuple[Rules, int]]:
        rules = solo(current_rules(connection).version + 1)
        decided = setting(rules, recovery=True)
        ended = tuple(lease_ends(running_leases(connection), EndCause.DISTRUST, _RECOVERED))
        return Decided((rules, len(ended)), (*decided.acts, *ended), decided.documents)

    return record_alone(engine, mac_key, actor, at, decide)
