"""Model keys and their grants: created, granted to nodes and revoked by people."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from nodeseal.crypto.hpke import Suite
from nodeseal.errors import MalformedInput, NotFound, OutOfOrder, Unavailable
from nodeseal.governance.changes import ChangeKind
from nodeseal.ids import KeyId, NodeId
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.fleet.mandate import Mandate, require_alone
from nodeseal.verifier.keys.keystore import KeyStore
from nodeseal.verifier.ledger.acts import GrantWithdrawn, KeyCreated, KeyGranted, KeyPolicySet, KeyRevoked
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.ledger.restrictions import ended_by, require_key, require_revocable
from nodeseal.verifier.store.policy import KeyRecord, find_key, find_key_with_grants, list_keys

MAX_LEASES: Final = 1024
MAX_SILENCE_SECONDS: Final = 24 * 3600
"""The longest time for which leases survive silence: a day."""
_FIRST_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """Decision to take a key away.

    Attributes:
        key_id: the key.
        node_id: the node that loses its grant; None: the key is revoked for all nodes, for good.
        reason: for the log and the nodes.
        actor: who decided, as the log spells it.
    """

    key_id: KeyId
    node_id: NodeId | None
    reason: str
    actor: str

    @property
    def act(self) -> KeyRevoked | GrantWithdrawn:
        """What is recorded."""
        if self.node_id is None:
            return KeyRevoked(key_id=self.key_id, reason=self.reason)
        return GrantWithdrawn(key_id=self.key_id, node_id=self.node_id, reason=self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A model key to make.

    Attributes:
        key_id: its name.
        suite: its HPKE suite.
        place: the store that makes it.
        silence_seconds: how long its leases survive silence of the verifier.
    """

    key_id: KeyId
    suite: Suite
    place: str
    silence_seconds: int = 0


class ModelKeys:
    """The model keys of one verifier."""

    def __init__(self, fleet: Fleet, keys: KeyStore) -> None:
        self._fleet: Final = fleet
        self._keys: Final = keys

    async def create(self, new: NewKey, by: Mandate) -> KeyRecord:
        """Make a key pair that nobody is granted yet, in the store that ``new`` names.

        Raises:
            MalformedInput: no such store here, it has no keys of that suite, or silence is longer than a day.
            PolicyRefused: the mandate does not allow it.
            OutOfOrder: there is a key of that name.
            Unavailable: it cannot be made, stored or recorded now.
        """
        _refuse_long(new.silence_seconds)
        await self._fleet.store.read(lambda connection: _refuse_second(connection, new.key_id))
        await self._fleet.store.read(lambda connection: by.allow(connection, b""))  # before there is a key pair
        held = await asyncio.to_thread(self._keys.create, new.key_id, _FIRST_VERSION, new.suite, new.place)
        act = KeyCreated(
            key_id=new.key_id,
            key_version=held.key.key_version,
            suite=new.suite.value,
            public=held.key.public.raw,
            place=held.place,
            silence_seconds=new.silence_seconds,
        )

        def decide(connection: sa.Connection) -> Decided[None]:
            _refuse_second(connection, new.key_id)
            return Decided(None, (act,))

        await self._fleet.ledger.commit(by.actor, by.over(decide))
        return await self.get(new.key_id)

    async def set_silence(self, key_id: KeyId, seconds: int, by: Mandate) -> KeyRecord:
        """Set how long leases of a key that start from now on survive silence of the verifier.

        Raises:
            MalformedInput: longer than a day.
            PolicyRefused: the mandate does not allow it.
            NotFound: no such key.
            OutOfOrder: the key was revoked.
            Unavailable: it cannot be recorded now.
        """
        _refuse_long(seconds)

        def decide(connection: sa.Connection) -> Decided[None]:
            require_key(connection, key_id)
            return Decided(None, (KeyPolicySet(key_id=key_id, silence_seconds=seconds),))

        await self._fleet.ledger.commit(by.actor, by.over(decide))
        return await self.get(key_id)

    async def grant(self, key_id: KeyId, node_id: NodeId, max_leases: int, by: Mandate) -> KeyRecord:
        """Let a node hold up to ``max_leases`` leases of a key.

        Raises:
            MalformedInput: not from 1 to 1024 leases.
            PolicyRefused: the mandate does not allow it.
            NotFound: no such key or node.
            OutOfOrder: the key was revoked.
            Unavailable: it cannot be recorded now.
        """
        if not 1 <= max_leases <= MAX_LEASES:
            raise MalformedInput(f"a grant is for 1 to {MAX_LEASES} leases")
        self._fleet.get(node_id)

        def decide(connection: sa.Connection) -> Decided[None]:
            require_key(connection, key_id)
            return Decided(None, (KeyGranted(key_id=key_id, node_id=node_id, max_leases=max_leases),))

        await self._fleet.ledger.commit(by.actor, by.over(decide))
        return await self.get(key_id)

    async def revoke(self, revocation: Revocation) -> KeyRecord:
        """Take a key from one node or from all; running leases end and the nodes are told at once.

        Raises:
            PolicyRefused: the rules want a proposal for a revocation for good.
            NotFound: no such key, or the node has no grant of it.
            OutOfOrder: the key was revoked before.
            NotRecorded: it is in force, and its record waits for the store.
            Unavailable: the store cannot be asked now, and memory knows no such key in force.
        """
        act = revocation.act
        if revocation.node_id is None:
            require_alone(self._fleet.memory.rules, ChangeKind.KEY_REVOKE)
        try:
            await self._fleet.store.read_soon(lambda connection: require_revocable(connection, act))
        except Unavailable:  # whether a node has a grant is found out when it is recorded
            if act.key_id not in self._fleet.memory.keys:
                raise
        await self._fleet.restrict(act, revocation.actor)
        return await self.get(revocation.key_id)

    async def revoke_together(self, key_id: KeyId, reason: str, by: Mandate) -> None:
        """Take a key from all nodes for good, by a proposal.

        Raises:
            PolicyRefused: the mandate does not allow it.
            NotFound: no such key.
            OutOfOrder: the key was revoked before.
            Unavailable: it cannot be recorded now.
        """
        act = KeyRevoked(key_id=key_id, reason=reason)

        def decide(connection: sa.Connection) -> Decided[None]:
            require_revocable(connection, act)
            return Decided(None, (act, *ended_by(connection, act)))

        await self._fleet.ledger.commit(by.actor, by.over(decide))

    async def list(self) -> Sequence[KeyRecord]:
        """Return all keys by id.

        Raises:
            Unavailable: the store cannot be asked now.
        """
        return await self._fleet.store.read(list_keys)

    async def get(self, key_id: KeyId) -> KeyRecord:
        """Return a key.

        Raises:
            NotFound: there is none of that name.
            Unavailable: the store cannot be asked now.
        """
        record = await self._fleet.store.read(lambda connection: find_key_with_grants(connection, key_id))
        if record is None:
            raise NotFound(f"there is no key {key_id}", remedy="nodeseal key list")
        return record


def _refuse_second(connection: sa.Connection, key_id: KeyId) -> None:
    if find_key(connection, key_id) is not None:
        remedy = f"choose another name, or take its public half: nodeseal key show {key_id} --public FILE"
        raise OutOfOrder(f"there is a key {key_id} already", remedy=remedy)


def _refuse_long(seconds: int) -> None:
    if not 0 <= seconds <= MAX_SILENCE_SECONDS:
        raise MalformedInput(f"silence of 0 to {MAX_SILENCE_SECONDS} seconds")
