"""Suspensions: one person takes a key from all nodes, or locks another person out, at once and for 72 hours.

A second person who does the same confirms it, and then it stands until people end it together. Otherwise it lapses, and
the lapse is an act.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, TypeAlias

import sqlalchemy as sa
import structlog

from nodeseal.errors import NodesealError, NotFound, OutOfOrder
from nodeseal.ids import KeyId, PersonId
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.fleet.mandate import Mandate
from nodeseal.verifier.ledger.acts import (
    VERIFIER,
    Act,
    KeyResumed,
    KeySuspended,
    KeySuspensionConfirmed,
    PersonResumed,
    PersonSuspended,
    PersonSuspensionConfirmed,
)
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.ledger.restrictions import require_key
from nodeseal.verifier.people.renewals import require_person
from nodeseal.verifier.store.persons import lapsed_persons
from nodeseal.verifier.store.policy import find_key, lapsed_keys

SUSPENSION: Final = timedelta(hours=72)
"""How long one person's suspension lasts, unless a second one confirms it."""
_Decide: TypeAlias = Callable[[sa.Connection], Decided[None]]
_log: Final = structlog.get_logger()


class Suspensions:
    """Suspends keys and people, and ends what has lapsed."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet: Final = fleet

    async def suspend_key(self, key_id: KeyId, reason: str, actor: str) -> None:
        """Take a key from all nodes for a while, or confirm that somebody else did.

        Raises:
            NotFound: there is no such key.
            OutOfOrder: it was revoked, or is suspended for good or by the same person.
            NotRecorded: it is in force, and its record waits for the store.
            Unavailable: the confirmation cannot be recorded now.
        """
        if await self._fleet.store.read_soon(lambda connection: _is_key_suspended(connection, key_id)):
            await self._confirm(actor, lambda connection: _confirming_key(connection, key_id, reason, actor))
        else:
            until = self._fleet.clock.wall() + SUSPENSION
            await self._fleet.restrict(KeySuspended(key_id=key_id, reason=reason, until=until), actor)

    async def suspend_person(self, name: PersonId, reason: str, actor: str) -> None:
        """Lock a person out for a while, or confirm that somebody else did.

        Raises:
            NotFound: there is nobody of that name.
            OutOfOrder: they are suspended for good or by the same person.
            NotRecorded: it is in force, and its record waits for the store.
            Unavailable: the confirmation cannot be recorded now.
        """
        if await self._fleet.store.read_soon(lambda connection: _is_person_suspended(connection, name)):
            await self._confirm(actor, lambda connection: _confirming_person(connection, name, reason, actor))
        else:
            until = self._fleet.clock.wall() + SUSPENSION
            await self._fleet.restrict(PersonSuspended(name=name, reason=reason, until=until), actor)

    async def _confirm(self, actor: str, decide: _Decide) -> None:
        await self._fleet.ledger.commit(actor, decide)

    async def resume_key(self, key_id: KeyId, by: Mandate) -> None:
        """End the suspension of a key.

        Raises:
            PolicyRefused: the mandate does not allow it.
            NotFound: there is no such key.
            OutOfOrder: it was revoked, or is not suspended.
            Unavailable: it cannot be recorded now.
        """

        def decide(connection: sa.Connection) -> Decided[None]:
            require_key(connection, key_id)
            if not _is_key_suspended(connection, key_id):
                raise OutOfOrder(f"key {key_id} is not suspended")
            return Decided(None, (KeyResumed(key_id=key_id, lapsed=False),))

        await self._fleet.ledger.commit(by.actor, by.over(decide))

    async def resume_person(self, name: PersonId, by: Mandate) -> None:
        """End the suspension of a person.

        Raises:
            PolicyRefused: the mandate does not allow it.
            NotFound: there is nobody of that name.
            OutOfOrder: they are not suspended.
            Unavailable: it cannot be recorded now.
        """

        def decide(connection: sa.Connection) -> Decided[None]:
            if not _is_person_suspended(connection, name):
                raise OutOfOrder(f"{name} is not suspended")
            return Decided(None, (PersonResumed(name=name, lapsed=False),))

        await self._fleet.ledger.commit(by.actor, by.over(decide))

    async def lapse(self) -> None:
        """End suspensions whose time has passed."""
        now = self._fleet.clock.wall()

        def lapsed(connection: sa.Connection) -> tuple[Act, ...]:
            return (
                *(KeyResumed(key_id=key_id, lapsed=True) for key_id in lapsed_keys(connection, now)),
                *(PersonResumed(name=name, lapsed=True) for name in lapsed_persons(connection, now)),
            )

        try:
            if await self._fleet.store.read(lapsed):
                await self._fleet.ledger.commit(VERIFIER, lambda connection: Decided(None, lapsed(connection)))
        except NodesealError as error:
            _log.error("suspensions could not lapse yet", error=str(error))


def _is_key_suspended(connection: sa.Connection, key_id: KeyId) -> bool:
    key = find_key(connection, key_id)
    if key is None:
        raise NotFound(f"there is no key {key_id}", remedy="nodeseal key list")
    return key.suspended is not None


def _is_person_suspended(connection: sa.Connection, name: PersonId) -> bool:
    return require_person(connection, name).suspended is not None


def _confirming_key(connection: sa.Connection, key_id: KeyId, reason: str, actor: str) -> Decided[None]:
    require_key(connection, key_id)
    key = find_key(connection, key_id)
    _require_second(key.suspended_by if key else None, key.suspended_until if key else None, f"key {key_id}", actor)
    return Decided(None, (KeySuspensionConfirmed(key_id=key_id, reason=reason),))


def _confirming_person(connection: sa.Connection, name: PersonId, reason: str, actor: str) -> Decided[None]:
    person = require_person(connection, name)
    _require_second(person.suspended_by, person.suspended_until, name, actor)
    return Decided(None, (PersonSuspensionConfirmed(name=name, reason=reason),))


def _require_second(by: str | None, until: datetime | None, what: str, actor: str) -> None:
    """Make sure that somebody else confirms a suspension that would lapse."""
    if by is None or until is None:
        raise OutOfOrder(f"the suspension of {what} does not lapse, or is over")
    if by == actor:
        remedy = "it takes a second person to make it last"
        raise OutOfOrder(
            f"you have suspended {what} already, until {until.isoformat(timespec='seconds')}", remedy=remedy
        )
