"""SSH keys that approve: each is one person's, and a key that is added names its person in the log."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from nodeseal.crypto.ssh_key import SshPublicKey, parse_ssh_key
from nodeseal.errors import NotFound, OutOfOrder
from nodeseal.ids import PersonId
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.fleet.mandate import Mandate
from nodeseal.verifier.ledger.acts import PersonKeyAdded, PersonKeyRemoved
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.people.renewals import require_person
from nodeseal.verifier.store.governance import list_person_keys

MAX_KEYS: Final = 16
"""Of one person."""


class SshKeys:
    """Adds and removes SSH keys of people."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet: Final = fleet

    async def add(self, name: PersonId, line: str, by: Mandate) -> None:
        """Let signatures of a key count as a person's approvals.

        Raises:
            MalformedInput: not a line of a ``.pub`` file, or a key that is not accepted.
            PolicyRefused: the mandate does not allow it.
            NotFound: there is nobody of that name.
            OutOfOrder: somebody has this key, or the person has many.
            Unavailable: it cannot be recorded now.
        """
        key = parse_ssh_key(line)
        await self._fleet.ledger.commit(by.actor, by.over(lambda connection: adding_key(connection, name, key)))

    async def remove(self, name: PersonId, fingerprint: str, by: Mandate) -> None:
        """Let signatures of a key not count any more.

        Raises:
            PolicyRefused: the mandate does not allow it.
            NotFound: the person has no such key.
            Unavailable: it cannot be recorded now.
        """

        def decide(connection: sa.Connection) -> Decided[None]:
            if not any((key.name, key.fingerprint) == (name, fingerprint) for key in list_person_keys(connection)):
                raise NotFound(f"{name} has no SSH key {fingerprint}", remedy="nodeseal person list")
            return Decided(None, (PersonKeyRemoved(name=name, fingerprint=fingerprint),))

        await self._fleet.ledger.commit(by.actor, by.over(decide))


def adding_key(connection: sa.Connection, name: PersonId, key: SshPublicKey) -> Decided[None]:
    """Decide that a person gets a key: one that nobody has."""
    require_person(connection, name)
    keys = list_person_keys(connection)
    holder = next((each.name for each in keys if each.blob == key.blob), None)
    if holder is not None:
        raise OutOfOrder(
            f"SSH key {key.fingerprint} is {holder}'s already", remedy="each person signs with a key of theirs"
        )
    if sum(each.name == name for each in keys) >= MAX_KEYS:
        raise OutOfOrder(f"{name} has {MAX_KEYS} SSH keys already")
    act = PersonKeyAdded(name=name, fingerprint=key.fingerprint, blob=key.blob, in_token=key.in_token)
    return Decided(None, (act,))
