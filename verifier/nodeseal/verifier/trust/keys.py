"""Model keys and their grants: created, granted to nodes and revoked by people."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from nodeseal.causes import EndCause
from nodeseal.crypto.hpke import Suite
from nodeseal.errors import MalformedInput, NotFound, OutOfOrder
from nodeseal.ids import KeyId, NodeId, digest_of
from nodeseal.verifier.fleet.fleet import Fleet, Transaction
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.fleet.transition import drop_leases, record_ends
from nodeseal.verifier.keys.keystore import KeyStore
from nodeseal.verifier.ledger import audit
from nodeseal.verifier.store.leases import LeaseRecord
from nodeseal.verifier.store.policy import (
    KeyRecord,
    add_key,
    find_key,
    grant_key,
    list_keys,
    revoke_key,
    withdraw_grant,
)

MAX_LEASES: Final = 1024
_FIRST_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """Decision to take a key away.

    Attributes:
        key_id: the key.
        node_id: the node that loses its grant; None: the key is revoked for all nodes, for good.
        reason: for the audit log and the nodes.
        actor: who decided, as the audit log spells it.
    """

    key_id: KeyId
    node_id: NodeId | None
    reason: str
    actor: str


class ModelKeys:
    """The model keys of one verifier."""

    def __init__(self, fleet: Fleet, keys: KeyStore) -> None:
        self._fleet: Final = fleet
        self._keys: Final = keys

    async def create(self, key_id: KeyId, suite: Suite, place: str, actor: str) -> KeyRecord:
        """Make a key pair that nobody is granted yet, in the store that ``place`` names.

        Raises:
            MalformedInput: no such store here, or it has no keys of that suite.
            OutOfOrder: there is a key of that name.
            Unavailable: it cannot be made, stored or recorded now.
        """
        await self._fleet.store.read(lambda connection: _refuse_second(connection, key_id))
        held = await asyncio.to_thread(self._keys.create, key_id, _FIRST_VERSION, suite, place)
        at, key = self._fleet.clock.wall(), held.key
        record = KeyRecord(
            key_id=key_id,
            version=key.key_version,
            suite=suite.value,
            public=key.public.raw,
            created=at,
            place=held.place,
        )
        details = {
            "version": record.version,
            "suite": record.suite,
            "public": digest_of(record.public),
            "place": record.place,
        }

        def work(connection: sa.Connection) -> KeyRecord:
            _refuse_second(connection, key_id)
            add_key(connection, record)
            audit.append(connection, _entry("key.created", key_id, actor, at, details))
            return record

        return await self._fleet.transact(lambda: Transaction(work=work, effect=lambda _: None))

    async def grant(self, key_id: KeyId, node_id: NodeId, max_leases: int, actor: str) -> KeyRecord:
        """Let a node hold up to ``max_leases`` leases of a key.

        Raises:
            MalformedInput: not from 1 to 1024 leases.
            NotFound: no such key or node.
            OutOfOrder: the key was revoked.
            Unavailable: it cannot be recorded now.
        """
        if not 1 <= max_leases <= MAX_LEASES:
            raise MalformedInput(f"a grant is for 1 to {MAX_LEASES} leases")
        self._fleet.get(node_id)
        at = self._fleet.clock.wall()

        def work(connection: sa.Connection) -> KeyRecord:
            _require(find_key(connection, key_id), key_id)
            grant_key(connection, key_id, node_id, max_leases)
            details = {"node_id": node_id, "max_leases": max_leases}
            audit.append(connection, _entry("key.granted", key_id, actor, at, details))
            return _require(find_key(connection, key_id), key_id)

        return await self._fleet.transact(lambda: Transaction(work=work, effect=lambda _: None))

    async def revoke(self, revocation: Revocation) -> KeyRecord:
        """Take a key from one node or from all; running leases end and the nodes are told at once.

        Raises:
            NotFound: no such key, or the node has no grant of it.
            OutOfOrder: the key was revoked before.
            Unavailable: it cannot be recorded now.
        """
        return await self._fleet.transact(lambda: self._revocation(revocation))

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
        record = await self._fleet.store.read(lambda connection: find_key(connection, key_id))
        if record is None:
            raise NotFound(f"there is no key {key_id}", remedy="nodeseal key list")
        return record

    def _revocation(self, revocation: Revocation) -> Transaction[KeyRecord]:
        key_id, at = revocation.key_id, self._fleet.clock.wall()
        ended = [(node, self._held(node, key_id)) for node in self._affected(revocation.node_id)]
        reason = f"key {key_id} revoked: {revocation.reason}"

        def work(connection: sa.Connection) -> KeyRecord:
            before = _require(find_key(connection, key_id), key_id)
            if revocation.node_id is None:
                revoke_key(connection, key_id, at)
            elif not withdraw_grant(connection, key_id, revocation.node_id):
                raise NotFound(f"key {key_id} is not granted to {revocation.node_id}", remedy="nodeseal key show")
            details = {"node_id": revocation.node_id or "", "reason": revocation.reason}
            audit.append(connection, _entry("key.revoked", key_id, revocation.actor, at, details))
            for _, leases in ended:
                record_ends(connection, leases, revocation.actor, reason, at)
            after = find_key(connection, key_id)
            return after if after is not None else replace(before, revoked=at)

        def effect(_: KeyRecord) -> None:
            for node, leases in ended:
                drop_leases(node, leases, reason, EndCause.REVOCATION)

        return Transaction(work=work, effect=effect)

    def _affected(self, node_id: NodeId | None) -> Sequence[Node]:
        return tuple(self._fleet) if node_id is None else (self._fleet.get(node_id),)

    def _held(self, node: Node, key_id: KeyId) -> tuple[LeaseRecord, ...]:
        return tuple(lease for lease in node.leases.values() if lease.key_id == key_id)


def _refuse_second(connection: sa.Connection, key_id: KeyId) -> None:
    if find_key(connection, key_id) is not None:
        remedy = f"choose another name, or take its public half: nodeseal key show {key_id} --public FILE"
        raise OutOfOrder(f"there is a key {key_id} already", remedy=remedy)


def _require(record: KeyRecord | None, key_id: KeyId) -> KeyRecord:
    if record is None:
        raise NotFound(f"there is no key {key_id}", remedy="nodeseal key list")
    if record.revoked is not None:
        raise OutOfOrder(f"key {key_id} was revoked")
    return record


def _entry(action: str, key_id: KeyId, actor: str, at: datetime, details: Mapping[str, object]) -> audit.Record:
    return audit.Record(time=at, actor=actor, action=action, subject=f"key/{key_id}", details=details)
